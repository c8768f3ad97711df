/*
 * The packets of the benchmarks of middleboxes, made and looked at by the guest of this folder and by bench/click/forward.c: UDP of 64 bytes (with
 * the frame check sequence) from 10.0.0.1 to .200, the flow in the port, to 10.0.1.1.
 */
#ifndef PACKETS_PACKET_H
#define PACKETS_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { FRAME = 60, HEAD = 14 };
#define MARK "shoalpps"

static inline uint32_t sum_of(const uint8_t *bytes, size_t length, uint32_t sum) {
  for (size_t i = 0; i + 1 < length; i += 2) sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

static inline void put16(uint8_t *at, uint32_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }

/* Of an IP packet of 46 bytes: the sums of header and UDP are those of what lies there. */
static inline bool sums_right(const uint8_t *ip) {
  uint8_t pseudo[12] = {[9] = 17, [11] = 26};
  memcpy(pseudo, ip + 12, 8);
  return sum_of(ip, 20, 0) == 0xffff && sum_of(ip + 20, 26, sum_of(pseudo, 12, 0)) == 0xffff;
}

static inline void make_frame(uint8_t *frame, const uint8_t to[6], const uint8_t from[6], unsigned flow) {
  static const uint8_t head[] = {8, 0, 0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 0, 10, 0, 1, 1};
  uint8_t *ip = frame + HEAD, pseudo[12] = {[9] = 17, [11] = 26};
  memset(frame, 0, FRAME);
  memcpy(frame, to, 6);
  memcpy(frame + 6, from, 6);
  memcpy(frame + 12, head, sizeof head);
  ip[15] = (uint8_t)(1 + flow % 200);
  put16(ip + 20, 10000 + flow);
  put16(ip + 22, 9);
  put16(ip + 24, 26);
  memcpy(ip + 28, MARK, 8);
  put16(ip + 10, ~sum_of(ip, 20, 0));
  memcpy(pseudo, ip + 12, 8);
  put16(ip + 26, ~sum_of(ip + 20, 26, sum_of(pseudo, 12, 0)));
}

#endif
