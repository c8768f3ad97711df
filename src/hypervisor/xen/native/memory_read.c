/* See memory_read.h. */
#include "memory_read.h"

#include <stdlib.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/xen.h>

#include "frames.h"
#include "guest_pages.h"
#include "memory_stream.h"
#include "page_print.h"

#define ENTRY_PRESENT 1ull
#define ENTRY_LARGE 0x80ull
#define ENTRY_FRAME 0x000ffffffffff000ull
#define XEN_SLOTS_FIRST 256u
#define XEN_SLOTS_END 272u

struct memory_reader {
  struct builder *builder;
  uint16_t domid;
  uint64_t virt_base, pages, shared_pages;
  struct template template; /* pages 0: none */
  struct guest_pages *own; /* frames [shared_pages, pages); NULL: they are not known yet */
  struct frames *others;   /* the template's */
  uint64_t *wanted;        /* room for all of its own */
  uint8_t *levels; /* 0, or which level of page table the frame is */
  struct print *sent; /* NULL: there is one pass */
  uint64_t map_offset, map_pages; /* where the guest's own map of the pages in use lies; 0 pages: it has none */
  struct cpu_state *cpu; /* NULL: it was not seen suspended yet */
  struct guest_state state;
  struct shared_place shared[TEMPLATE_PAGES_MAX];
  uint64_t cursor;
};

static int malformed(struct failure *failure) { return failed_with(failure, "memory", EINVAL); }

static uint64_t own_pages(const struct memory_reader *reader) { return reader->pages - reader->shared_pages; }

static uint64_t own_frame(const struct memory_reader *reader, uint64_t mfn) { return guest_pages_find(reader->own, mfn); }

static const uint8_t *page_at(const struct memory_reader *reader, uint64_t frame) { return guest_page(reader->own, frame); }

static int is_xens(uint8_t level, unsigned slot) { return level == 4 && slot >= XEN_SLOTS_FIRST && slot < XEN_SLOTS_END; }

/* Learns which frames are page tables, and where the template's pages are mapped. Each table once: it is known by its level. A guest that runs may be
 * changing them, and maps what is Xen's: then nothing is malformed, and what is not understood is left to the look when it is suspended. */
static int walk(struct memory_reader *reader, uint64_t frame, uint8_t level, int running, struct failure *failure)
{
  const uint64_t *entries = (const uint64_t *)(const void *)page_at(reader, frame);

  /* A table in a page that the guest says is free. */
  if (!entries) return running ? 0 : malformed(failure);
  if (reader->levels[frame] == level) return 0;
  if (reader->levels[frame] != 0) return running ? 0 : malformed(failure);
  reader->levels[frame] = level;
  for (unsigned slot = 0; slot < ENTRIES_PER_TABLE; slot++) {
    uint64_t entry = __atomic_load_n(&entries[slot], __ATOMIC_RELAXED), mfn = (entry & ENTRY_FRAME) >> 12, target, other;

    if (!(entry & ENTRY_PRESENT) || is_xens(level, slot)) continue;
    target = own_frame(reader, mfn);
    if (target != NO_FRAME) {
      if (level == 1 || (running && (entry & ENTRY_LARGE))) continue;
      if ((entry & ENTRY_LARGE) || walk(reader, target, level - 1, running, failure)) return malformed(failure);
      continue;
    }
    if (running) continue;
    other = frames_find(reader->others, mfn);
    if (level != 1 || other == NO_FRAME) return malformed(failure);
    reader->shared[other] = (struct shared_place){ (uint32_t)frame, slot };
  }
  return 0;
}

