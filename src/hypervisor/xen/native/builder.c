/* The PV builder; see builder.h for why, layout.h for what goes where. */
#include "builder.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xenforeignmemory.h>

#include <xen/grant_table.h>
#include <xen/xen.h>

#include "layout.h"
#include "logger.h"

struct builder {
  struct control *control;
  xenforeignmemory_handle *memory;
};

struct builder *builder_open(struct control *control, struct failure *failure)
{
  struct builder *builder = calloc(1, sizeof *builder);

  if (!builder) {
    failed(failure, "calloc");
    return NULL;
  }
  builder->control = control;
  builder->memory = xenforeignmemory_open(&quiet_logger, 0);
  if (!builder->memory) {
    failed(failure, "xenforeignmemory_open");
    free(builder);
    return NULL;
  }
  return builder;
}

void builder_close(struct builder *builder)
{
  if (!builder) return;
  xenforeignmemory_close(builder->memory);
  free(builder);
}

static void write_start_info(uint8_t *page, const struct layout *layout, const struct build_request *request, uint64_t shared_info_mfn,
                             const struct build_result *result)
{
  struct start_info *info = (struct start_info *)page;

  memcpy(info->magic, "xen-3.0-x86_64", sizeof "xen-3.0-x86_64");
  info->nr_pages = layout->pages;
  info->shared_info = shared_info_mfn << 12;
  info->store_mfn = result->store_mfn;
  info->store_evtchn = STORE_PORT;
  info->console.domU.mfn = result->console_mfn;
  info->console.domU.evtchn = CONSOLE_PORT;
  info->pt_base = layout_address(layout, layout->tables);
  info->nr_pt_frames = layout->table_pages;
  info->mfn_list = layout_address(layout, layout->p2m);
  memcpy(info->cmd_line, request->command_line, COMMAND_LINE_BYTES);
  info->cmd_line[COMMAND_LINE_BYTES - 1] = 0;
}

/* Grants 0 and 1 let dom0 (and nobody else) reach the console and the store ring without a foreign mapping. */
static void write_grants(uint8_t *page, const struct build_result *result)
{
  grant_entry_v1_t *entries = (grant_entry_v1_t *)page;

  entries[GNTTAB_RESERVED_CONSOLE].domid = 0;
  entries[GNTTAB_RESERVED_CONSOLE].frame = (uint32_t)result->console_mfn;
  entries[GNTTAB_RESERVED_XENSTORE].domid = 0;
  entries[GNTTAB_RESERVED_XENSTORE].frame = (uint32_t)result->store_mfn;
  __atomic_store_n(&entries[GNTTAB_RESERVED_CONSOLE].flags, GTF_permit_access, __ATOMIC_RELEASE);
  __atomic_store_n(&entries[GNTTAB_RESERVED_XENSTORE].flags, GTF_permit_access, __ATOMIC_RELEASE);
}

/* Writes everything the guest finds at its first instruction. `base` maps guest frames [0, layout->end), then shared_info, then the grants. */
static void lay_in(uint8_t *base, const struct layout *layout, const uint64_t *mfns, const struct build_request *request,
                   uint64_t shared_info_mfn, const struct build_result *result)
{
  uint8_t *shared = base + layout->end * PAGE_BYTES;
  struct shared_info *shared_info = (struct shared_info *)shared;

  memcpy(base, request->image, request->image_bytes);
  memset(base + request->image_bytes, 0, layout->image_pages * PAGE_BYTES - request->image_bytes);
  memcpy(base + layout->p2m * PAGE_BYTES, mfns, layout->pages * sizeof *mfns);
  memset(base + layout->p2m * PAGE_BYTES + layout->pages * sizeof *mfns, 0, layout->p2m_pages * PAGE_BYTES - layout->pages * sizeof *mfns);
  memset(base + layout->start_info * PAGE_BYTES, 0, 3 * PAGE_BYTES); /* start_info and both rings */
  write_start_info(base + layout->start_info * PAGE_BYTES, layout, request, shared_info_mfn, result);
  for (uint64_t table = 0; table < layout->table_pages; table++)
    layout_fill_table(layout, mfns, table, (uint64_t *)(void *)(base + (layout->tables + table) * PAGE_BYTES));
  memset(base + layout->stack * PAGE_BYTES, 0, PAGE_BYTES);

  /* Xen made shared_info zeroed and has put the time into it; events stay masked until the guest has a handler. */
  for (unsigned i = 0; i < XEN_LEGACY_MAX_VCPUS; i++) shared_info->vcpu_info[i].evtchn_upcall_mask = 1;
  write_grants(shared + PAGE_BYTES, result);
}

