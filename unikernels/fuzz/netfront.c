/*
 * A network device with a hostile backend, which writes anything anywhere into the rings, answers out of order, twice, or for
 * what it never got. Frames handed up must lie inside their page, buffers must never be given out twice, and afterwards the
 * device must still be able to leave its rings.
 */
#include "world.h"
#include <stdlib.h>
#include "loop.h"
#include "netfront.h"
#include "pages.h"

static struct shoal_net net;
static unsigned ups, downs;

static void on_up(void *context, const uint8_t *mac) {
  (void)context, (void)mac;
  ups++;
}

static void on_down(void *context) {
  (void)context;
  downs++;
}

static void on_frame(void *context, const uint8_t *frame, size_t length, uint32_t flags) {
  (void)context, (void)flags;
  if (length == 0 || length > SHOAL_NET_FRAME_BYTES) abort();
  volatile uint8_t sum = 0;
  for (size_t i = 0; i < length; i++) sum = (uint8_t)(sum + frame[i]); /* the sanitizer checks the bounds */
  uint8_t *room = shoal_net_reserve(&net);
  if (room == NULL || length < 14) return;
  memcpy(room, frame, length);
  shoal_net_commit(&net, length, flags);
}

static void on_writable(void *context) {
  (void)context;
  if (shoal_net_reserve(&net) == NULL && !net.broken) abort();
}

static const struct shoal_net_events events = {.up = on_up, .down = on_down, .frame = on_frame, .writable = on_writable};

static void check(void) {
  unsigned lent = 0;
  for (unsigned i = 0; i < net.buffer_count; i++) lent += net.tx_buffers[i].lent + net.tx_buffers[i].joined;
  if (net.linked && lent + net.group.count + net.tx_free_count != net.buffer_count) abort();
}

static void receive_response(struct input *input) {
  netif_rx_response_t *response = RING_GET_RESPONSE(&net.rx, net.rx.sring->rsp_prod);
  response->id = input_byte(input);
  response->offset = (uint16_t)(input_byte(input) << 4);
  response->flags = input_byte(input);
  response->status = (int16_t)(input_byte(input) << 8 | input_byte(input));
  net.rx.sring->rsp_prod++;
}

static void transmit_response(struct input *input) {
  netif_tx_response_t *response = RING_GET_RESPONSE(&net.tx, net.tx.sring->rsp_prod);
  response->id = input_byte(input);
  response->status = (int16_t)(int8_t)input_byte(input);
  net.tx.sring->rsp_prod++;
}

static void turn(void) {
  world_now_ns += 1000;
  loop_turn();
}

/* Segments that mostly follow each other, as a backend is sent that takes them together; the input says where they do not. */
static void send_segments(struct input *input) {
  uint8_t how = input_byte(input);
  size_t tcp = how & 1 ? 54 : 34;
  uint32_t sequence = 1000;
  net.long_ipv4 = net.long_ipv6 = true;
  for (unsigned i = 0; i <= how >> 3; i++) {
    uint8_t *frame = shoal_net_reserve(&net);
    if (frame == NULL) return;
    size_t data = how & 2 ? 1000 : input_byte(input) * 5u;
    memset(frame, 0, tcp + 20 + data);
    if (tcp == 54) frame[12] = 0x86, frame[13] = 0xdd, frame[14] = 0x60, frame[20] = 6;
    else frame[12] = 8, frame[14] = 0x45, frame[23] = 6;
    for (unsigned k = 0; k < 4; k++) frame[tcp + 4 + k] = (uint8_t)(sequence >> (24 - 8 * k));
    frame[tcp + 12] = how & 4 ? input_byte(input) : 0x50;
    frame[tcp + 13] = 16;
    sequence += (uint32_t)data;
    shoal_net_commit(&net, tcp + 20 + data, SHOAL_NET_CSUM_BLANK);
  }
}

static void act(struct input *input) {
  static const uint8_t mac[6] = {2};
  uint8_t *room;
  switch (input_byte(input) % 11) {
    case 0: receive_response(input); break;
    case 1: transmit_response(input); break;
    case 2: netfront_poll(&net); break;
    case 3:
      room = shoal_net_reserve(&net);
      if (room == NULL) break;
      memset(room, 0x5a, SHOAL_NET_FRAME_BYTES);
      shoal_net_commit(&net, 14u + input_byte(input), input_byte(input) & 3u);
      break;
    case 4: *((uint32_t *)net.rx.sring + input_byte(input) % 16) = input_word(input); break;
    case 5: *((uint32_t *)net.tx.sring + input_byte(input) % 16) = input_word(input); break;
    case 6: *((uint8_t *)net.rx.sring + input_word(input) % PAGE_BYTES) = input_byte(input); break;
    case 7: turn(); break;
    case 9: send_segments(input); break;
    case 8:
      world_grants_stuck = input_byte(input) & 1;
      netfront_unlink(&net);
      world_grants_stuck = false;
      if (netfront_link(&net, (domid_t)(input_byte(input) & 1))) netfront_up(&net, mac);
      break;
    default: world_fire(input_byte(input) & 1 ? net.link.tx_port : net.link.rx_port); break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t mac[6] = {2};
  struct input input = {data, data + size};
  world_reset();
  ups = downs = 0;
  if (!netfront_init(&net, 0, &events, NULL) || !netfront_link(&net, 0)) abort();
  netfront_up(&net, mac);
  while (input.at < input.end && net.linked) {
    act(&input);
    check();
  }
  turn();
  netfront_unlink(&net);
  if (ups != downs) abort();
  shoal_free(net.tx_buffers);
  world_reset();
  return 0;
}