/* Entries of a copy of a table, from machine frames to the guest's. */
static void name_frames(const struct memory_reader *reader, uint8_t level, uint8_t *table)
{
  for (unsigned slot = 0; slot < ENTRIES_PER_TABLE; slot++) {
    uint8_t *at = table + slot * sizeof(uint64_t);
    uint64_t entry, target;

    memcpy(&entry, at, sizeof entry);
    if (!is_xens(level, slot) && !(entry & ENTRY_PRESENT)) continue;
    target = is_xens(level, slot) ? NO_FRAME : own_frame(reader, (entry & ENTRY_FRAME) >> 12);
    entry = target == NO_FRAME ? 0 : (entry & ~ENTRY_FRAME) | target << 12;
    memcpy(at, &entry, sizeof entry);
  }
}

static int map_one(struct memory_reader *reader, uint64_t frame, struct failure *failure) { return guest_pages_map(reader->own, &frame, 1, failure); }

/* The guest's map of its pages in use, where it keeps one. What it says there of pages that it needs is its own loss. */
static int find_map(struct memory_reader *reader, uint64_t start_info_frame, struct failure *failure)
{
  const struct wiring_page *page;
  struct wiring_map map;

  reader->map_pages = 0;
  if (map_one(reader, start_info_frame, failure)) return -1;
  page = (const struct wiring_page *)(const void *)(page_at(reader, start_info_frame) + WIRING_OFFSET);
  memcpy(&map, &page->map, sizeof map);
  if (page->wiring.magic != WIRING_MAGIC || map.magic != WIRING_MAP_MAGIC || map.pages == 0 || map.pages > reader->pages) return 0;
  if (map.offset < reader->shared_pages * PAGE_BYTES || map.offset >= reader->pages * PAGE_BYTES) return 0;
  if ((map.pages + 7) / 8 > reader->pages * PAGE_BYTES - map.offset) return 0;
  for (uint64_t frame = map.offset / PAGE_BYTES; frame <= (map.offset + (map.pages - 1) / 8) / PAGE_BYTES; frame++)
    if (map_one(reader, frame, failure)) return -1;
  reader->map_offset = map.offset;
  reader->map_pages = map.pages;
  return 0;
}

static int is_free(const struct memory_reader *reader, uint64_t frame)
{
  uint64_t at = reader->map_offset + frame / 8;

  return frame < reader->map_pages && !(page_at(reader, at / PAGE_BYTES)[at % PAGE_BYTES] >> (frame % 8) & 1);
}

static int map_used(struct memory_reader *reader, struct failure *failure)
{
  uint64_t count = 0;

  for (uint64_t frame = reader->shared_pages; frame < reader->pages; frame++)
    if (!is_free(reader, frame)) reader->wanted[count++] = frame;
  return guest_pages_map(reader->own, reader->wanted, count, failure);
}

/* What start_info says, checked: all of it was the guest's to write. */
static int read_start_info(struct memory_reader *reader, const uint8_t *bytes, uint64_t *list_address, struct failure *failure)
{
  const struct start_info *info = (const struct start_info *)(const void *)bytes;
  const struct wiring *wiring = (const struct wiring *)(const void *)(bytes + WIRING_OFFSET);
  struct guest_state *state = &reader->state;

  if (memcmp(info->magic, "xen-3.0-x86_64", sizeof "xen-3.0-x86_64")) return malformed(failure);
  *state = (struct guest_state){ .magic = STATE_MAGIC, .version = STATE_VERSION, .pages = reader->pages, .shared_pages = reader->shared_pages };
  state->top_table = (info->pt_base - reader->virt_base) / PAGE_BYTES;
  state->p2m = (info->mfn_list - reader->virt_base) / PAGE_BYTES;
  state->console = info->console.domU.mfn; /* a guest frame by now */
  state->store = NO_FRAME;
  if (info->store_evtchn != 0) {
    state->store = info->store_mfn;
  } else {
    if (wiring->magic != WIRING_MAGIC || wiring->version != WIRING_VERSION || wiring->vif_count > WIRING_VIFS) return malformed(failure);
    state->wiring = *wiring;
    state->wiring.order = WIRING_NOTHING;
  }
  *list_address = info->mfn_list;
  return 0;
}

