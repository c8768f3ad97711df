/* The calls of control.h that give a domain its memory. */
#include <stdlib.h>
#include <string.h>

#include <xencall.h>
#include <xenctrl.h>

#include "control.h"
#include "control_private.h"

/*
 * Largest extents first: 2 MiB (order 9) is as far as Xen's allocator stays fast when memory is fragmented, and a domain of 4 MiB then costs
 * two allocations instead of 1,024. An order that runs dry falls back to the next smaller one.
 */
int control_populate(struct control *control, uint16_t domid, uint64_t first, uint64_t count, uint64_t *mfns, struct failure *failure)
{
  enum { LARGEST_ORDER = 9, BATCH = 4096 };
  xen_pfn_t *extents = malloc(BATCH * sizeof *extents);
  unsigned order = LARGEST_ORDER;
  uint64_t have = 0;

  if (!extents) return failed(failure, "malloc");
  while (have < count) {
    uint64_t left = (count - have) >> order;
    unsigned asked = left < BATCH ? (unsigned)left : BATCH;
    int given = 0;

    if (asked > 0) {
      for (unsigned i = 0; i < asked; i++) extents[i] = first + have + ((uint64_t)i << order);
      given = xc_domain_populate_physmap(control->xc, domid, asked, order, 0, extents);
      if (given < 0) {
        failed(failure, "xc_domain_populate_physmap");
        free(extents);
        return -1;
      }
      for (int i = 0; i < given; i++)
        for (uint64_t page = 0; page < 1ull << order; page++) mfns[have++] = extents[i] + page;
    }
    if ((unsigned)given == asked && asked == BATCH) continue;
    if (order == 0 && have < count) {
      free(extents);
      return failed_with(failure, "xc_domain_populate_physmap", ENOMEM);
    }
    if (order > 0) order--;
  }
  free(extents);
  return 0;
}

/* By Xen itself: mapping a page and unmapping it again costs a trap each in a PV dom0. */
int control_clear_pages(struct control *control, uint16_t domid, const uint64_t *mfns, uint64_t count, struct failure *failure)
{
  enum { BATCH = 512 };
  struct mmuext_op *operations = xencall_alloc_buffer(control->call, BATCH * sizeof *operations);
  int result = 0;

  if (!operations) return failed(failure, "xencall_alloc_buffer");
  memset(operations, 0, BATCH * sizeof *operations);
  for (uint64_t done = 0, batch; done < count && result == 0; done += batch) {
    batch = count - done < BATCH ? count - done : BATCH;
    for (uint64_t i = 0; i < batch; i++) {
      operations[i].cmd = MMUEXT_CLEAR_PAGE;
      operations[i].arg1.mfn = mfns[done + i];
    }
    if (xencall4(control->call, __HYPERVISOR_mmuext_op, (uintptr_t)operations, batch, 0, domid)) result = failed(failure, "MMUEXT_CLEAR_PAGE");
  }
  xencall_free_buffer(control->call, operations);
  return result;
}
