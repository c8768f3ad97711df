/*
 * Frames from the network into lwIP and the ping application: raw bytes, and, so that the fuzzer gets past handshakes and
 * checksums, ARP, ICMP, UDP and TCP segments built around its bytes with numbers that follow what the guest sent last. Memory
 * runs out now and then. Between runs all connections are aborted and time passes, so that each run starts alike and leaks show.
 */
#include "world.h"
#include <stdlib.h>
/* The glue itself, so that its interface can be put back between runs. */
#include "../kernel/ip.c"
#include "loop.h"
#include "lwip/ip4_frag.h"
#include "lwip/tcp.h"

#define GUEST_IP 0x0a400101u /* 10.64.1.1 */
#define PEER_IP 0x0a400001u  /* 10.64.0.1 */
#define SECOND_NS 1000000000ull

static const uint8_t guest_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2};

static struct shoal_net {
  const struct shoal_net_events *events;
  void *context;
  uint8_t room[SHOAL_NET_FRAME_BYTES];
  bool full;
} wire;

/* What the guest's last TCP segment said. */
static uint32_t their_sequence, their_acknowledgement;

struct shoal_net *shoal_net_open(unsigned index, const struct shoal_net_events *net_events, void *context) {
  if (index != 0) return NULL;
  wire.events = net_events;
  wire.context = context;
  return &wire;
}

uint8_t *shoal_net_reserve(struct shoal_net *net) { return net->full ? NULL : net->room; }

static uint32_t big_endian32(const uint8_t *at) { return (uint32_t)big_endian16(at) << 16 | big_endian16(at + 2); }

void shoal_net_commit(struct shoal_net *net, size_t length, uint32_t flags) {
  const uint8_t *ip = net->room + 14, *tcp = ip + 20;
  (void)flags;
  if (length < 14 || length > SHOAL_NET_FRAME_BYTES) abort();
  if (length < 54 || big_endian16(net->room + 12) != ETHTYPE_IP || ip[9] != 6) return;
  uint32_t payload = big_endian16(ip + 2) - 20u - (tcp[12] >> 4) * 4u;
  their_sequence = big_endian32(tcp + 4) + payload + ((tcp[13] & 3) != 0);
  their_acknowledgement = big_endian32(tcp + 8);
}

static uint8_t *put16(uint8_t *at, unsigned value) {
  at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value;
  return at + 2;
}

static uint8_t *put32(uint8_t *at, uint32_t value) { return put16(put16(at, value >> 16), value & 0xffff); }

static uint8_t *put_ethernet(uint8_t *at, unsigned type) {
  memcpy(at, guest_mac, 6);
  memcpy(at + 6, peer_mac, 6);
  return put16(at + 12, type);
}

/* An IP header with a right checksum around `length` bytes behind it. */
static uint8_t *put_ip(uint8_t *at, uint8_t protocol, size_t length, unsigned fragment) {
  uint32_t sum = 0;
  uint8_t *start = at;
  at = put16(at, 0x4500);
  at = put16(at, (unsigned)(20 + length));
  at = put16(at, 7);
  at = put16(at, fragment);
  at = put16(at, 64u << 8 | protocol);
  at = put16(at, 0);
  at = put32(at, PEER_IP);
  at = put32(at, GUEST_IP);
  for (int i = 0; i < 20; i += 2) sum += big_endian16(start + i);
  sum = (sum & 0xffff) + (sum >> 16);
  put16(start + 10, ~(sum + (sum >> 16)) & 0xffff);
  return at;
}

static void deliver(const uint8_t *frame, size_t length) {
  /* On a heap block of its own, so that the sanitizer sees what reads beyond it. */
  uint8_t *copy = malloc(length);
  memcpy(copy, frame, length);
  wire.events->frame(wire.context, copy, length, SHOAL_NET_CSUM_VALID);
  free(copy);
}