/* Learns the guest's frames from its own list. */
static int read_list(struct memory_reader *reader, uint64_t list_address, struct failure *failure)
{
  uint64_t list_pages = list_pages_of(reader->pages);
  uint64_t *list_mfns = calloc(list_pages, sizeof *list_mfns), *list = NULL;
  int done = -1;

  if (!list_mfns) return failed(failure, "calloc");
  for (uint64_t i = 0; i < list_pages; i++)
    if (control_translate(builder_control(reader->builder), reader->domid, list_address + i * PAGE_BYTES, &list_mfns[i], failure)) goto out;
  list = builder_map(reader->builder, reader->domid, list_pages, list_mfns, 0, failure);
  if (!list) goto out;
  reader->own = guest_pages_of(reader->builder, reader->domid, list + reader->shared_pages, own_pages(reader), reader->shared_pages, failure);
  done = reader->own ? 0 : -1;
out:
  if (list) builder_unmap(reader->builder, list, list_pages);
  free(list_mfns);
  return done;
}

/* The checks of whoever reads it are those of whoever will write it. */
static int check_state(struct memory_reader *reader, struct failure *failure)
{
  struct parsed_state parsed;
  size_t length;
  uint8_t *bytes;
  int status;

  for (uint64_t i = 0; i < reader->shared_pages; i++)
    if (reader->shared[i].slot == ENTRIES_PER_TABLE) return malformed(failure);
  bytes = memory_reader_state(reader, &length, failure);
  if (!bytes) return -1;
  status = state_parse(bytes, length, reader->pages, reader->shared_pages, reader->state.wiring.vif_count, &parsed);
  free(bytes);
  return status ? malformed(failure) : 0;
}

static void forget_memory(struct memory_reader *reader)
{
  guest_pages_free(reader->own);
  reader->own = NULL;
  reader->map_pages = 0;
}

/* Whether the guest's list of frames is still the one that its memory is known by. */
static int is_list_same(const struct memory_reader *reader, uint64_t list_address)
{
  uint64_t first = (list_address - reader->virt_base) / PAGE_BYTES, at = reader->shared_pages * sizeof(uint64_t);

  if (list_address % PAGE_BYTES || first < reader->shared_pages || first >= reader->pages || list_pages_of(reader->pages) > reader->pages - first) return 0;
  for (uint64_t i = 0; i < own_pages(reader); i++, at += sizeof(uint64_t)) {
    const uint8_t *page = page_at(reader, first + at / PAGE_BYTES);

    if (!page || memcmp(page + at % PAGE_BYTES, &guest_pages_list(reader->own)[i], sizeof(uint64_t))) return 0;
  }
  return 1;
}

/* Of a suspended guest: its start_info read, its memory mapped. What was mapped while it ran is used when it is the same. */
static int look_at_memory(struct memory_reader *reader, uint64_t start_info_mfn, struct failure *failure)
{
  uint64_t frame = reader->own ? own_frame(reader, start_info_mfn) : NO_FRAME, list_address = 0;
  const uint8_t *bytes;
  int status, same = 0;

  if (frame != NO_FRAME) {
    if (map_one(reader, frame, failure) || read_start_info(reader, page_at(reader, frame), &list_address, failure)) return -1;
    same = is_list_same(reader, list_address);
  }
  if (!same) {
    forget_memory(reader);
    bytes = builder_map(reader->builder, reader->domid, 1, &start_info_mfn, 0, failure);
    if (!bytes) return -1;
    status = read_start_info(reader, bytes, &list_address, failure);
    builder_unmap(reader->builder, (void *)bytes, 1);
    if (status || read_list(reader, list_address, failure)) return -1;
    frame = own_frame(reader, start_info_mfn);
    if (frame == NO_FRAME) return malformed(failure);
  }
  reader->state.start_info = frame;
  return find_map(reader, frame, failure) || map_used(reader, failure) ? -1 : 0;
}

