/* See gso.h. */
#include "gso.h"

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static void put16(uint8_t *at, size_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }

/* Where the next segment's headers are written: over the end of what is there, which is put back. */
static uint8_t *place(struct gso *gso) { return gso->run.length == 0 ? gso->frame : gso->frame + gso->run.length - gso->run.head; }

uint8_t *gso_reserve(struct gso *gso) {
  if (gso->run.length > 0) memcpy(gso->saved, place(gso), gso->run.head);
  return place(gso);
}

void gso_flush(struct gso *gso) {
  struct segment_run *run = &gso->run;
  struct gso_header header = {0};
  size_t length = run->length;
  if (length == 0) return;
  if (run->head > 0) {
    header.flags = 1; /* the checksum is to be filled in */
    header.checksum_start = run->tcp;
    header.checksum_offset = 16;
    if (length > (size_t)run->head + run->each) {
      header.type = run->tcp == 54 ? 4 : 1;
      header.header_bytes = run->head;
      header.segment_bytes = run->each;
      segments_finish(run);
    }
  }
  run->length = 0;
  gso->send(gso->context, &header, gso->frame, length);
}

void gso_commit(struct gso *gso, size_t length, uint32_t flags) {
  uint8_t *frame = place(gso);
  if (gso->run.length > 0) {
    if (segments_follow(&gso->run, frame, length, flags)) {
      memcpy(frame, gso->saved, gso->run.head);
      return;
    }
    /* Not of this flow: that goes out, this becomes the first. */
    static uint8_t other[SHOAL_NET_FRAME_BYTES];
    memcpy(other, frame, length);
    memcpy(frame, gso->saved, gso->run.head);
    gso_flush(gso);
    memcpy(gso->frame, other, length);
  }
  segments_begin(&gso->run, gso->frame, length, flags);
  if (gso->run.closed) gso_flush(gso);
}

void gso_fill_checksum(uint8_t *frame, size_t length) {
  size_t tcp = segments_tcp(frame, length), end = tcp == 34 ? 14u + get16(frame + 16) : tcp == 54 ? 54u + get16(frame + 18) : 0;
  if (tcp == 0 || end > length) return;
  uint32_t sum = 0;
  for (size_t i = tcp; i + 1 < end; i += 2) sum += get16(frame + i);
  if ((end - tcp) % 2 != 0) sum += (uint32_t)frame[end - 1] << 8;
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  put16(frame + tcp + 16, (uint16_t)~sum);
}
