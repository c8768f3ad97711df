/*
 * A guest's memory as it travels, without Xen: pieces of pages, and the state that stands beside them (docs/formats/saved-vm.md has both,
 * byte by byte). Page tables name guest frames on the way, machine frames at both ends. Kept apart from the hypercalls so that every byte
 * that can come from elsewhere is checked by code that runs, and is fuzzed, on any machine.
 */
#ifndef SHOAL_MEMORY_STREAM_H
#define SHOAL_MEMORY_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "builder.h"
#include "layout.h"
#include "template.h"
#include "wiring.h"

#define PIECE_PAGES 64u
#define PIECE_BYTES_MAX (PIECE_PAGES * (PAGE_BYTES + 8u))
#define NO_FRAME (~0ull)

/* Before each page of a piece: guest frame | kind << 56. A zero page has no bytes behind it, any other kind 4,096. */
#define PAGE_ZERO 0u
#define PAGE_DATA 1u
#define PAGE_TABLE 1u /* + level, 1 to 4: entries name guest frames */
#define KIND_SHIFT 56

#define STATE_MAGIC 0x54534753u /* "SGST" */
#define STATE_VERSION 1u
#define STATE_CPU_MAX 16384u

/* Where a page of the template is mapped: the frame of the L1, and the entry's number. */
struct shared_place {
  uint32_t table, slot;
};

/* As it travels; behind it shared_pages places, then cpu_bytes of the vCPU's state. */
struct guest_state {
  uint32_t magic, version;
  uint64_t pages, shared_pages;
  uint64_t start_info, top_table, p2m, console; /* guest frames */
  uint64_t store;                               /* frame of the store's ring; NO_FRAME: the guest is wired */
  struct wiring wiring;                         /* of a wired guest, without an order */
  uint32_t cpu_bytes, reserved;
};
_Static_assert(sizeof(struct guest_state) == 184, "format of a saved VM");

/* Parsed and checked; the pointers lie in the bytes that were parsed. */
struct parsed_state {
  struct guest_state fixed;
  const uint8_t *places; /* struct shared_place, unaligned */
  const uint8_t *cpu;
};

/* A domain's memory while it is written. It began as zeroes. Frames `pages` and `pages` + 1 stand for shared_info and the grants. */
struct target_memory {
  uint64_t pages, shared_pages;
  uint8_t **at;         /* where frames [0, pages + 2) are mapped now; NULL: they are not */
  const uint64_t *mfns; /* of frames [0, pages + 2) */
  uint8_t *written;     /* a byte a frame: whether it may be anything but zero */
};

/* Frames of one piece: were each a zero page. */
#define PIECE_FRAMES_MAX (PIECE_BYTES_MAX / 8u)
/* Beside the list of frames: start_info, console, rings. */
#define SETTLED_FRAMES_MAX (2u + 2u * WIRING_VIFS)

static inline uint64_t list_pages_of(uint64_t pages) { return (pages * sizeof(uint64_t) + PAGE_BYTES - 1) / PAGE_BYTES; }

/* One page into `out`, which has room for 8 + PAGE_BYTES; the number of bytes. The entries of a table are left as they are. */
size_t stream_page(uint8_t *out, uint64_t frame, const uint8_t *page);
size_t stream_zero(uint8_t *out, uint64_t frame);
size_t stream_table(uint8_t *out, uint64_t frame, unsigned level, const uint8_t *page);

/* The frames that a piece writes to, which have to be mapped before it is laid in: up to PIECE_FRAMES_MAX, some perhaps twice. -1: it is malformed. */
int stream_frames(const struct target_memory *memory, const uint8_t *piece, size_t length, uint64_t *frames, size_t *count);

/* Lays a piece in. -1: it is malformed; what was laid in until then stays. */
int stream_apply(const struct target_memory *memory, const uint8_t *piece, size_t length);

/* -1: no state of a guest of this memory with so many vifs (counted only when it is wired). */
int state_parse(const uint8_t *bytes, size_t length, uint64_t pages, uint64_t shared_pages, unsigned vif_count, struct parsed_state *parsed);

/* The frames that stream_settle writes to beside shared_info and the grants: list_pages_of(pages) + SETTLED_FRAMES_MAX at most, some perhaps twice. */
size_t stream_settled(const struct guest_state *state, uint64_t *frames);

/* What a guest finds when it wakes up elsewhere: its list of frames, fresh rings, no command line yet. */
void stream_settle(const struct target_memory *memory, const struct guest_state *state, uint64_t shared_info_mfn,
                   const struct build_result *result);

#endif