int memory_reader_again(struct memory_reader *reader, struct failure *failure)
{
  struct control *control = builder_control(reader->builder);
  struct domain_facts facts;
  uint64_t start_info_mfn;
  int status = control_domain(control, reader->domid, &facts, failure);

  if (status) return status < 0 ? -1 : failed_with(failure, "memory", ESRCH);
  if (!(facts.flags & DOMAIN_SHUTDOWN) || facts.shutdown_reason != SHUTDOWN_REASON_SUSPEND) return failed_with(failure, "memory", EBUSY);
  if (facts.total_pages != own_pages(reader)) return malformed(failure);
  free(reader->cpu);
  reader->cpu = control_read_cpu(control, reader->domid, &start_info_mfn, failure);
  if (!reader->cpu || look_at_memory(reader, start_info_mfn, failure)) return -1;
  memset(reader->levels, 0, reader->pages);
  for (uint64_t i = 0; i < reader->shared_pages; i++) reader->shared[i] = (struct shared_place){ 0, ENTRIES_PER_TABLE };
  if (reader->state.top_table < reader->shared_pages || reader->state.top_table >= reader->pages) return malformed(failure);
  reader->cursor = reader->shared_pages;
  return walk(reader, reader->state.top_table, 4, 0, failure) || check_state(reader, failure) ? -1 : 0;
}

/* What a guest that runs shows of itself in its shared info: where its list of frames and its page tables are. */
static int look_ahead(struct memory_reader *reader, const struct domain_facts *facts, struct failure *failure)
{
  const struct shared_info *shown = builder_map(reader->builder, reader->domid, 1, &facts->shared_info_mfn, 0, failure);
  uint64_t list_address, top_mfn, pages, grant_mfn, start_info_mfn, frame;
  const grant_entry_v1_t *grants;

  if (!shown) return -1;
  list_address = shown->arch.p2m_vaddr;
  top_mfn = xen_cr3_to_pfn(shown->arch.p2m_cr3);
  pages = shown->arch.max_pfn;
  builder_unmap(reader->builder, (void *)shown, 1);
  if (list_address == 0 || pages != reader->pages) return failed_with(failure, "memory", EBUSY);
  if (read_list(reader, list_address, failure)) return -1;
  reader->cursor = reader->shared_pages;
  /* Of a guest that is wired this grant is its start_info. */
  if (control_grant_frame(builder_control(reader->builder), reader->domid, &grant_mfn, failure)) return -1;
  grants = builder_map(reader->builder, reader->domid, 1, &grant_mfn, 0, failure);
  if (!grants) return -1;
  start_info_mfn = grants[GNTTAB_RESERVED_XENSTORE].frame;
  builder_unmap(reader->builder, (void *)grants, 1);
  frame = own_frame(reader, start_info_mfn);
  if ((frame != NO_FRAME && find_map(reader, frame, failure)) || map_used(reader, failure)) return -1;
  frame = own_frame(reader, top_mfn);
  if (reader->sent && frame != NO_FRAME) walk(reader, frame, 4, 1, failure);
  return 0;
}

struct memory_reader *memory_reader_open(struct builder *builder, uint16_t domid, uint64_t virt_base, const struct template *template,
                                         int passes, struct failure *failure)
{
  struct memory_reader *reader = calloc(1, sizeof *reader);
  struct domain_facts facts;
  uint64_t own;
  int status;

  if (!reader) {
    failed(failure, "calloc");
    return NULL;
  }
  *reader = (struct memory_reader){ .builder = builder, .domid = domid, .virt_base = virt_base };
  if (template) reader->template = *template;
  status = control_domain(builder_control(builder), domid, &facts, failure);
  if (status) {
    if (status > 0) failed_with(failure, "memory", ESRCH);
    goto fail;
  }
  own = facts.total_pages;
  reader->shared_pages = reader->template.pages;
  reader->pages = own + reader->shared_pages;
  reader->levels = calloc(reader->pages + 1, 1);
  reader->wanted = calloc(own + 1, sizeof *reader->wanted);
  reader->others = frames_of(reader->template.mfns, reader->template.pages, 0);
  reader->sent = passes ? calloc(reader->pages + 1, sizeof *reader->sent) : NULL;
  if (!reader->levels || !reader->wanted || !reader->others || (passes && !reader->sent)) {
    failed(failure, "calloc");
    goto fail;
  }
  if (facts.flags & DOMAIN_SHUTDOWN ? memory_reader_again(reader, failure) : look_ahead(reader, &facts, failure)) goto fail;
  return reader;
fail:
  memory_reader_free(reader);
  return NULL;
}

