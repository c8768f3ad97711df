/* See snapshot.h. */
#include "snapshot.h"

#include <stdlib.h>
#include <string.h>

#include <xen/grant_table.h>
#include <xen/xen.h>

#include "layout.h"

#define ENTRY_PRESENT 1ull
#define ENTRY_LARGE 0x80ull
#define ENTRY_FRAME 0x000ffffffffff000ull
/* Xen's own part of every L4. */
#define XEN_SLOTS_FIRST 256u
#define XEN_SLOTS_END 272u
#define NO_FRAME (~0ull)

struct frame_number {
  uint64_t mfn, frame;
};

struct snapshot {
  uint64_t pages, shared_pages, start_info, top_table;
  struct template template; /* pages 0: none */
  struct cpu_state *cpu;
  uint8_t *bytes;   /* of frames [shared_pages, pages) */
  uint8_t *levels;  /* 0, or which level of page table the frame is */
  uint64_t p2m;     /* first frame of the list */
  uint64_t console; /* frame of the ring */
  struct wiring wiring;
  /* Where the template's page i is mapped: the frame of the L1, and the entry's number. */
  struct {
    uint64_t table;
    unsigned slot;
  } shared[TEMPLATE_PAGES_MAX];
  /* Only while it is taken. */
  struct frame_number *own, *others;
};

static int malformed(struct failure *failure) { return failed_with(failure, "snapshot", EINVAL); }

static int by_mfn(const void *a, const void *b)
{
  uint64_t x = ((const struct frame_number *)a)->mfn, y = ((const struct frame_number *)b)->mfn;

  return x < y ? -1 : x > y;
}

static uint64_t frame_of(const struct frame_number *numbers, uint64_t count, uint64_t mfn)
{
  const struct frame_number key = { .mfn = mfn };
  const struct frame_number *found = count ? bsearch(&key, numbers, count, sizeof *numbers, by_mfn) : NULL;

  return found ? found->frame : NO_FRAME;
}

static uint8_t *page(const struct snapshot *snapshot, uint64_t frame)
{
  return snapshot->bytes + (frame - snapshot->shared_pages) * PAGE_BYTES;
}

/* Turns the table's entries, and those of all tables below it, from machine frames to guest frames. Each table once: it is known by its level. */
static int name_frames(struct snapshot *snapshot, uint64_t frame, uint8_t level, struct failure *failure)
{
  uint64_t *entries = (uint64_t *)(void *)page(snapshot, frame);

  if (snapshot->levels[frame] == level) return 0;
  if (snapshot->levels[frame] != 0) return malformed(failure);
  snapshot->levels[frame] = level;
  if (level == 4) memset(entries + XEN_SLOTS_FIRST, 0, (XEN_SLOTS_END - XEN_SLOTS_FIRST) * sizeof *entries);
  for (unsigned slot = 0; slot < ENTRIES_PER_TABLE; slot++) {
    uint64_t mfn = (entries[slot] & ENTRY_FRAME) >> 12, target, other;

    if (!(entries[slot] & ENTRY_PRESENT)) continue;
    target = frame_of(snapshot->own, snapshot->pages - snapshot->shared_pages, mfn);
    if (target != NO_FRAME) {
      if (level > 1 && ((entries[slot] & ENTRY_LARGE) || name_frames(snapshot, target, level - 1, failure))) return malformed(failure);
      entries[slot] = (entries[slot] & ~ENTRY_FRAME) | target << 12;
      continue;
    }
    other = frame_of(snapshot->others, snapshot->template.pages, mfn);
    if (level != 1 || other == NO_FRAME) return malformed(failure);
    snapshot->shared[other].table = frame;
    snapshot->shared[other].slot = slot;
    entries[slot] = 0;
  }
  return 0;
}