/* Maps, writes, unmaps: afterwards nothing maps the page tables writable, so that they can be pinned. */
static int fill_memory(struct builder *builder, const struct layout *layout, uint64_t *mfns, const struct build_request *request,
                       uint64_t shared_info_mfn, uint64_t grant_mfn, const struct build_result *result, struct failure *failure)
{
  size_t count = layout->end + 2;
  int *errors = calloc(count, sizeof *errors);
  uint64_t *frames = malloc(count * sizeof *frames);
  void *base = NULL;
  int done = -1;

  if (!errors || !frames) {
    failed(failure, "malloc");
    goto out;
  }
  memcpy(frames, mfns, layout->end * sizeof *frames);
  frames[layout->end] = shared_info_mfn;
  frames[layout->end + 1] = grant_mfn;
  base = xenforeignmemory_map(builder->memory, request->domid, PROT_READ | PROT_WRITE, count, frames, errors);
  if (!base) {
    failed(failure, "xenforeignmemory_map");
    goto out;
  }
  for (size_t i = 0; i < count; i++) {
    if (errors[i]) {
      failed_with(failure, "xenforeignmemory_map", errors[i] < 0 ? -errors[i] : errors[i]);
      goto out;
    }
  }
  lay_in(base, layout, mfns, request, shared_info_mfn, result);
  done = 0;
out:
  if (base && xenforeignmemory_unmap(builder->memory, base, count) && done == 0) done = failed(failure, "xenforeignmemory_unmap");
  free(frames);
  free(errors);
  return done;
}

int builder_build(struct builder *builder, const struct build_request *request, struct build_result *result, struct failure *failure)
{
  struct control *control = builder->control;
  uint64_t image_pages = request->image_memory_bytes / PAGE_BYTES;
  uint64_t image_end, grant_mfn, l4_mfn, *mfns;
  struct domain_facts facts;
  struct layout layout;
  int status, done = -1;

  if (request->image_memory_bytes % PAGE_BYTES || request->image_bytes > request->image_memory_bytes)
    return failed_with(failure, "layout", EINVAL);
  status = layout_compute(&layout, request->virt_base, request->memory_pages, image_pages);
  if (status) return failed_with(failure, "layout", status == -2 ? ENOSPC : EINVAL);
  image_end = layout_address(&layout, layout.image_pages);
  if (request->entry < request->virt_base || request->entry >= image_end) return failed_with(failure, "layout", EINVAL);
  if (request->has_hypercall_page &&
      (request->hypercall_page % PAGE_BYTES || request->hypercall_page < request->virt_base || request->hypercall_page >= image_end))
    return failed_with(failure, "layout", EINVAL);

  status = control_domain(control, request->domid, &facts, failure);
  if (status) return status < 0 ? -1 : failed_with(failure, "xc_domain_getinfolist", ESRCH);
  if (facts.total_pages != 0) return failed_with(failure, "layout", EEXIST); /* built before: its memory is not ours to lay out again */

  mfns = malloc(layout.pages * sizeof *mfns);
  if (!mfns) return failed(failure, "malloc");
  if (control_populate(control, request->domid, layout.pages, mfns, failure)) goto out;
  if (control_grant_frame(control, request->domid, &grant_mfn, failure)) goto out;
  result->store_mfn = mfns[layout.store_ring];
  result->console_mfn = mfns[layout.console_ring];
  if (fill_memory(builder, &layout, mfns, request, facts.shared_info_mfn, grant_mfn, result, failure)) goto out;
  if (request->has_hypercall_page) {
    uint64_t frame = (request->hypercall_page - request->virt_base) / PAGE_BYTES;

    if (control_hypercall_page(control, request->domid, mfns[frame], failure)) goto out;
  }
  l4_mfn = mfns[layout.tables];
  if (control_pin_l4(control, request->domid, l4_mfn, failure)) goto out;
  if (control_set_start(control, request->domid, request->entry, layout_address(&layout, layout.stack + 1),
                        layout_address(&layout, layout.start_info), l4_mfn, failure))
    goto out;
  done = 0;
out:
  free(mfns);
  return done;
}
