/* See memory_read.h. */
#include "memory_read.h"

#include <stdlib.h>
#include <string.h>

#include <xen/xen.h>

#include "memory_stream.h"

#define ENTRY_PRESENT 1ull
#define ENTRY_LARGE 0x80ull
#define ENTRY_FRAME 0x000ffffffffff000ull
#define XEN_SLOTS_FIRST 256u
#define XEN_SLOTS_END 272u

struct frame_number {
  uint64_t mfn, frame;
};

/* What a page looked like when it was sent. Whoever makes two pages with the same one loses a change in a guest of his own. */
struct print {
  uint64_t a, b;
};

struct memory_reader {
  struct builder *builder;
  uint16_t domid;
  uint64_t virt_base, pages, shared_pages;
  struct template template; /* pages 0: none */
  struct frame_number *own, *others;
  uint8_t *memory; /* frames [shared_pages, pages), read-only */
  uint8_t *levels; /* 0, or which level of page table the frame is */
  struct print *sent; /* NULL: there is one pass */
  struct cpu_state *cpu;
  struct guest_state state;
  struct shared_place shared[TEMPLATE_PAGES_MAX];
  uint64_t cursor;
};

static int malformed(struct failure *failure) { return failed_with(failure, "memory", EINVAL); }

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

static uint64_t own_frame(const struct memory_reader *reader, uint64_t mfn)
{
  return frame_of(reader->own, reader->pages - reader->shared_pages, mfn);
}

static const uint8_t *page_at(const struct memory_reader *reader, uint64_t frame)
{
  return reader->memory + (frame - reader->shared_pages) * PAGE_BYTES;
}

static int is_xens(uint8_t level, unsigned slot) { return level == 4 && slot >= XEN_SLOTS_FIRST && slot < XEN_SLOTS_END; }

/* Learns which frames are page tables, and where the template's pages are mapped. Each table once: it is known by its level. */
static int walk(struct memory_reader *reader, uint64_t frame, uint8_t level, struct failure *failure)
{
  const uint64_t *entries = (const uint64_t *)(const void *)page_at(reader, frame);

  if (reader->levels[frame] == level) return 0;
  if (reader->levels[frame] != 0) return malformed(failure);
  reader->levels[frame] = level;
  for (unsigned slot = 0; slot < ENTRIES_PER_TABLE; slot++) {
    uint64_t mfn = (entries[slot] & ENTRY_FRAME) >> 12, target, other;

    if (!(entries[slot] & ENTRY_PRESENT) || is_xens(level, slot)) continue;
    target = own_frame(reader, mfn);
    if (target != NO_FRAME) {
      if (level > 1 && ((entries[slot] & ENTRY_LARGE) || walk(reader, target, level - 1, failure))) return malformed(failure);
      continue;
    }
    other = frame_of(reader->others, reader->template.pages, mfn);
    if (level != 1 || other == NO_FRAME) return malformed(failure);
    reader->shared[other] = (struct shared_place){ (uint32_t)frame, slot };
  }
  return 0;
}

