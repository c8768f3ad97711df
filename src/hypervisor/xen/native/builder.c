/* The PV builder; see builder.h for why, layout.h for what goes where. */
#include "builder.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xenforeignmemory.h>

#include <xen/grant_table.h>
#include <xen/xen.h>
#include <xen/io/netif.h>

#include "layout.h"
#include "logger.h"
#include "template.h"

_Static_assert(offsetof(struct start_info, cmd_line) + COMMAND_LINE_BYTES <= WIRING_OFFSET, "the wiring lies behind start_info");

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

struct control *builder_control(struct builder *builder) { return builder->control; }

void *builder_map(struct builder *builder, uint16_t domid, size_t count, const uint64_t *mfns, int writable, struct failure *failure)
{
  int *errors = calloc(count, sizeof *errors);
  void *pages = NULL;

  if (!errors) {
    failed(failure, "calloc");
    return NULL;
  }
  pages = xenforeignmemory_map(builder->memory, domid, writable ? PROT_READ | PROT_WRITE : PROT_READ, count, mfns, errors);
  if (!pages) failed(failure, "xenforeignmemory_map");
  for (size_t i = 0; pages && i < count; i++) {
    if (!errors[i]) continue;
    failed_with(failure, "xenforeignmemory_map", errors[i] < 0 ? -errors[i] : errors[i]);
    xenforeignmemory_unmap(builder->memory, pages, count);
    pages = NULL;
  }
  free(errors);
  return pages;
}

int builder_unmap(struct builder *builder, void *pages, size_t count) { return xenforeignmemory_unmap(builder->memory, pages, count); }

/* Which ring is where: of a wired domain the console's, then two a vif; else the store's and the console's. */
static uint64_t ring_pages(const struct build_request *request) { return request->wired ? 1 + 2 * (uint64_t)request->vif_count : 2; }
static uint64_t console_frame(const struct build_request *request, const struct layout *layout) { return layout->rings + !request->wired; }
static uint64_t tx_frame(const struct layout *layout, unsigned vif) { return layout->rings + 1 + 2 * (uint64_t)vif; }

static void write_start_info(uint8_t *page, const struct layout *layout, const struct build_request *request, uint64_t shared_info_mfn,
                             const struct build_result *result)
{
  struct start_info *info = (struct start_info *)page;

  memcpy(info->magic, "xen-3.0-x86_64", sizeof "xen-3.0-x86_64");
  info->nr_pages = layout->pages;
  info->shared_info = shared_info_mfn << 12;
  if (!request->wired) {
    info->store_mfn = result->store_mfn;
    info->store_evtchn = STORE_PORT;
  }
  info->console.domU.mfn = result->console_mfn;
  info->console.domU.evtchn = CONSOLE_PORT;
  info->pt_base = layout_address(layout, layout->tables);
  info->nr_pt_frames = layout->table_pages;
  info->mfn_list = layout_address(layout, layout->p2m);
}

static void write_wiring(uint8_t *page, const struct layout *layout, const struct build_request *request)
{
  struct wiring *wiring = (struct wiring *)(page + WIRING_OFFSET);

  wiring->magic = WIRING_MAGIC;
  wiring->version = WIRING_VERSION;
  wiring->vif_count = request->vif_count;
  for (unsigned i = 0; i < request->vif_count; i++) {
    wiring->vifs[i] = (struct wiring_vif){
      .handle = request->vif_handles[i],
      .port = FIRST_VIF_PORT + i,
      .tx_frame = (uint32_t)tx_frame(layout, i),
      .rx_frame = (uint32_t)tx_frame(layout, i) + 1,
    };
  }
}

void builder_clear_rings(uint8_t *tx_page, uint8_t *rx_page)
{
  netif_tx_sring_t *tx = (netif_tx_sring_t *)tx_page;
  netif_rx_sring_t *rx = (netif_rx_sring_t *)rx_page;

  memset(tx, 0, PAGE_BYTES);
  memset(rx, 0, PAGE_BYTES);
  tx->req_event = tx->rsp_event = rx->req_event = rx->rsp_event = 1;
}

static void grant_to_dom0(grant_entry_v1_t *entry, uint64_t mfn)
{
  entry->domid = 0;
  entry->frame = (uint32_t)mfn;
  __atomic_store_n(&entry->flags, GTF_permit_access, __ATOMIC_RELEASE);
}

