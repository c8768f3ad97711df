/* The grant table's bookkeeping on a table of the test's own: what is written for the other end, reuse, exhaustion, a new domain. */
#include "check.h"
#include "grants.h"
#include "../platform/xen/guest.h"
#include "pages.h"

#define USABLE (512u - GNTTAB_NR_RESERVED_ENTRIES)

static struct grant_entry_v1 table[512], other[512];

unsigned long mmu_frame_of(const void *page) { return (uintptr_t)page >> 12; }

void shoal_print(const char *format, ...) { (void)format; }

/* As Xen answers GNTTABOP_setup_table. */
static void answer(struct gnttab_setup_table *request, xen_pfn_t frame) {
  CHECK(request->dom == DOMID_SELF && request->nr_frames == 1 && request->status != GNTST_okay);
  *request->frame_list.p = frame;
  request->status = GNTST_okay;
}

static unsigned take_all(void) {
  unsigned count = 0;
  while (grant_access(0, (void *)0x5000, true) != 0) count++;
  return count;
}

int main(void) {
  CHECK(grants_frame() == MMU_NO_FRAME && grant_access(0, (void *)0x5000, false) == 0);
  grants_request();
  grants_init();
  CHECK(grants_frame() == MMU_NO_FRAME && grant_access(0, (void *)0x5000, false) == 0 && !grant_end(8)); /* Xen gave none */

  answer(grants_request(), 77);
  CHECK(grants_frame() == 77);
  grants_move(table);
  grants_init();
  grant_ref_t first = grant_access(3, (void *)0x7000, false), second = grant_access(4, (void *)0x8000, true);
  CHECK(first == GNTTAB_NR_RESERVED_ENTRIES && second == first + 1);
  CHECK(table[first].domid == 3 && table[first].frame == 7 && table[first].flags == GTF_permit_access);
  CHECK(table[second].domid == 4 && table[second].flags == (GTF_permit_access | GTF_readonly));
  CHECK(!grant_end(0) && !grant_end(GNTTAB_NR_RESERVED_ENTRIES - 1) && !grant_end(second + 1) && !grant_end(512));
  table[first].flags |= GTF_reading;
  CHECK(!grant_end(first)); /* the other end has it mapped */
  CHECK(grant_end(second) && table[second].flags == 0);
  CHECK(grant_access(5, (void *)0x9000, false) == second);
  CHECK(take_all() == USABLE - 2);
  CHECK(grant_end(400) && grant_end(20) && grant_access(0, (void *)0x5000, true) == 20 && grant_access(0, (void *)0x5000, true) == 400);

  /* Domain after domain: each has the whole table again, and nothing of the former. */
  for (unsigned round = 0; round < 3000; round++) {
    memset(other, 0, sizeof other);
    answer(grants_request(), round + 1);
    grants_move(other);
    grants_init();
    if (grant_access(1, (void *)0x7000, false) != GNTTAB_NR_RESERVED_ENTRIES || take_all() != USABLE - 1) CHECK(!"all entries");
    if (other[511].flags == 0 || other[0].flags != 0) CHECK(!"the table of this domain");
  }
  CHECK_END();
}
