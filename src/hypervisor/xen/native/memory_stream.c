/* See memory_stream.h. */
#include "memory_stream.h"

#include <string.h>

#include <xen/xen.h>

#define ENTRY_PRESENT 1ull
#define ENTRY_FRAME 0x000ffffffffff000ull
#define LEVEL_TOP 4u
/* Xen's own part of every L4. */
#define XEN_SLOTS_FIRST 256u
#define XEN_SLOTS_END 272u

static int is_zero(const uint8_t *page)
{
  const uint64_t *words = (const uint64_t *)(const void *)page;
  uint64_t any = 0;

  for (unsigned i = 0; i < PAGE_BYTES / sizeof *words && any == 0; i += 8)
    any = words[i] | words[i + 1] | words[i + 2] | words[i + 3] | words[i + 4] | words[i + 5] | words[i + 6] | words[i + 7];
  return any == 0;
}

static void put_head(uint8_t *out, uint64_t frame, uint64_t kind)
{
  uint64_t head = frame | kind << KIND_SHIFT;

  memcpy(out, &head, sizeof head);
}

size_t stream_zero(uint8_t *out, uint64_t frame)
{
  put_head(out, frame, PAGE_ZERO);
  return 8;
}

size_t stream_table(uint8_t *out, uint64_t frame, unsigned level, const uint8_t *page)
{
  put_head(out, frame, PAGE_TABLE + level);
  memcpy(out + 8, page, PAGE_BYTES);
  return 8 + PAGE_BYTES;
}

size_t stream_page(uint8_t *out, uint64_t frame, const uint8_t *page)
{
  /* In a guest that runs it may be written meanwhile: a zero page that was none in the end is another page in the next pass. */
  if (is_zero(page)) return stream_zero(out, frame);
  put_head(out, frame, PAGE_DATA);
  memcpy(out + 8, page, PAGE_BYTES);
  return 8 + PAGE_BYTES;
}

static int inside(uint64_t frame, uint64_t shared_pages, uint64_t pages) { return frame >= shared_pages && frame < pages; }

static uint8_t *page_at(const struct target_memory *memory, uint64_t frame) { return memory->at[frame]; }

static int lay_table(const struct target_memory *memory, uint64_t frame, unsigned level, const uint8_t *bytes)
{
  uint8_t *page = page_at(memory, frame);

  for (unsigned slot = 0; slot < ENTRIES_PER_TABLE; slot++) {
    uint64_t entry, target;

    memcpy(&entry, bytes + slot * sizeof entry, sizeof entry);
    if (level == LEVEL_TOP && slot >= XEN_SLOTS_FIRST && slot < XEN_SLOTS_END) entry = 0;
    if (entry & ENTRY_PRESENT) {
      target = (entry & ENTRY_FRAME) >> 12;
      if (!inside(target, memory->shared_pages, memory->pages)) return -1;
      entry = (entry & ~ENTRY_FRAME) | memory->mfns[target] << 12;
    }
    memcpy(page + slot * sizeof entry, &entry, sizeof entry);
  }
  return 0;
}

/* One page of a piece: its frame and kind; the bytes it has, head included, 0 when it is malformed. */
static size_t take_page(const struct target_memory *memory, const uint8_t *piece, size_t length, uint64_t *frame, uint64_t *kind)
{
  uint64_t head;

  if (length < sizeof head) return 0;
  memcpy(&head, piece, sizeof head);
  *kind = head >> KIND_SHIFT;
  *frame = head & ((1ull << KIND_SHIFT) - 1);
  if (!inside(*frame, memory->shared_pages, memory->pages) || *kind > PAGE_TABLE + LEVEL_TOP) return 0;
  if (*kind == PAGE_ZERO) return sizeof head;
  return length - sizeof head < PAGE_BYTES ? 0 : sizeof head + PAGE_BYTES;
}

int stream_frames(const struct target_memory *memory, const uint8_t *piece, size_t length, uint64_t *frames, size_t *count)
{
  *count = 0;
  for (size_t at = 0, bytes; at < length; at += bytes) {
    uint64_t frame, kind;

    bytes = take_page(memory, piece + at, length - at, &frame, &kind);
    if (bytes == 0) return -1;
    if (kind != PAGE_ZERO || memory->written[frame]) frames[(*count)++] = frame;
  }
  return 0;
}

int stream_apply(const struct target_memory *memory, const uint8_t *piece, size_t length)
{
  for (size_t at = 0, bytes; at < length; at += bytes) {
    uint64_t frame, kind;

    bytes = take_page(memory, piece + at, length - at, &frame, &kind);
    if (bytes == 0) return -1;
    if (page_at(memory, frame) == NULL) continue; /* zero, and so it is */
    memory->written[frame] = kind != PAGE_ZERO;
    if (kind == PAGE_ZERO) memset(page_at(memory, frame), 0, PAGE_BYTES);
    else if (kind == PAGE_DATA) memcpy(page_at(memory, frame), piece + at + 8, PAGE_BYTES);
    else if (lay_table(memory, frame, (unsigned)kind - PAGE_TABLE, piece + at + 8)) return -1;
  }
  return 0;
}