void builder_open_to_dom0(uint8_t *shared_info_page, uint8_t *grant_page, uint64_t console_mfn, uint64_t second_mfn)
{
  struct shared_info *shared_info = (struct shared_info *)shared_info_page;
  grant_entry_v1_t *grants = (grant_entry_v1_t *)grant_page;

  /* Xen made shared_info zeroed and has put the time into it. */
  for (unsigned i = 0; i < XEN_LEGACY_MAX_VCPUS; i++) shared_info->vcpu_info[i].evtchn_upcall_mask = 1;
  grant_to_dom0(&grants[GNTTAB_RESERVED_CONSOLE], console_mfn);
  grant_to_dom0(&grants[GNTTAB_RESERVED_XENSTORE], second_mfn);
}

/* Writes everything the guest finds at its first instruction. `base` maps guest frames [layout->shared_pages, layout->end), then
 * shared_info, then the grants. */
static void lay_in(uint8_t *base, const struct layout *layout, const uint64_t *mfns, const struct build_request *request,
                   uint64_t shared_info_mfn, const struct build_result *result)
{
  uint64_t skipped = layout->shared_pages * PAGE_BYTES;
  uint8_t *shared = base + layout->end * PAGE_BYTES - skipped;
  uint8_t *start_info = base + layout->start_info * PAGE_BYTES - skipped;
  uint8_t *p2m = base + layout->p2m * PAGE_BYTES - skipped;
  uint8_t *rings = base + layout->rings * PAGE_BYTES - skipped;
  size_t own_bytes = request->image_bytes > skipped ? request->image_bytes - skipped : 0;

  if (own_bytes > 0) memcpy(base, request->image + skipped, own_bytes);
  memset(base + own_bytes, 0, layout->image_pages * PAGE_BYTES - skipped - own_bytes);
  memcpy(p2m, mfns, layout->pages * sizeof *mfns);
  memset(p2m + layout->pages * sizeof *mfns, 0, layout->p2m_pages * PAGE_BYTES - layout->pages * sizeof *mfns);
  memset(start_info, 0, (1 + layout->ring_pages) * PAGE_BYTES);
  write_start_info(start_info, layout, request, shared_info_mfn, result);
  if (request->wired) {
    write_wiring(start_info, layout, request);
    for (unsigned i = 0; i < request->vif_count; i++) builder_clear_rings(rings + (1 + 2 * i) * PAGE_BYTES, rings + (2 + 2 * i) * PAGE_BYTES);
  }
  for (uint64_t table = 0; table < layout->table_pages; table++)
    layout_fill_table(layout, mfns, table, (uint64_t *)(void *)(base + (layout->tables + table) * PAGE_BYTES - skipped));
  memset(base + layout->stack * PAGE_BYTES - skipped, 0, PAGE_BYTES);
  builder_open_to_dom0(shared, shared + PAGE_BYTES, result->console_mfn, request->wired ? result->start_info_mfn : result->store_mfn);
}

/* Maps, writes, unmaps: afterwards nothing maps the page tables writable, so that they can be pinned. */
static int fill_memory(struct builder *builder, const struct layout *layout, uint64_t *mfns, const struct build_request *request,
                       uint64_t shared_info_mfn, uint64_t grant_mfn, const struct build_result *result, struct failure *failure)
{
  size_t own = layout->end - layout->shared_pages, count = own + 2;
  uint64_t *frames = malloc(count * sizeof *frames);
  uint8_t *base;

  if (!frames) return failed(failure, "malloc");
  memcpy(frames, mfns + layout->shared_pages, own * sizeof *frames);
  frames[own] = shared_info_mfn;
  frames[own + 1] = grant_mfn;
  base = builder_map(builder, request->domid, count, frames, 1, failure);
  free(frames);
  if (!base) return -1;
  lay_in(base, layout, mfns, request, shared_info_mfn, result);
  return builder_unmap(builder, base, count) ? failed(failure, "xenforeignmemory_unmap") : 0;
}

/* Hooks the template's pages in where the page tables have left room for them. */
static int map_template(struct builder *builder, const struct layout *layout, const uint64_t *mfns, uint16_t domid,
                        const struct template *template, struct failure *failure)
{
  struct table_write writes[TEMPLATE_PAGES_MAX];

  for (uint64_t i = 0; i < layout->shared_pages; i++)
    writes[i] = (struct table_write){ layout_entry_address(layout, mfns, i), layout_read_only(template->mfns[i]) };
  return control_map_others(builder->control, domid, template->domid, writes, layout->shared_pages, failure);
}

