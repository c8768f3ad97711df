/*
 * IPv4 headers as the elements read and change them. A view is taken of each packet anew: lengths in the header are believed only as far as the packet
 * has bytes. Pure.
 */
#ifndef CLICK_IP_H
#define CLICK_IP_H

#include "packet.h"

#define IP_BYTES 20u
#define IP_FLAG_DF 0x4000u
#define IP_FLAG_MF 0x2000u
#define IP_OFFSET_MASK 0x1fffu
#define TCP_BYTES 20u
#define UDP_BYTES 8u
#define ICMP_BYTES 8u

enum ip_protocol { PROTOCOL_ICMP = 1, PROTOCOL_IGMP = 2, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, PROTOCOL_ICMP6 = 58 };
enum tcp_flag { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16, TCP_URG = 32 };
enum icmp_type { ICMP_ECHO_REPLY = 0, ICMP_UNREACHABLE = 3, ICMP_SOURCE_QUENCH = 4, ICMP_REDIRECT = 5, ICMP_ECHO = 8, ICMP_TIME_EXCEEDED = 11, ICMP_PARAMETER = 12 };

struct ip4_view {
  uint8_t *header, *transport;
  uint32_t header_bytes;
  uint32_t transport_bytes; /* the smaller of what the header says and what is there */
  uint16_t fragment;        /* the field: flags and offset */
  uint8_t protocol;
};

static inline bool ip4_is_first(const struct ip4_view *view) { return (view->fragment & IP_OFFSET_MASK) == 0; }
static inline bool ip4_is_fragment(const struct ip4_view *view) { return (view->fragment & (IP_OFFSET_MASK | IP_FLAG_MF)) != 0; }

/* False when the header is unmarked, not IPv4's, or not whole. */
static inline bool ip4_view(const struct packet *packet, struct ip4_view *view) {
  uint8_t *header = packet->network;
  uint32_t there = packet_bytes_from(packet, header);
  if (there < IP_BYTES || header[0] >> 4 != 4) return false;
  uint32_t header_bytes = (header[0] & 15u) * 4, length = get16(header + 2);
  if (header_bytes < IP_BYTES || header_bytes > there || length < header_bytes) return false;
  view->header = header;
  view->header_bytes = header_bytes;
  view->transport = header + header_bytes;
  view->transport_bytes = (length < there ? length : there) - header_bytes;
  view->fragment = get16(header + 6);
  view->protocol = header[9];
  return true;
}

static inline uint32_t ip4_source(const uint8_t *header) { return get_ip4(header + 12); }
static inline uint32_t ip4_destination(const uint8_t *header) { return get_ip4(header + 16); }

/* Marks the headers of a packet whose IPv4 header begins at `header` and is sound. */
static inline void ip4_mark(struct packet *packet, uint8_t *header) {
  packet->network = header;
  packet->transport = header + (header[0] & 15u) * 4;
}

static inline void ip4_set_checksum(uint8_t *header) {
  put16(header + 10, 0);
  put16(header + 10, checksum_end(checksum_add(header, (header[0] & 15u) * 4u, 0)));
}

/* The 16-bit word at `at` under the checksum at `field` becomes `value`. */
static inline void checksum_put16(uint8_t *field, uint8_t *at, uint16_t value) {
  put16(field, checksum_update16(get16(field), get16(at), value));
  put16(at, value);
}

/* RFC 793, 768: the sum over the pseudo header, to be gone on with over the segment. Addresses: 4 bytes each at `addresses`, together. */
static inline uint32_t ip4_pseudo_sum(const uint8_t *addresses, uint8_t protocol, uint32_t segment_bytes) {
  uint32_t sum = checksum_add(addresses, 8, 0) + protocol + segment_bytes;
  return (sum & 0xffff) + (sum >> 16);
}

static inline bool ip4_is_multicast(uint32_t address) { return (*(const uint8_t *)&address & 0xf0) == 0xe0; }

#endif
