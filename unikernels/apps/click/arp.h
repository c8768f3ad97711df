/* ARP for IPv4 over Ethernet (RFC 826), as ARPResponder and ARPQuerier read and write it. Pure. */
#ifndef CLICK_ARP_H
#define CLICK_ARP_H

#include "packet.h"

#define ARP_FRAME_BYTES 42u
enum arp_operation { ARP_NONE = 0, ARP_REQUEST = 1, ARP_REPLY = 2 };

/* What a frame asks or says; ARP_NONE: it is no such ARP packet. */
static inline enum arp_operation arp_read(const struct packet *packet) {
  static const uint8_t head[8] = {0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4};
  if (packet->length < ARP_FRAME_BYTES || memcmp(packet->data + 12, head, sizeof head) != 0) return ARP_NONE;
  uint16_t operation = get16(packet->data + 20);
  return operation == ARP_REQUEST || operation == ARP_REPLY ? (enum arp_operation)operation : ARP_NONE;
}
static inline const uint8_t *arp_sender(const struct packet *packet) { return packet->data + 22; }
static inline uint32_t arp_sender_ip(const struct packet *packet) { return get_ip4(packet->data + 28); }
static inline uint32_t arp_target_ip(const struct packet *packet) { return get_ip4(packet->data + 38); }

/* Fills the 42 bytes. */
static inline void arp_write(uint8_t *frame, enum arp_operation operation, const uint8_t *to, const uint8_t *sender, uint32_t sender_ip, const uint8_t *target, uint32_t target_ip) {
  static const uint8_t head[8] = {0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4};
  memcpy(frame, to, 6);
  memcpy(frame + 6, sender, 6);
  memcpy(frame + 12, head, sizeof head);
  put16(frame + 20, operation);
  memcpy(frame + 22, sender, 6);
  put_ip4(frame + 28, sender_ip);
  memcpy(frame + 32, target, 6);
  put_ip4(frame + 38, target_ip);
}

#endif