void memory_reader_free(struct memory_reader *reader)
{
  if (!reader) return;
  forget_memory(reader);
  free(reader->cpu);
  free(reader->levels);
  free(reader->wanted);
  frames_free(reader->others);
  free(reader->sent);
  free(reader);
}

/* Zero pages (NULL): {0, 0}, as all are before the first pass, for the other side begins with zeroes. The same bytes as a table are another page. */
static int is_news(struct memory_reader *reader, uint64_t frame, const uint8_t *page, uint8_t level)
{
  struct print print = page ? print_of(page) : (struct print){ 0, 0 };

  print.b ^= level;
  if (reader->sent[frame].a == print.a && reader->sent[frame].b == print.b) return 0;
  reader->sent[frame] = print;
  return 1;
}

/* One page into `out`; the number of bytes, 0 when there is nothing to say of it. */
static size_t put_page(struct memory_reader *reader, uint64_t frame, uint8_t *out)
{
  const uint8_t *page = page_at(reader, frame);
  uint8_t level = reader->levels[frame];
  size_t length;

  if (level) {
    length = stream_table(out, frame, level, page);
    if (reader->sent && !is_news(reader, frame, out + 8, level)) return 0;
    name_frames(reader, level, out + 8);
    return length;
  }
  /* In use since it was last looked for what is: the guest runs, and the last pass has it. */
  if (!page && !is_free(reader, frame)) return 0;
  length = !page || is_free(reader, frame) ? stream_zero(out, frame) : stream_page(out, frame, page);
  if (reader->sent) return is_news(reader, frame, length > 8 ? out + 8 : NULL, 0) ? length : 0;
  return length > 8 ? length : 0;
}

size_t memory_reader_piece(struct memory_reader *reader, uint8_t *piece)
{
  size_t length = 0;
  struct failure left_to_the_last;

  /* What came into use meanwhile. */
  if (reader->sent && reader->cursor == reader->shared_pages) map_used(reader, &left_to_the_last);
  while (reader->cursor < reader->pages && length + 8 + PAGE_BYTES <= PIECE_BYTES_MAX) length += put_page(reader, reader->cursor++, piece + length);
  if (length == 0) reader->cursor = reader->shared_pages;
  return length;
}

uint8_t *memory_reader_state(const struct memory_reader *reader, size_t *length, struct failure *failure)
{
  struct guest_state state = reader->state;
  size_t places = reader->shared_pages * sizeof(struct shared_place), cpu_bytes;
  const void *cpu;
  uint8_t *bytes;

  if (!reader->cpu) {
    failed_with(failure, "memory", EBUSY);
    return NULL;
  }
  cpu = control_cpu_bytes(reader->cpu, &cpu_bytes);
  bytes = malloc(sizeof state + places + cpu_bytes);
  if (!bytes) {
    failed(failure, "malloc");
    return NULL;
  }
  state.cpu_bytes = (uint32_t)cpu_bytes;
  memcpy(bytes, &state, sizeof state);
  memcpy(bytes + sizeof state, reader->shared, places);
  memcpy(bytes + sizeof state + places, cpu, cpu_bytes);
  *length = sizeof state + places + cpu_bytes;
  return bytes;
}
