/* See allowance.h. */
#include "allowance.h"

/* Of what is free: the rest is for what comes in. */
#define SHARED_OF(free) ((free) / 4 * 3)
/* One that asks gets at most so much of what is left. */
#define PART 4u

/* Kept back from what comes in: an eighth of what is free, at most so much. Acknowledgements and requests are shorter than LONG_FRAME_BYTES. */
#define RESERVE_BYTES 65536u
#define LONG_FRAME_BYTES 600u

static uint64_t shared_bytes, used_bytes, reserve_bytes;

void allowance_open(void) {
  uint64_t connections = cache.settings.connections, own = connections * ALLOWANCE_CONNECTION_BYTES, free = SHARED_OF(shoal_memory().free_bytes);
  used_bytes = 0;
  reserve_bytes = shoal_memory().free_bytes / 8 < RESERVE_BYTES ? shoal_memory().free_bytes / 8 : RESERVE_BYTES;
  shared_bytes = free > own ? free - own : 0;
  if (free >= own) return;
  uint64_t lacks = (own - free) / 3 * 4;
  shoal_print("minicache: too little memory for %u connections at once: ram= has to be %u KiB less, or the guest as much larger with ram= as it is\n", (unsigned)connections, (unsigned)(lacks / 1024 + 1));
}

static uint32_t held_by(const struct viewer *viewer) {
  return tcp_sndqueuelen(viewer->pcb) * (ALLOWANCE_SEGMENT_BYTES / 2) + viewer->copied;
}

uint32_t allowance_of(const struct viewer *viewer) {
  uint32_t held = held_by(viewer), own = held < ALLOWANCE_OWN_BYTES ? ALLOWANCE_OWN_BYTES - held : 0;
  uint64_t rest = shared_bytes > used_bytes ? (shared_bytes - used_bytes) / PART : 0;
  return own + (rest > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)rest);
}

void allowance_note(struct viewer *viewer) {
  uint32_t held = held_by(viewer), beyond = held > ALLOWANCE_OWN_BYTES ? held - ALLOWANCE_OWN_BYTES : 0;
  used_bytes += beyond;
  used_bytes -= viewer->beyond;
  viewer->beyond = beyond;
}

void allowance_end(struct viewer *viewer) {
  used_bytes -= viewer->beyond;
  viewer->beyond = viewer->copied = 0;
}

bool allowance_takes(size_t frame_bytes) { return frame_bytes < LONG_FRAME_BYTES || shoal_memory().free_bytes >= reserve_bytes; }

uint64_t allowance_used(void) { return used_bytes; }