static int check_wiring(const struct guest_state *state, unsigned vif_count)
{
  const struct wiring *wiring = &state->wiring;

  if (wiring->magic != WIRING_MAGIC || wiring->version != WIRING_VERSION || wiring->order != WIRING_NOTHING) return -1;
  if (wiring->vif_count != vif_count || vif_count > WIRING_VIFS) return -1;
  for (unsigned i = 0; i < vif_count; i++)
    if (!inside(wiring->vifs[i].tx_frame, state->shared_pages, state->pages) ||
        !inside(wiring->vifs[i].rx_frame, state->shared_pages, state->pages) || wiring->vifs[i].port != FIRST_VIF_PORT + i ||
        wiring->vifs[i].backend != 0)
      return -1;
  return 0;
}

int state_parse(const uint8_t *bytes, size_t length, uint64_t pages, uint64_t shared_pages, unsigned vif_count, struct parsed_state *parsed)
{
  struct guest_state *state = &parsed->fixed;
  uint64_t places;

  if (length < sizeof *state) return -1;
  memcpy(state, bytes, sizeof *state);
  if (state->magic != STATE_MAGIC || state->version != STATE_VERSION || state->pages != pages || state->shared_pages != shared_pages ||
      shared_pages > TEMPLATE_PAGES_MAX || shared_pages >= pages || state->cpu_bytes > STATE_CPU_MAX || state->reserved != 0)
    return -1;
  places = shared_pages * sizeof(struct shared_place);
  if (length != sizeof *state + places + state->cpu_bytes) return -1;
  parsed->places = bytes + sizeof *state;
  parsed->cpu = parsed->places + places;
  if (!inside(state->start_info, shared_pages, pages) || !inside(state->top_table, shared_pages, pages) ||
      !inside(state->console, shared_pages, pages) || !inside(state->p2m, shared_pages, pages) || list_pages_of(pages) > pages - state->p2m)
    return -1;
  if (state->store == NO_FRAME ? check_wiring(state, vif_count) : !inside(state->store, shared_pages, pages)) return -1;
  for (uint64_t i = 0; i < shared_pages; i++) {
    struct shared_place place;

    memcpy(&place, parsed->places + i * sizeof place, sizeof place);
    if (!inside(place.table, shared_pages, pages) || place.slot >= ENTRIES_PER_TABLE) return -1;
  }
  return 0;
}

size_t stream_settled(const struct guest_state *state, uint64_t *frames)
{
  size_t count = 0;

  for (uint64_t i = 0; i < list_pages_of(state->pages); i++) frames[count++] = state->p2m + i;
  frames[count++] = state->start_info;
  frames[count++] = state->console;
  if (state->store != NO_FRAME) frames[count++] = state->store;
  for (unsigned i = 0; state->store == NO_FRAME && i < state->wiring.vif_count; i++) {
    frames[count++] = state->wiring.vifs[i].tx_frame;
    frames[count++] = state->wiring.vifs[i].rx_frame;
  }
  return count;
}

void stream_settle(const struct target_memory *memory, const struct guest_state *state, uint64_t shared_info_mfn,
                   const struct build_result *result)
{
  struct start_info *info = (struct start_info *)(void *)page_at(memory, state->start_info);
  int wired = state->store == NO_FRAME;

  for (uint64_t i = 0; i < list_pages_of(memory->pages); i++) {
    uint64_t left = memory->pages * sizeof *memory->mfns - i * PAGE_BYTES;

    memcpy(page_at(memory, state->p2m + i), (const uint8_t *)memory->mfns + i * PAGE_BYTES, left < PAGE_BYTES ? left : PAGE_BYTES);
  }
  memset(page_at(memory, state->console), 0, PAGE_BYTES);
  info->shared_info = shared_info_mfn << 12;
  info->console.domU.mfn = result->console_mfn;
  info->console.domU.evtchn = CONSOLE_PORT;
  memset(info->cmd_line, 0, COMMAND_LINE_BYTES);
  if (wired) {
    info->store_mfn = 0;
    info->store_evtchn = 0;
    memcpy((uint8_t *)info + WIRING_OFFSET, &state->wiring, sizeof state->wiring);
    for (unsigned i = 0; i < state->wiring.vif_count; i++)
      builder_clear_rings(page_at(memory, state->wiring.vifs[i].tx_frame), page_at(memory, state->wiring.vifs[i].rx_frame));
  } else {
    memset(page_at(memory, state->store), 0, PAGE_BYTES);
    info->store_mfn = result->store_mfn;
    info->store_evtchn = STORE_PORT;
  }
  builder_open_to_dom0(page_at(memory, memory->pages), page_at(memory, memory->pages + 1), result->console_mfn,
                       wired ? result->start_info_mfn : result->store_mfn);
}
