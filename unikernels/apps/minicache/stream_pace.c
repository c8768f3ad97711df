/*
 * When a byte of a transport stream is due. A packet with a PCR is due at that PCR; what lies between two is due at the rate that was between
 * the two before, so that no look ahead is needed but for the first; each PCR puts right what that got wrong.
 */
#include "stream.h"

#define TICKS_A_SECOND 27000000ull
#define WRAP ((1ull << 33) * 300)

/* The PCR of a packet, in ticks of 27 MHz. */
static bool pcr_of(const uint8_t *packet, uint64_t *pcr) {
  bool has_field = (packet[3] & 0x20) != 0 && packet[4] >= 7 && packet[4] <= 183;
  if (!has_field || (packet[5] & 0x10) == 0) return false;
  uint64_t base = (uint64_t)packet[6] << 25 | (uint64_t)packet[7] << 17 | (uint64_t)packet[8] << 9 | (uint64_t)packet[9] << 1 | packet[10] >> 7;
  *pcr = base * 300 + ((uint64_t)(packet[10] & 1) << 8 | packet[11]);
  return true;
}

bool stream_pace_packet(struct stream_pace *pace, const uint8_t *packet, uint64_t position) {
  uint64_t pcr;
  if (packet[0] != 0x47) return false;
  uint16_t pid = (uint16_t)((packet[1] & 0x1f) << 8 | packet[2]);
  if ((pace->has_clock && pid != pace->pid) || !pcr_of(packet, &pcr)) return true;
  if (!pace->has_clock) {
    pace->has_clock = true;
    pace->pid = pid;
    pace->last_pcr = pcr;
    pace->position = position;
    return true;
  }
  uint64_t ticks = (pcr + WRAP - pace->last_pcr) % WRAP, due = stream_pace_due_ns(pace, position);
  pace->last_pcr = pcr;
  if (ticks > TICKS_A_SECOND || (packet[5] & 0x80) != 0 || ticks == 0) {
    /* Another clock begins here, or the same one jumped: goes on from when this packet would have been due. */
    pace->clock = due / 1000 * 27 + due % 1000 * 27 / 1000;
  } else {
    pace->ticks = ticks;
    pace->bytes = position - pace->position;
    pace->has_rate = true;
    pace->clock += ticks;
  }
  pace->position = position;
  return true;
}

void stream_pace_prime(struct stream_pace *pace, const uint8_t *bytes, uint32_t length) {
  struct stream_pace ahead = {0};
  for (uint32_t at = 0; at + STREAM_TS_BYTES <= length && !ahead.has_rate; at += STREAM_TS_BYTES) {
    if (!stream_pace_packet(&ahead, bytes + at, at)) return;
  }
  pace->has_rate = ahead.has_rate;
  pace->ticks = ahead.ticks;
  pace->bytes = ahead.bytes;
}

uint64_t stream_pace_due_ns(const struct stream_pace *pace, uint64_t position) {
  uint64_t ticks = pace->clock;
  if (pace->has_rate && pace->bytes > 0) {
    uint64_t rest = (position - pace->position) * pace->ticks / pace->bytes;
    /* A PCR that is long in coming does not stop the stream; it comes within 0.1 s, says the standard. */
    ticks += rest < TICKS_A_SECOND ? rest : TICKS_A_SECOND;
  }
  return ticks / 27 * 1000 + ticks % 27 * 1000 / 27;
}