static void send_tcp(struct input *input) {
  uint8_t frame[SHOAL_NET_FRAME_BYTES];
  uint8_t flags = input_byte(input), shift = input_byte(input);
  uint16_t port = (uint16_t)(1000 + (shift & 3));
  uint8_t *payload = frame + 54;
  size_t length = input_bytes(input, payload, sizeof frame - 54);
  uint8_t *at = put_ip(put_ethernet(frame, ETHTYPE_IP), 6, 20 + length, 0);
  at = put16(at, port);
  at = put16(at, 80);
  at = put32(at, their_acknowledgement + (uint32_t)(int8_t)(shift & 0xf0));
  at = put32(at, their_sequence);
  /* Data offset: with the low bit of `shift` options take the payload's first bytes. */
  at = put16(at, (shift & 4 && length >= 12 ? 8u : 5u) << 12 | (flags & 0x3f));
  at = put16(at, 8192);
  put32(at, 0);
  deliver(frame, 54 + length);
}

static void send_ip(struct input *input, uint8_t protocol) {
  uint8_t frame[SHOAL_NET_FRAME_BYTES];
  unsigned fragment = input_byte(input) & 0x80 ? (unsigned)input_byte(input) << 8 | input_byte(input) : 0;
  size_t length = input_bytes(input, frame + 34, sizeof frame - 34);
  put_ip(put_ethernet(frame, ETHTYPE_IP), protocol, length, fragment & 0x3fff);
  deliver(frame, 34 + length);
}

static void send_arp(struct input *input) {
  uint8_t frame[64];
  uint8_t *at = put16(put16(put_ethernet(frame, ETHTYPE_ARP), 1), ETHTYPE_IP);
  at = put16(put16(at, 0x0604), input_byte(input) & 3);
  memcpy(at, peer_mac, 6);
  at = put32(at + 6, input_byte(input) & 1 ? PEER_IP : input_word(input));
  memset(at, 0, 6);
  put32(at + 6, GUEST_IP);
  deliver(frame, 42 + input_byte(input) % 19);
}

static void act(struct input *input) {
  uint8_t frame[SHOAL_NET_FRAME_BYTES];
  size_t length;
  switch (input_byte(input) % 9) {
    case 0:
      length = input_bytes(input, frame, sizeof frame);
      if (length > 0) deliver(frame, length);
      break;
    case 1:
    case 2: send_tcp(input); break;
    case 3: send_ip(input, 1); break;
    case 4: send_ip(input, 17); break;
    case 5: send_arp(input); break;
    case 6: world_now_ns += (uint64_t)input_byte(input) * 50000000ull; break;
    case 7: world_allocations_left = input_byte(input) & 1 ? input_byte(input) % 8 : -1; break;
    default:
      wire.full = input_byte(input) & 1;
      if (!wire.full) wire.events->writable(wire.context);
      break;
  }
}

static void start(void) {
  static const char words[] = "name=fuzz ip=10.64.1.1/16 gw=10.64.0.1";
  config_init(words, sizeof words);
  shoal_app.start();
  wire.events->up(wire.context, guest_mac);
}

static void clear(void) {
  world_allocations_left = -1;
  wire.full = false;
  while (tcp_active_pcbs != NULL) tcp_abort(tcp_active_pcbs);
  while (tcp_tw_pcbs != NULL) tcp_abort(tcp_tw_pcbs);
  for (int i = 0; i < IP_REASS_MAXAGE + 2; i++) ip_reass_tmr();
  for (int i = 0; i < 8; i++) {
    world_now_ns += 8 * SECOND_NS;
    loop_turn();
  }
  etharp_cleanup_netif(&netif);
  their_sequence = their_acknowledgement = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static bool started;
  struct input input = {data, data + size};
  if (!started) {
    world_reset();
    start();
    started = true;
  }
  world_console_length = 0;
  while (input.at < input.end) {
    act(&input);
    loop_turn();
  }
  clear();
  return 0;
}