/* The list of the guest's machine frames, and from it the copy of its pages. */
static int copy_memory(struct builder *builder, struct snapshot *snapshot, uint16_t domid, uint64_t list_address, struct failure *failure)
{
  uint64_t list_pages = (snapshot->pages * sizeof(uint64_t) + PAGE_BYTES - 1) / PAGE_BYTES, count = snapshot->pages - snapshot->shared_pages;
  uint64_t *list_mfns = calloc(list_pages, sizeof *list_mfns);
  uint64_t *list = NULL;
  void *memory = NULL;
  int done = -1;

  if (!list_mfns) return failed(failure, "calloc");
  for (uint64_t i = 0; i < list_pages; i++) {
    if (control_translate(builder_control(builder), domid, list_address + i * PAGE_BYTES, &list_mfns[i], failure)) goto out;
  }
  list = builder_map(builder, domid, list_pages, list_mfns, 0, failure);
  if (!list) goto out;
  memory = builder_map(builder, domid, count, list + snapshot->shared_pages, 0, failure);
  if (!memory) goto out;
  memcpy(snapshot->bytes, memory, count * PAGE_BYTES);
  for (uint64_t i = 0; i < count; i++) snapshot->own[i] = (struct frame_number){ list[snapshot->shared_pages + i], snapshot->shared_pages + i };
  qsort(snapshot->own, count, sizeof *snapshot->own, by_mfn);
  done = 0;
out:
  if (memory) builder_unmap(builder, memory, count);
  if (list) builder_unmap(builder, list, list_pages);
  free(list_mfns);
  return done;
}

/* What start_info says, checked: all of it was the guest's to write. */
static int read_start_info(struct snapshot *snapshot, const uint8_t *bytes, uint64_t virt_base, uint64_t *list_address, struct failure *failure)
{
  const struct start_info *info = (const struct start_info *)bytes;
  const struct wiring *wiring = (const struct wiring *)(bytes + WIRING_OFFSET);

  if (memcmp(info->magic, "xen-3.0-x86_64", sizeof "xen-3.0-x86_64") || wiring->magic != WIRING_MAGIC || wiring->version != WIRING_VERSION ||
      info->store_evtchn != 0 || wiring->vif_count > WIRING_VIFS)
    return malformed(failure);
  snapshot->top_table = (info->pt_base - virt_base) / PAGE_BYTES;
  snapshot->p2m = (info->mfn_list - virt_base) / PAGE_BYTES;
  snapshot->console = info->console.domU.mfn; /* a guest frame by now */
  snapshot->wiring = *wiring;
  snapshot->wiring.order = WIRING_NOTHING;
  *list_address = info->mfn_list;
  return 0;
}

static int inside(const struct snapshot *snapshot, uint64_t frame) { return frame >= snapshot->shared_pages && frame < snapshot->pages; }

static int check_frames(const struct snapshot *snapshot, struct failure *failure)
{
  uint64_t list_pages = (snapshot->pages * sizeof(uint64_t) + PAGE_BYTES - 1) / PAGE_BYTES;
  int good = inside(snapshot, snapshot->top_table) && inside(snapshot, snapshot->console) && inside(snapshot, snapshot->p2m) &&
             inside(snapshot, snapshot->p2m + list_pages - 1) && inside(snapshot, snapshot->start_info);

  for (unsigned i = 0; i < snapshot->wiring.vif_count; i++)
    good = good && inside(snapshot, snapshot->wiring.vifs[i].tx_frame) && inside(snapshot, snapshot->wiring.vifs[i].rx_frame) &&
           snapshot->wiring.vifs[i].port == FIRST_VIF_PORT + i;
  return good ? 0 : malformed(failure);
}

