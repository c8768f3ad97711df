/* Grant table version 1, one frame: 512 entries, of which a network device with all its buffers takes 194. */
#include "grants.h"
#include "barrier.h"
#include "guest.h"
#include "hypercall.h"
#include "pages.h"

#define ENTRIES (PAGE_BYTES / sizeof(struct grant_entry_v1))
_Static_assert(sizeof(struct grant_entry_v1) == 8, "grant_table.h");

static struct grant_entry_v1 *table;
static uint16_t free_next[ENTRIES]; /* list of unused entries, 0 ends it */
static uint16_t first_free;

void grants_init(void) {
  xen_pfn_t frame = 0;
  struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 1};
  set_xen_guest_handle(setup.frame_list, &frame);
  long result = hypercall3(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, (unsigned long)&setup, 1);
  if (result != 0 || setup.status != GNTST_okay) {
    shoal_print("grants: no table (status %d)\n", setup.status);
    return;
  }
  table = mmu_map_frame(frame);
  for (size_t i = ENTRIES - 1; i >= GNTTAB_NR_RESERVED_ENTRIES; i--) {
    free_next[i] = first_free;
    first_free = (uint16_t)i;
  }
}

grant_ref_t grant_access(domid_t to, const void *page, bool readonly) {
  uint16_t reference = first_free;
  if (reference == 0) return 0;
  first_free = free_next[reference];
  table[reference].domid = to;
  table[reference].frame = (uint32_t)mmu_frame_of(page);
  barrier_write(); /* the entry is whole before it is valid */
  *(volatile uint16_t *)&table[reference].flags = (uint16_t)(GTF_permit_access | (readonly ? GTF_readonly : 0));
  return reference;
}

bool grant_end(grant_ref_t reference) {
  if (reference < GNTTAB_NR_RESERVED_ENTRIES || reference >= ENTRIES) return false;
  uint16_t flags = *(volatile uint16_t *)&table[reference].flags;
  do {
    if (flags & (GTF_reading | GTF_writing)) return false;
  } while (!__atomic_compare_exchange_n(&table[reference].flags, &flags, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  free_next[reference] = first_free;
  first_free = (uint16_t)reference;
  return true;
}
