/*
 * Grant table version 1, one frame: 512 entries, of which a network device with all its buffers takes 194. Free entries are a list;
 * those that were never used are only counted, so that a start touches none of them. No hypercall here: start.c makes it, together
 * with others.
 */
#include "grants.h"
#include "barrier.h"
#include "guest.h"
#include "pages.h"

#define ENTRIES (PAGE_BYTES / sizeof(struct grant_entry_v1))
_Static_assert(sizeof(struct grant_entry_v1) == 8, "grant_table.h");

static struct grant_entry_v1 *table;
static uint16_t free_next[ENTRIES]; /* list of entries that were given back, 0 ends it */
static uint16_t first_free;
static uint16_t never_used, usable_end;

static struct gnttab_setup_table request = {.status = GNTST_general_error};
static xen_pfn_t frame;

struct gnttab_setup_table *grants_request(void) {
  request = (struct gnttab_setup_table){.dom = DOMID_SELF, .nr_frames = 1, .status = GNTST_general_error};
  set_xen_guest_handle(request.frame_list, &frame);
  return &request;
}

unsigned long grants_frame(void) { return request.status == GNTST_okay ? frame : MMU_NO_FRAME; }

void grants_move(void *to) { table = to; }

void grants_init(void) {
  first_free = 0;
  never_used = GNTTAB_NR_RESERVED_ENTRIES;
  usable_end = request.status == GNTST_okay ? ENTRIES : 0;
  if (usable_end == 0) shoal_print("grants: no table (status %d)\n", request.status);
}

static uint16_t take(void) {
  uint16_t reference = first_free;
  if (reference != 0) first_free = free_next[reference];
  else if (never_used < usable_end) reference = never_used++;
  return reference;
}

grant_ref_t grant_access(domid_t to, const void *page, bool readonly) {
  uint16_t reference = take();
  if (reference == 0) return 0;
  table[reference].domid = to;
  table[reference].frame = (uint32_t)mmu_frame_of(page);
  barrier_write(); /* the entry is whole before it is valid */
  *(volatile uint16_t *)&table[reference].flags = (uint16_t)(GTF_permit_access | (readonly ? GTF_readonly : 0));
  return reference;
}

bool grant_end(grant_ref_t reference) {
  if (reference < GNTTAB_NR_RESERVED_ENTRIES || reference >= never_used) return false;
  uint16_t flags = *(volatile uint16_t *)&table[reference].flags;
  do {
    if (flags & (GTF_reading | GTF_writing)) return false;
  } while (!__atomic_compare_exchange_n(&table[reference].flags, &flags, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  free_next[reference] = first_free;
  first_free = (uint16_t)reference;
  return true;
}