static int take(struct builder *builder, struct snapshot *snapshot, uint16_t domid, uint64_t virt_base, struct failure *failure)
{
  struct control *control = builder_control(builder);
  uint64_t start_info_mfn, list_address, own;
  struct domain_facts facts;
  uint8_t *bytes;
  int status = control_domain(control, domid, &facts, failure);

  if (status) return status < 0 ? -1 : failed_with(failure, "snapshot", ESRCH);
  if (!(facts.flags & DOMAIN_SHUTDOWN) || facts.shutdown_reason != SHUTDOWN_REASON_SUSPEND) return failed_with(failure, "snapshot", EBUSY);
  own = facts.total_pages;
  snapshot->shared_pages = snapshot->template.pages;
  snapshot->pages = own + snapshot->shared_pages;
  snapshot->bytes = malloc(own * PAGE_BYTES);
  snapshot->levels = calloc(snapshot->pages, 1);
  snapshot->own = calloc(own, sizeof *snapshot->own);
  snapshot->others = calloc(snapshot->template.pages + 1, sizeof *snapshot->others);
  if (!snapshot->bytes || !snapshot->levels || !snapshot->own || !snapshot->others) return failed(failure, "malloc");
  for (uint64_t i = 0; i < snapshot->template.pages; i++) snapshot->others[i] = (struct frame_number){ snapshot->template.mfns[i], i };
  qsort(snapshot->others, snapshot->template.pages, sizeof *snapshot->others, by_mfn);

  snapshot->cpu = control_read_cpu(control, domid, &start_info_mfn, failure);
  if (!snapshot->cpu) return -1;
  bytes = builder_map(builder, domid, 1, &start_info_mfn, 0, failure);
  if (!bytes) return -1;
  status = read_start_info(snapshot, bytes, virt_base, &list_address, failure);
  builder_unmap(builder, bytes, 1);
  if (status || copy_memory(builder, snapshot, domid, list_address, failure)) return -1;
  snapshot->start_info = frame_of(snapshot->own, own, start_info_mfn);
  if (check_frames(snapshot, failure)) return -1;
  for (uint64_t i = 0; i < snapshot->template.pages; i++) snapshot->shared[i].table = NO_FRAME;
  if (name_frames(snapshot, snapshot->top_table, 4, failure)) return -1;
  for (uint64_t i = 0; i < snapshot->template.pages; i++)
    if (snapshot->shared[i].table == NO_FRAME) return malformed(failure);
  return 0;
}

struct snapshot *snapshot_take(struct builder *builder, uint16_t domid, uint64_t virt_base, const struct template *template,
                               struct failure *failure)
{
  struct snapshot *snapshot = calloc(1, sizeof *snapshot);

  if (!snapshot) {
    failed(failure, "calloc");
    return NULL;
  }
  if (template) snapshot->template = *template;
  if (take(builder, snapshot, domid, virt_base, failure)) {
    snapshot_free(snapshot);
    return NULL;
  }
  free(snapshot->own);
  free(snapshot->others);
  snapshot->own = snapshot->others = NULL;
  return snapshot;
}

void snapshot_free(struct snapshot *snapshot)
{
  if (!snapshot) return;
  free(snapshot->cpu);
  free(snapshot->bytes);
  free(snapshot->levels);
  free(snapshot->own);
  free(snapshot->others);
  free(snapshot);
}

uint64_t snapshot_pages(const struct snapshot *snapshot) { return snapshot->pages; }
unsigned snapshot_vifs(const struct snapshot *snapshot) { return snapshot->wiring.vif_count; }