static size_t put_table(const struct memory_reader *reader, uint64_t frame, uint8_t *out)
{
  uint8_t level = reader->levels[frame];
  uint64_t head = frame | (uint64_t)(PAGE_TABLE + level) << KIND_SHIFT;

  memcpy(out, &head, sizeof head);
  memcpy(out + 8, page_at(reader, frame), PAGE_BYTES);
  for (unsigned slot = 0; slot < ENTRIES_PER_TABLE; slot++) {
    uint8_t *at = out + 8 + slot * sizeof(uint64_t);
    uint64_t entry, target;

    memcpy(&entry, at, sizeof entry);
    if (!is_xens(level, slot) && !(entry & ENTRY_PRESENT)) continue;
    target = is_xens(level, slot) ? NO_FRAME : own_frame(reader, (entry & ENTRY_FRAME) >> 12);
    entry = target == NO_FRAME ? 0 : (entry & ~ENTRY_FRAME) | target << 12;
    memcpy(at, &entry, sizeof entry);
  }
  return 8 + PAGE_BYTES;
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

/* Maps the guest's memory by its own list of machine frames. */
static int map_memory(struct memory_reader *reader, uint64_t list_address, struct failure *failure)
{
  uint64_t list_pages = list_pages_of(reader->pages), count = reader->pages - reader->shared_pages;
  uint64_t *list_mfns = calloc(list_pages, sizeof *list_mfns), *list = NULL;
  int done = -1;

  if (!list_mfns) return failed(failure, "calloc");
  for (uint64_t i = 0; i < list_pages; i++)
    if (control_translate(builder_control(reader->builder), reader->domid, list_address + i * PAGE_BYTES, &list_mfns[i], failure)) goto out;
  list = builder_map(reader->builder, reader->domid, list_pages, list_mfns, 0, failure);
  if (!list) goto out;
  reader->memory = builder_map(reader->builder, reader->domid, count, list + reader->shared_pages, 0, failure);
  if (!reader->memory) goto out;
  for (uint64_t i = 0; i < count; i++) reader->own[i] = (struct frame_number){ list[reader->shared_pages + i], reader->shared_pages + i };
  qsort(reader->own, count, sizeof *reader->own, by_mfn);
  done = 0;
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

int memory_reader_again(struct memory_reader *reader, struct failure *failure)
{
  struct control *control = builder_control(reader->builder);
  uint64_t start_info_mfn, list_address = 0;
  struct domain_facts facts;
  const uint8_t *bytes;
  int status = control_domain(control, reader->domid, &facts, failure);

  if (status) return status < 0 ? -1 : failed_with(failure, "memory", ESRCH);
  if (!(facts.flags & DOMAIN_SHUTDOWN) || facts.shutdown_reason != SHUTDOWN_REASON_SUSPEND) return failed_with(failure, "memory", EBUSY);
  if (facts.total_pages != reader->pages - reader->shared_pages) return malformed(failure);
  free(reader->cpu);
  reader->cpu = control_read_cpu(control, reader->domid, &start_info_mfn, failure);
  if (!reader->cpu) return -1;
  bytes = builder_map(reader->builder, reader->domid, 1, &start_info_mfn, 0, failure);
  if (!bytes) return -1;
  status = read_start_info(reader, bytes, &list_address, failure);
  builder_unmap(reader->builder, (void *)bytes, 1);
  if (status || (!reader->memory && map_memory(reader, list_address, failure))) return -1;
  reader->state.start_info = own_frame(reader, start_info_mfn);
  memset(reader->levels, 0, reader->pages);
  for (uint64_t i = 0; i < reader->shared_pages; i++) reader->shared[i] = (struct shared_place){ 0, ENTRIES_PER_TABLE };
  if (reader->state.top_table < reader->shared_pages || reader->state.top_table >= reader->pages) return malformed(failure);
  reader->cursor = reader->shared_pages;
  return walk(reader, reader->state.top_table, 4, failure) || check_state(reader, failure) ? -1 : 0;
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
  reader->own = calloc(own + 1, sizeof *reader->own);
  reader->others = calloc(reader->template.pages + 1, sizeof *reader->others);
  reader->sent = passes ? calloc(reader->pages + 1, sizeof *reader->sent) : NULL;
  if (!reader->levels || !reader->own || !reader->others || (passes && !reader->sent)) {
    failed(failure, "calloc");
    goto fail;
  }
  for (uint64_t i = 0; i < reader->template.pages; i++) reader->others[i] = (struct frame_number){ reader->template.mfns[i], i };
  qsort(reader->others, reader->template.pages, sizeof *reader->others, by_mfn);
  if (memory_reader_again(reader, failure)) goto fail;
  return reader;
fail:
  memory_reader_free(reader);
  return NULL;
}

void memory_reader_free(struct memory_reader *reader)
{
  if (!reader) return;
  if (reader->memory) builder_unmap(reader->builder, reader->memory, reader->pages - reader->shared_pages);
  free(reader->cpu);
  free(reader->levels);
  free(reader->own);
  free(reader->others);
  free(reader->sent);
  free(reader);
}

static uint64_t turn(uint64_t sum, uint64_t word)
{
  sum = (sum ^ word) * 0x9e3779b97f4a7c15ull;
  return sum ^ sum >> 29;
}

static struct print print_of(const uint8_t *page)
{
  const uint64_t *words = (const uint64_t *)(const void *)page;
  uint64_t sums[4] = { 1, 2, 3, 4 };

  for (unsigned i = 0; i < PAGE_BYTES / sizeof *words; i += 4)
    for (unsigned lane = 0; lane < 4; lane++) sums[lane] = turn(sums[lane], words[i + lane]);
  return (struct print){ turn(turn(sums[0], sums[1]), sums[2]) | 1, turn(turn(sums[3], sums[0]), sums[2]) };
}

/* Zero pages: {0, 0}, as all are before the first pass, for the other side begins with zeroes. */
static int is_news(struct memory_reader *reader, uint64_t frame, const uint8_t *page, int zero)
{
  struct print print = zero ? (struct print){ 0, 0 } : print_of(page);

  if (reader->sent[frame].a == print.a && reader->sent[frame].b == print.b) return 0;
  reader->sent[frame] = print;
  return 1;
}

size_t memory_reader_piece(struct memory_reader *reader, int running, uint8_t *piece)
{
  size_t length = 0;

  while (reader->cursor < reader->pages && length + 8 + PAGE_BYTES <= PIECE_BYTES_MAX) {
    uint64_t frame = reader->cursor++;
    size_t more;

    if (reader->levels[frame]) {
      if (!running) length += put_table(reader, frame, piece + length);
      continue;
    }
    more = stream_page(piece + length, frame, page_at(reader, frame));
    if (reader->sent ? is_news(reader, frame, piece + length + 8, more == 8) : more > 8) length += more;
  }
  if (length == 0) reader->cursor = reader->shared_pages;
  return length;
}

uint8_t *memory_reader_state(const struct memory_reader *reader, size_t *length, struct failure *failure)
{
  struct guest_state state = reader->state;
  size_t places = reader->shared_pages * sizeof(struct shared_place), cpu_bytes;
  const void *cpu = control_cpu_bytes(reader->cpu, &cpu_bytes);
  uint8_t *bytes = malloc(sizeof state + places + cpu_bytes);

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
