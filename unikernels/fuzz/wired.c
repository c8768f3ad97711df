/*
 * A wired guest whose wiring, rings and orders are the fuzzer's: a wiring is either refused or refers to memory that is the device's
 * alone; on one that is taken a hostile backend writes anything into the rings (which, unlike those of the store's devices, it had before
 * the guest did); the guest is suspended and goes on with another wiring. Whatever comes, every page and grant is accounted for.
 */
#include "world.h"
#include <stdlib.h>
#include "config.h"
#include "control.h"
#include "loop.h"
#include "netfront.h"
#include "pages.h"
#include "store.h"
/* The sources themselves, so that the devices can be put back between runs. */
#include "../kernel/netfront_open.c"

#define FRAMES 64u
#define IMAGE_FRAMES 8u
#define CONSOLE_PORT 2u

static uint8_t memory[FRAMES * PAGE_BYTES] __attribute__((aligned(4096)));
static struct wiring_page laid_out;
static const struct wired_place place = {&laid_out.wiring, memory, IMAGE_FRAMES, FRAMES, CONSOLE_PORT, false};
static int up_count;

static void on_up(void *context, const uint8_t *mac) {
  (void)context;
  if (mac[0] & 1 || ++up_count > 1) abort();
}

static void on_down(void *context) {
  (void)context;
  if (--up_count < 0) abort();
}

static void on_frame(void *context, const uint8_t *frame, size_t length, uint32_t flags) {
  (void)context, (void)flags;
  volatile uint8_t sum = 0;
  for (size_t i = 0; i < length; i++) sum = (uint8_t)(sum + frame[i]);
  uint8_t *room = netfront_device(0) == NULL ? NULL : shoal_net_reserve(netfront_device(0));
  if (room == NULL || length < 14) return;
  memcpy(room, frame, length);
  shoal_net_commit(netfront_device(0), length, flags);
}

static const struct shoal_net_events events = {.up = on_up, .down = on_down, .frame = on_frame};

/* Sound, with a few words of the fuzzer's in it. */
static void lay_out(struct input *input) {
  memset(&laid_out.wiring, 0, sizeof laid_out.wiring);
  laid_out.wiring.magic = WIRING_MAGIC;
  laid_out.wiring.version = WIRING_VERSION;
  laid_out.wiring.vif_count = 1 + input_byte(input) % 2;
  for (uint32_t i = 0; i < WIRING_VIFS; i++) laid_out.wiring.vifs[i] = (struct wiring_vif){i, 3 + i, 20 + 2 * i, 21 + 2 * i, 0, {2}};
  for (unsigned count = input_byte(input) % 4; count > 0; count--) {
    *((uint32_t *)&laid_out.wiring + input_byte(input) % (sizeof laid_out.wiring / 4)) = input_byte(input) & 1 ? input_word(input) : input_byte(input);
  }
  if (laid_out.wiring.vif_count > WIRING_VIFS || !(input_byte(input) & 3)) return;
  for (uint32_t i = 0; i < laid_out.wiring.vif_count; i++) {
    if (laid_out.wiring.vifs[i].tx_frame >= FRAMES || laid_out.wiring.vifs[i].rx_frame >= FRAMES) continue;
    SHARED_RING_INIT((netif_tx_sring_t *)(memory + laid_out.wiring.vifs[i].tx_frame * PAGE_BYTES));
    SHARED_RING_INIT((netif_rx_sring_t *)(memory + laid_out.wiring.vifs[i].rx_frame * PAGE_BYTES));
  }
}

static void check_wiring(void) {
  for (unsigned i = 0; i < NETFRONT_DEVICES; i++) {
    const struct wiring_vif *vif = wired_vif(i);
    if (vif == NULL) continue;
    if (vif->handle != i || vif->tx_frame < IMAGE_FRAMES || vif->tx_frame >= FRAMES || vif->rx_frame < IMAGE_FRAMES ||
        vif->rx_frame >= FRAMES || vif->tx_frame == vif->rx_frame) {
      abort();
    }
  }
}