static int check_request(const struct build_request *request, struct layout *layout, struct failure *failure)
{
  uint64_t shared_pages = request->template ? request->template->pages : 0, image_end;
  int status;

  if (request->image_memory_bytes % PAGE_BYTES || request->image_bytes > request->image_memory_bytes ||
      (!request->wired && request->vif_count > 0) || request->vif_count > WIRING_VIFS)
    return failed_with(failure, "layout", EINVAL);
  status = layout_compute(layout, request->virt_base, request->memory_pages, request->image_memory_bytes / PAGE_BYTES, shared_pages,
                          ring_pages(request));
  if (status) return failed_with(failure, "layout", status == -2 ? ENOSPC : EINVAL);
  image_end = layout_address(layout, layout->image_pages);
  if (request->entry < request->virt_base || request->entry >= image_end) return failed_with(failure, "layout", EINVAL);
  if (request->has_hypercall_page &&
      (request->hypercall_page % PAGE_BYTES || request->hypercall_page < layout_address(layout, shared_pages) ||
       request->hypercall_page >= image_end))
    return failed_with(failure, "layout", EINVAL);
  return 0;
}

int builder_build(struct builder *builder, const struct build_request *request, struct build_result *result, struct failure *failure)
{
  struct control *control = builder->control;
  uint64_t grant_mfn, l4_mfn, *mfns;
  struct domain_facts facts;
  struct layout layout;
  int status, done = -1;

  memset(result, 0, sizeof *result);
  if (check_request(request, &layout, failure)) return -1;
  status = control_domain(control, request->domid, &facts, failure);
  if (status) return status < 0 ? -1 : failed_with(failure, "xc_domain_getinfolist", ESRCH);
  if (facts.total_pages != 0) return failed_with(failure, "layout", EEXIST); /* built before: its memory is not ours to lay out again */

  mfns = malloc(layout.pages * sizeof *mfns);
  if (!mfns) return failed(failure, "malloc");
  memset(mfns, 0xff, layout.shared_pages * sizeof *mfns); /* no frame of the domain's own */
  if (control_populate(control, request->domid, layout.shared_pages, layout.pages - layout.shared_pages, mfns + layout.shared_pages, failure))
    goto out;
  if (control_grant_frame(control, request->domid, &grant_mfn, failure)) goto out;
  result->console_mfn = mfns[console_frame(request, &layout)];
  result->start_info_mfn = mfns[layout.start_info];
  if (!request->wired) result->store_mfn = mfns[layout.rings];
  for (unsigned i = 0; i < request->vif_count; i++) {
    result->vifs[i].tx_mfn = mfns[tx_frame(&layout, i)];
    result->vifs[i].rx_mfn = mfns[tx_frame(&layout, i) + 1];
  }
  if (fill_memory(builder, &layout, mfns, request, facts.shared_info_mfn, grant_mfn, result, failure)) goto out;
  if (request->has_hypercall_page &&
      control_hypercall_page(control, request->domid, mfns[(request->hypercall_page - request->virt_base) / PAGE_BYTES], failure))
    goto out;
  l4_mfn = mfns[layout.tables];
  if (control_pin_l4(control, request->domid, l4_mfn, failure)) goto out;
  if (request->template && map_template(builder, &layout, mfns, request->domid, request->template, failure)) goto out;
  if (control_set_start(control, request->domid, request->entry, layout_address(&layout, layout.stack + 1),
                        layout_address(&layout, layout.start_info), l4_mfn, failure))
    goto out;
  done = 0;
out:
  free(mfns);
  return done;
}

void builder_write_name(uint8_t *start_info, const struct naming *naming)
{
  struct start_info *info = (struct start_info *)(void *)start_info;
  struct wiring *wiring = (struct wiring *)(void *)(start_info + WIRING_OFFSET);

  strncpy((char *)info->cmd_line, naming->command_line, COMMAND_LINE_BYTES - 1);
  for (unsigned i = 0; i < naming->vif_count && i < WIRING_VIFS; i++) memcpy(wiring->vifs[i].mac, naming->macs[i], sizeof naming->macs[i]);
}

int builder_name(struct builder *builder, uint16_t domid, uint64_t start_info_mfn, const struct naming *naming, struct failure *failure)
{
  uint8_t *page = builder_map(builder, domid, 1, &start_info_mfn, 1, failure);

  if (!page) return -1;
  builder_write_name(page, naming);
  return builder_unmap(builder, page, 1) ? failed(failure, "xenforeignmemory_unmap") : 0;
}
