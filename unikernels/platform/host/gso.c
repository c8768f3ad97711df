/* See gso.h. */
#include "gso.h"

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }
static void put16(uint8_t *at, size_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }

/* The offset of the TCP header, 0 when it is no TCP. */
static size_t tcp_at(const uint8_t *frame, size_t length) {
  if (length >= 54 && get16(frame + 12) == 0x0800 && frame[14] == 0x45 && frame[23] == 6) return 34;
  if (length >= 74 && get16(frame + 12) == 0x86dd && frame[20] == 6) return 54;
  return 0;
}

uint8_t *gso_reserve(struct gso *gso) {
  if (gso->used == 0) return gso->frame;
  memcpy(gso->saved, gso->frame + gso->used - gso->head, gso->head);
  return gso->frame + gso->used - gso->head;
}

void gso_flush(struct gso *gso) {
  struct gso_header header = {0};
  size_t length = gso->used;
  if (length == 0) return;
  size_t tcp = tcp_at(gso->frame, length);
  if (gso->head > 0 && tcp > 0) {
    header.flags = 1; /* the checksum is to be filled in */
    header.checksum_start = (uint16_t)tcp;
    header.checksum_offset = 16;
    if (length > (size_t)gso->head + gso->each) {
      bool six = tcp == 54;
      header.type = six ? 4 : 1;
      header.header_bytes = gso->head;
      header.segment_bytes = gso->each;
      /* The lengths of the whole; the pseudo header's sum without a length is what lies in the field plus what we add. */
      size_t was = six ? get16(gso->frame + 18) : get16(gso->frame + 16) - 20u, is = length - tcp;
      if (six) put16(gso->frame + 18, length - 54);
      else put16(gso->frame + 16, length - 14);
      uint32_t sum = get16(gso->frame + tcp + 16) + (uint32_t)(is - was);
      while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
      put16(gso->frame + tcp + 16, sum);
      if (!six) {
        put16(gso->frame + 24, 0);
        sum = 0;
        for (size_t i = 14; i < 34; i += 2) sum += get16(gso->frame + i);
        while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
        put16(gso->frame + 24, (uint16_t)~sum);
      }
    }
  }
  gso->used = 0;
  gso->send(gso->context, &header, gso->frame, length);
}

/* Same flow, same everything but what counts up, and the next in sequence? */
static bool follows(const struct gso *gso, const uint8_t *frame, size_t length, size_t tcp, uint32_t flags) {
  const uint8_t *first = gso->frame;
  if (tcp == 0 || !(flags & SHOAL_NET_CSUM_BLANK) || gso->closed || tcp_at(first, gso->used) != tcp || (frame[tcp + 12] >> 4) * 4u + tcp != gso->head) return false;
  size_t data = length - gso->head;
  if (data == 0 || data > gso->each || gso->used + data > GSO_FRAME_BYTES) return false;
  if (memcmp(first, frame, 14) != 0 || get32(frame + tcp + 4) != gso->next || (frame[tcp + 13] & ~(PSH | FIN)) != ACK) return false;
  bool addresses = tcp == 34 ? memcmp(first + 26, frame + 26, 8) == 0 && first[22] == frame[22] && first[15] == frame[15] : memcmp(first + 22, frame + 22, 32) == 0 && memcmp(first + 14, frame + 14, 4) == 0;
  /* Ports; acknowledgement; window; options. */
  return addresses && memcmp(first + tcp, frame + tcp, 4) == 0 && memcmp(first + tcp + 8, frame + tcp + 8, 5) == 0 && memcmp(first + tcp + 14, frame + tcp + 14, 2) == 0 &&
         memcmp(first + tcp + 18, frame + tcp + 18, gso->head - tcp - 18) == 0;
}

void gso_commit(struct gso *gso, size_t length, uint32_t flags) {
  uint8_t *frame = gso->used == 0 ? gso->frame : gso->frame + gso->used - gso->head;
  size_t tcp = tcp_at(frame, length);
  if (gso->used > 0) {
    if (follows(gso, frame, length, tcp, flags)) {
      size_t data = length - gso->head;
      uint8_t ends = frame[tcp + 13] & (PSH | FIN);
      memcpy(frame, gso->saved, gso->head);
      gso->frame[tcp + 13] |= ends;
      gso->closed = ends != 0 || data < gso->each;
      gso->used += data;
      gso->next += (uint32_t)data;
      return;
    }
    /* Not of this flow: that goes out, this becomes the first. */
    static uint8_t other[SHOAL_NET_FRAME_BYTES];
    memcpy(other, frame, length);
    memcpy(frame, gso->saved, gso->head);
    gso_flush(gso);
    memcpy(gso->frame, other, length);
    frame = gso->frame;
  }
  size_t head = tcp == 0 ? 0 : tcp + (frame[tcp + 12] >> 4) * 4u;
  gso->used = length;
  bool plain = (flags & SHOAL_NET_CSUM_BLANK) && tcp > 0 && head <= length && head <= sizeof gso->saved;
  gso->head = plain ? (uint16_t)head : 0;
  gso->each = plain ? (uint16_t)(length - head) : 0;
  gso->closed = !plain || gso->each < sizeof gso->saved || (frame[tcp + 13] & ~PSH) != ACK || (frame[tcp + 13] & PSH) != 0;
  gso->next = plain ? get32(frame + tcp + 4) + gso->each : 0;
  if (gso->closed) gso_flush(gso);
}

void gso_fill_checksum(uint8_t *frame, size_t length) {
  size_t tcp = tcp_at(frame, length), end = tcp == 34 ? 14u + get16(frame + 16) : tcp == 54 ? 54u + get16(frame + 18) : 0;
  if (tcp == 0 || end > length) return;
  uint32_t sum = 0;
  for (size_t i = tcp; i + 1 < end; i += 2) sum += get16(frame + i);
  if ((end - tcp) % 2 != 0) sum += (uint32_t)frame[end - 1] << 8;
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  put16(frame + tcp + 16, (uint16_t)~sum);
}