static void check(const struct shoal_net *net) {
  unsigned lent = 0;
  for (unsigned i = 0; i < net->buffer_count; i++) lent += net->tx_buffers[i].lent + net->tx_buffers[i].joined;
  if (net->linked && lent + net->group.count + net->tx_free_count != net->buffer_count) abort();
  if (net->linked && (net->own_rings || world_grants != net->buffer_count * 3 / 2)) abort();
  if (world_pages != net->buffer_count * 3 / 2 || world_ports != 0) abort();
}

static bool on_addresses(const uint32_t *addresses, size_t count) {
  uint32_t sum = 0;
  if (count > WIRING_ADDRESSES) abort();
  for (size_t i = 0; i < count; i++) sum += addresses[i];
  return sum & 1;
}

static void go_on(struct input *input) {
  lay_out(input);
  world_new_domain();
  store_init(NULL, 0);
  wired_resume(&place);
  check_wiring();
  netfront_forget_all();
  netfront_start_all();
  control_start();
}

static void act(struct input *input, struct shoal_net *net) {
  const struct wiring_vif *vif = wired_vif(0);
  switch (input_byte(input) % 8) {
    case 0: go_on(input); break;
    case 1:
      world_now_ns += 1000;
      loop_turn();
      break;
    case 2:
      laid_out.wiring.order = input_byte(input) & 1 ? WIRING_SUSPEND : input_word(input);
      if (laid_out.wiring.order % 16 == WIRING_READDRESS) {
        laid_out.wiring.order = WIRING_READDRESS;
        laid_out.addresses.wanted = input_byte(input);
        laid_out.addresses.count = input_byte(input) & 1 ? input_word(input) : input_byte(input) % 10;
        for (unsigned i = 0; i < WIRING_ADDRESSES; i++) laid_out.addresses.addresses[i] = input_byte(input);
      }
      world_fire(CONSOLE_PORT);
      if (wired_order_port() != 0 && laid_out.wiring.order != WIRING_NOTHING) abort();
      break;
    case 3:
      if (vif != NULL) world_fire(vif->port);
      break;
    case 4:
      if (!net->linked) break;
      *RING_GET_RESPONSE(&net->rx, net->rx.sring->rsp_prod) =
        (netif_rx_response_t){.id = input_byte(input), .flags = input_byte(input), .status = (int16_t)input_word(input)};
      net->rx.sring->rsp_prod++;
      break;
    case 5:
      if (!net->linked) break;
      *RING_GET_RESPONSE(&net->tx, net->tx.sring->rsp_prod) = (netif_tx_response_t){.id = input_byte(input)};
      net->tx.sring->rsp_prod++;
      break;
    case 6: *(uint32_t *)(memory + (20 + input_byte(input) % 2) * PAGE_BYTES + 4 * (input_byte(input) % 64)) = input_word(input); break;
    default: {
      uint8_t *room = shoal_net_reserve(net);
      if (room == NULL) break;
      memset(room, 0x5a, SHOAL_NET_FRAME_BYTES);
      shoal_net_commit(net, 14u + input_byte(input), input_byte(input) & 3u);
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input input = {data, data + size};
  world_reset();
  up_count = 0;
  store_init(NULL, 0);
  config_listen(on_addresses);
  lay_out(&input);
  wired_init(&place);
  check_wiring();
  struct shoal_net *net = shoal_net_open(0, &events, NULL);
  if (net == NULL) abort();
  if (setjmp(world_end) == 0) {
    control_start();
    while (input.at < input.end) {
      act(&input, net);
      check(net);
    }
  }
  laid_out.wiring.magic = 0;
  wired_resume(&place);
  netfront_forget_all();
  loop_turn();
  if (up_count != 0) abort();
  shoal_free(net->tx_buffers);
  shoal_free(net);
  nets[0] = NULL;
  world_reset();
  return 0;
}