/* `base` maps the domain's own pages from frame shared_pages on, then shared_info, then its grants. */
static void lay_in(uint8_t *base, const struct snapshot *snapshot, const uint64_t *mfns, uint64_t shared_info_mfn,
                   const struct build_result *result)
{
  uint64_t first = snapshot->shared_pages, own = snapshot->pages - first;
  struct start_info *info = (struct start_info *)(base + (snapshot->start_info - first) * PAGE_BYTES);

  memcpy(base, snapshot->bytes, own * PAGE_BYTES);
  for (uint64_t frame = first; frame < snapshot->pages; frame++) {
    uint64_t *entries = (uint64_t *)(void *)(base + (frame - first) * PAGE_BYTES);

    if (!snapshot->levels[frame]) continue;
    for (unsigned slot = 0; slot < ENTRIES_PER_TABLE; slot++)
      if (entries[slot] & ENTRY_PRESENT) entries[slot] = (entries[slot] & ~ENTRY_FRAME) | mfns[(entries[slot] & ENTRY_FRAME) >> 12] << 12;
  }
  memcpy(base + (snapshot->p2m - first) * PAGE_BYTES, mfns, snapshot->pages * sizeof *mfns);
  memset(base + (snapshot->console - first) * PAGE_BYTES, 0, PAGE_BYTES);
  info->shared_info = shared_info_mfn << 12;
  info->console.domU.mfn = result->console_mfn;
  info->console.domU.evtchn = CONSOLE_PORT;
  memset(info->cmd_line, 0, COMMAND_LINE_BYTES);
  memcpy((uint8_t *)info + WIRING_OFFSET, &snapshot->wiring, sizeof snapshot->wiring);
  for (unsigned i = 0; i < snapshot->wiring.vif_count; i++)
    builder_clear_rings(base + (snapshot->wiring.vifs[i].tx_frame - first) * PAGE_BYTES,
                        base + (snapshot->wiring.vifs[i].rx_frame - first) * PAGE_BYTES);
  builder_open_to_dom0(base + own * PAGE_BYTES, base + (own + 1) * PAGE_BYTES, result->console_mfn, result->start_info_mfn);
}

int snapshot_build(struct builder *builder, uint16_t domid, const struct snapshot *snapshot, struct build_result *result,
                   struct failure *failure)
{
  struct control *control = builder_control(builder);
  uint64_t first = snapshot->shared_pages, own = snapshot->pages - first, grant_mfn;
  uint64_t *mfns = malloc((snapshot->pages + 2) * sizeof *mfns);
  struct table_write writes[TEMPLATE_PAGES_MAX];
  struct domain_facts facts;
  uint8_t *base;
  int done = -1;

  memset(result, 0, sizeof *result);
  if (!mfns) return failed(failure, "malloc");
  memset(mfns, 0xff, first * sizeof *mfns);
  if (control_domain(control, domid, &facts, failure) || facts.total_pages != 0) {
    failed_with(failure, "snapshot", EEXIST);
    goto out;
  }
  if (control_populate(control, domid, first, own, mfns + first, failure) || control_grant_frame(control, domid, &grant_mfn, failure)) goto out;
  result->console_mfn = mfns[snapshot->console];
  result->start_info_mfn = mfns[snapshot->start_info];
  for (unsigned i = 0; i < snapshot->wiring.vif_count; i++) {
    result->vifs[i].tx_mfn = mfns[snapshot->wiring.vifs[i].tx_frame];
    result->vifs[i].rx_mfn = mfns[snapshot->wiring.vifs[i].rx_frame];
  }
  mfns[snapshot->pages] = facts.shared_info_mfn;
  mfns[snapshot->pages + 1] = grant_mfn;
  base = builder_map(builder, domid, own + 2, mfns + first, 1, failure);
  if (!base) goto out;
  lay_in(base, snapshot, mfns, facts.shared_info_mfn, result);
  if (builder_unmap(builder, base, own + 2)) {
    failed(failure, "xenforeignmemory_unmap");
    goto out;
  }
  if (control_pin_l4(control, domid, mfns[snapshot->top_table], failure)) goto out;
  for (uint64_t i = 0; i < snapshot->template.pages; i++)
    writes[i] = (struct table_write){ (mfns[snapshot->shared[i].table] << 12) + snapshot->shared[i].slot * sizeof(uint64_t),
                                      layout_read_only(snapshot->template.mfns[i]) };
  if (snapshot->template.pages &&
      control_map_others(control, domid, snapshot->template.domid, writes, snapshot->template.pages, failure))
    goto out;
  done = control_write_cpu(control, domid, snapshot->cpu, mfns[snapshot->top_table], result->start_info_mfn, failure);
out:
  free(mfns);
  return done;
}
