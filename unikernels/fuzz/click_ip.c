/*
 * Frames of any bytes through each ready-made configuration. The first byte says which; then come frames, each with a byte that says by which device and
 * whether what its headers say of it is put right first, so that the inner elements are reached too; and time. All packets must be back in
 * the end, and what leaves must be a frame.
 */
#include "world.h"
#include <stdlib.h>
#include "click_configurations.h"
#include "loop.h"
#include "lwip/netif.h"
#include "../apps/click/ip.h"
#include "../apps/click/requests.h"
#include "../apps/click/router.h"

#define NETS 3u
#define SENT 1u

#include "click_world.h"

/* To the router, as IPv4, with the lengths and the header's checksum that it needs. */
static void put_right(uint8_t *frame, size_t length, unsigned net) {
  static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
  if (length < 34) return;
  memcpy(frame, mac, 6);
  frame[5] = (uint8_t)(net + 1);
  bool is_6 = frame[14] >> 4 == 6;
  put16(frame + 12, is_6 ? 0x86dd : 0x0800);
  if (is_6) {
    if (length >= 54) put16(frame + 18, (uint32_t)(length - 54));
    return;
  }
  uint32_t header = (frame[14] & 15u) * 4;
  if (header < 20 || header > length - 14) header = 20;
  frame[14] = (uint8_t)(0x40 | header / 4);
  put16(frame + 16, (uint32_t)(length - 14));
  ip4_set_checksum(frame + 14);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
  static struct errors errors;
  static bool begun;
  if (!begun) world_reset();
  begun = true;
  packet_set_limit(512);
  struct input input = {data, data + size};
  const char *text = configurations[input_byte(&input) % CONFIGURATIONS];
  char *copy = malloc(strlen(text));
  memcpy(copy, text, strlen(text));
  if (!requests_install((struct slice){copy, strlen(text)}, &errors)) abort();
  free(copy);
  for (unsigned i = 0; i < NETS; i++) {
    if (nets[i].events != NULL) nets[i].events->up(nets[i].context, mac);
  }
  for (int i = 0; i < 64 && input.at < input.end; i++) {
    uint8_t bytes[SHOAL_NET_FRAME_BYTES], how = input_byte(&input);
    struct shoal_net *net = &nets[how % NETS];
    size_t length = input_bytes(&input, bytes, sizeof bytes);
    world_now_ns += (uint64_t)(how >> 4) * 20000000ull;
    if (net->events != NULL && length > 0) {
      uint8_t *frame = malloc(length);
      memcpy(frame, bytes, length);
      if (how & 4) put_right(frame, length, how % NETS);
      net->events->frame(net->context, frame, length, how & 8 ? SHOAL_NET_CSUM_BLANK | SHOAL_NET_CSUM_VALID : 0);
      free(frame);
    }
    for (int turn = 0; turn < 4; turn++) loop_turn();
  }
  router_replace(NULL);
  if (packet_counts().in_use != 0) abort();
  world_console_length = 0;
  return 0;
}
