/* Headers of a stream's datagrams: made once, with three or four fields changed for each. */
#include "stream.h"

#define ETHERNET_BYTES 14u
#define IP_BYTES 20u
#define UDP_BYTES 8u
#define RTP_BYTES 12u
#define IP_AT ETHERNET_BYTES
#define UDP_AT (IP_AT + IP_BYTES)
#define RTP_AT (UDP_AT + UDP_BYTES)
#define RTP_TYPE_MP2T 33u

static void put16(uint8_t *at, uint32_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16), put16(at + 2, value); }

void stream_group_mac(uint32_t group, uint8_t mac[6]) {
  /* RFC 1112, 6.4 */
  mac[0] = 0x01, mac[1] = 0x00, mac[2] = 0x5e;
  mac[3] = (uint8_t)(group >> 16 & 0x7f), mac[4] = (uint8_t)(group >> 8), mac[5] = (uint8_t)group;
}

static uint32_t sum_words(const uint8_t *at, unsigned bytes) {
  uint32_t sum = 0;
  for (unsigned i = 0; i < bytes; i += 2) sum += (uint32_t)at[i] << 8 | at[i + 1];
  return sum;
}

static uint16_t fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

void stream_make_headers(struct stream *stream, const struct stream_target *target) {
  uint8_t *at = stream->headers;
  memset(at, 0, sizeof stream->headers);
  memcpy(at, target->mac, 6);
  memcpy(at + 6, target->source_mac, 6);
  put16(at + 12, 0x0800);
  at[IP_AT] = 0x45;
  put16(at + IP_AT + 6, 0x4000); /* never in fragments */
  at[IP_AT + 8] = target->ttl == 0 ? 64 : target->ttl;
  at[IP_AT + 9] = 17;
  put32(at + IP_AT + 12, target->source_address);
  put32(at + IP_AT + 16, target->address);
  put16(at + UDP_AT, target->source_port);
  put16(at + UDP_AT + 2, target->port);
  stream->blank_checksum = target->blank_checksum;
  stream->address_sum = sum_words(at + IP_AT + 12, 8) + 17;
  stream->header_bytes = RTP_AT;
  if (stream->mode != STREAM_RTP) return;
  stream->header_bytes += RTP_BYTES;
  at[RTP_AT] = 0x80;
  at[RTP_AT + 1] = RTP_TYPE_MP2T;
  shoal_random(&stream->rtp_base, sizeof stream->rtp_base);
  shoal_random(&stream->rtp_sequence, sizeof stream->rtp_sequence);
  shoal_random(at + RTP_AT + 8, 4); /* SSRC */
}

void stream_put_headers(struct stream *stream, uint8_t *frame, uint32_t payload_bytes, uint32_t ticks) {
  uint32_t udp_bytes = stream->header_bytes - UDP_AT + payload_bytes;
  memcpy(frame, stream->headers, stream->header_bytes);
  put16(frame + IP_AT + 2, IP_BYTES + udp_bytes);
  put16(frame + IP_AT + 4, stream->ip_id++);
  put16(frame + IP_AT + 10, (uint16_t)~fold(sum_words(frame + IP_AT, IP_BYTES)));
  put16(frame + UDP_AT + 4, udp_bytes);
  if (stream->blank_checksum) put16(frame + UDP_AT + 6, fold(stream->address_sum + udp_bytes));
  if (stream->mode != STREAM_RTP) return;
  put16(frame + RTP_AT + 2, stream->rtp_sequence++);
  put32(frame + RTP_AT + 4, stream->rtp_base + ticks);
}
