/* See segments.h. */
#include "segments.h"

enum { FIN = 1, PSH = 8, ACK = 16 };
/* As the lengths of IP count. */
#define WHOLE_MOST 65535u
/* Headers with all the options there can be; less data than that is not worth it. */
#define HEAD_MOST 128u

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }
static void put16(uint8_t *at, size_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }

size_t segments_tcp(const uint8_t *frame, size_t length) {
  if (length >= 54 && get16(frame + 12) == 0x0800 && frame[14] == 0x45 && frame[23] == 6) return 34;
  if (length >= 74 && get16(frame + 12) == 0x86dd && frame[20] == 6) return 54;
  return 0;
}

void segments_begin(struct segment_run *run, uint8_t *frame, size_t length, uint32_t flags) {
  size_t tcp = segments_tcp(frame, length), head = tcp == 0 ? 0 : tcp + (frame[tcp + 12] >> 4) * 4u;
  bool plain = (flags & SHOAL_NET_CSUM_BLANK) && tcp > 0 && head <= length && head <= HEAD_MOST;
  *run = (struct segment_run){.first = frame, .length = (uint32_t)length, .closed = true};
  if (!plain) return;
  run->tcp = (uint16_t)tcp;
  run->head = (uint16_t)head;
  run->each = (uint16_t)(length - head);
  run->next = get32(frame + tcp + 4) + run->each;
  run->closed = run->each < HEAD_MOST || frame[tcp + 13] != ACK;
}

bool segments_follow(struct segment_run *run, const uint8_t *frame, size_t length, uint32_t flags) {
  const uint8_t *first = run->first;
  size_t tcp = run->tcp;
  if (run->closed || !(flags & SHOAL_NET_CSUM_BLANK) || segments_tcp(frame, length) != tcp || (frame[tcp + 12] >> 4) * 4u + tcp != run->head) return false;
  size_t data = length - run->head;
  if (length <= run->head || data > run->each || run->length + data > WHOLE_MOST) return false;
  if (memcmp(first, frame, 14) != 0 || get32(frame + tcp + 4) != run->next || (frame[tcp + 13] & ~(PSH | FIN)) != ACK) return false;
  bool addresses = tcp == 34 ? memcmp(first + 26, frame + 26, 8) == 0 && first[22] == frame[22] && first[15] == frame[15]
                             : memcmp(first + 22, frame + 22, 32) == 0 && memcmp(first + 14, frame + 14, 4) == 0 && first[21] == frame[21];
  /* Ports; acknowledgement; window; options. */
  if (!addresses || memcmp(first + tcp, frame + tcp, 4) != 0 || memcmp(first + tcp + 8, frame + tcp + 8, 4) != 0 || memcmp(first + tcp + 14, frame + tcp + 14, 2) != 0 ||
      memcmp(first + tcp + 18, frame + tcp + 18, run->head - tcp - 18) != 0)
    return false;
  uint8_t ends = frame[tcp + 13] & (PSH | FIN);
  run->first[tcp + 13] |= ends;
  run->closed = ends != 0 || data < run->each;
  run->length += (uint32_t)data;
  run->next += (uint32_t)data;
  return true;
}

static uint16_t folded(uint32_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)sum;
}

void segments_finish(struct segment_run *run) {
  uint8_t *frame = run->first;
  size_t length = run->length, tcp = run->tcp;
  if (run->head == 0 || length <= (size_t)run->head + run->each) return;
  bool six = tcp == 54;
  /* The field has the sum of the pseudo header, whose length is another one now. */
  size_t was = six ? get16(frame + 18) : get16(frame + 16) - 20u, is = length - tcp;
  if (six) put16(frame + 18, length - 54);
  else put16(frame + 16, length - 14);
  put16(frame + tcp + 16, folded(get16(frame + tcp + 16) + (uint32_t)(is - was)));
  if (six) return;
  put16(frame + 24, 0);
  uint32_t sum = 0;
  for (size_t i = 14; i < 34; i += 2) sum += get16(frame + i);
  put16(frame + 24, (uint16_t)~folded(sum));
}
