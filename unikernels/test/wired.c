/*
 * Wired guests: what a wiring must be to be taken, a device on it from its first turn to frames, orders, and the life of a guest that is
 * suspended and goes on elsewhere, thousands of times, wired or over a store, without losing a page, a grant or a channel.
 */
#include "check.h"
#include "world.h"
#include <stdlib.h>
#include "config.h"
#include "control.h"
#include "loop.h"
#include "netfront.h"
#include "pages.h"
#include "store.h"
#include "wired.h"

#define FRAMES 256u
#define IMAGE_FRAMES 30u
#define CONSOLE_PORT 2u
#define DEVICE_PORT 3u
#define TX_FRAME 100u
#define RX_FRAME 101u

static uint8_t *memory;
static struct wiring_page laid_out;
static struct xenstore_domain_interface store_page;

static unsigned ups, downs, frames;
static uint8_t last_mac[6];

static void on_up(void *context, const uint8_t *mac) {
  (void)context;
  ups++;
  memcpy(last_mac, mac, 6);
}

static void on_down(void *context) {
  (void)context;
  downs++;
}

static void on_frame(void *context, const uint8_t *frame, size_t length, uint32_t flags) {
  (void)context, (void)frame, (void)flags;
  frames += length == 60;
}

static const struct shoal_net_events events = {.up = on_up, .down = on_down, .frame = on_frame};

static struct wired_place place(bool has_store) {
  return (struct wired_place){&laid_out.wiring, memory, IMAGE_FRAMES, FRAMES, CONSOLE_PORT, has_store};
}

static struct wiring_vif sound_vif(uint32_t handle) {
  return (struct wiring_vif){
    .handle = handle, .port = DEVICE_PORT + handle, .tx_frame = TX_FRAME + 2 * handle, .rx_frame = RX_FRAME + 2 * handle,
    .mac = {0, 0x16, 0x3e, 0, 0, 7},
  };
}

/* As the builder leaves it. */
static void lay_out(void) {
  laid_out.wiring = (struct wiring){.magic = WIRING_MAGIC, .version = WIRING_VERSION, .vif_count = 1, .vifs = {sound_vif(0)}};
  memset(memory + TX_FRAME * PAGE_BYTES, 0, 2 * PAGE_BYTES);
  SHARED_RING_INIT((netif_tx_sring_t *)(memory + TX_FRAME * PAGE_BYTES));
  SHARED_RING_INIT((netif_rx_sring_t *)(memory + RX_FRAME * PAGE_BYTES));
}

static bool taken(bool has_store) {
  struct wired_place at = place(has_store);
  wired_init(&at);
  return wired_vif(0) != NULL;
}

static bool told(const char *what) {
  bool found = strstr(world_console, what) != NULL;
  world_console_length = 0;
  world_console[0] = '\0';
  return found;
}

static void test_faults(void) {
  struct wired_place at = place(false);
  struct wiring_vif *vif = laid_out.wiring.vifs;
  lay_out();
  CHECK(taken(false) && wired_order_port() == CONSOLE_PORT && wired_vif(1) == NULL);
  CHECK(wired_page(TX_FRAME) == memory + TX_FRAME * PAGE_BYTES);
  vif->backend = 9; /* what was checked does not change any more */
  CHECK(wired_vif(0)->backend == 0);

  lay_out();
  laid_out.wiring.magic++;
  CHECK(!taken(false) && wired_order_port() == 0 && !told("wiring")); /* none, which is nothing to tell */
  lay_out();
  laid_out.wiring.version++;
  CHECK(!taken(false) && wired_order_port() == 0 && told("wiring: malformed"));
  lay_out();
  CHECK(!taken(true) && told("wiring: malformed"));
  lay_out();
  laid_out.wiring.vif_count = WIRING_VIFS + 1;
  CHECK(!taken(false) && wired_order_port() == CONSOLE_PORT && told("no wired device")); /* orders still reach it */

  static const struct {
    uint32_t handle, port, tx, rx;
    uint16_t backend;
    uint8_t mac;
  } wrong[] = {
    {NETFRONT_DEVICES, 3, 100, 101, 0, 0}, {0, 0, 100, 101, 0, 0},  {0, 64, 100, 101, 0, 0},      {0, CONSOLE_PORT, 100, 101, 0, 0},
    {0, 3, IMAGE_FRAMES - 1, 101, 0, 0},   {0, 3, 100, 0, 0, 0},    {0, 3, FRAMES, 101, 0, 0},    {0, 3, 100, 0xffffffff, 0, 0},
    {0, 3, 100, 100, 0, 0},                {0, 3, 100, 101, 0, 1},  {0, 3, 100, 101, 0x7ff0, 0},
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    lay_out();
    *vif = (struct wiring_vif){wrong[i].handle, wrong[i].port, wrong[i].tx, wrong[i].rx, wrong[i].backend, {wrong[i].mac}};
    CHECK(wired_fault(&laid_out.wiring, &at) != NULL && !taken(false) && told("wiring: malformed"));
  }
  for (int kind = 0; kind < 5; kind++) {
    lay_out();
    for (uint32_t i = 0; i < WIRING_VIFS; i++) vif[i] = sound_vif(i);
    laid_out.wiring.vif_count = WIRING_VIFS;
    CHECK(wired_fault(&laid_out.wiring, &at) == NULL);
    if (kind == 0) vif[3].handle = vif[1].handle;
    if (kind == 1) vif[3].port = vif[0].port;
    if (kind == 2) vif[3].tx_frame = vif[2].tx_frame;
    if (kind == 3) vif[3].tx_frame = vif[0].rx_frame;
    if (kind == 4) vif[3].rx_frame = vif[0].tx_frame;
    CHECK(wired_fault(&laid_out.wiring, &at) != NULL);
  }
}

static void backend_sends(struct shoal_net *net) {
  RING_IDX at = net->rx.sring->rsp_prod;
  uint16_t id = RING_GET_REQUEST(&net->rx, at)->id;
  *RING_GET_RESPONSE(&net->rx, at) = (netif_rx_response_t){.id = id, .status = 60};
  net->rx.sring->rsp_prod++;
}

static void backend_answers(struct shoal_net *net) {
  while (net->tx.sring->rsp_prod != net->tx.sring->req_prod) {
    RING_IDX at = net->tx.sring->rsp_prod;
    uint16_t id = RING_GET_REQUEST(&net->tx, at)->id;
    *RING_GET_RESPONSE(&net->tx, at) = (netif_tx_response_t){.id = id};
    net->tx.sring->rsp_prod++;
  }
}

static bool can_send(struct shoal_net *net) {
  uint8_t *room = shoal_net_reserve(net);
  if (room == NULL) return false;
  memset(room, 0, 60);
  shoal_net_commit(net, 60, 0);
  return true;
}

static struct shoal_net *test_device(void) {
  lay_out();
  CHECK(taken(false));
  struct shoal_net *net = shoal_net_open(0, &events, NULL);
  CHECK(net != NULL && ups == 0 && world_ports == 0 && world_grants == 16 + 8);
  CHECK(world_pages == 16 + 8); /* the rings are the builder's */
  CHECK(net->rx.sring == wired_page(RX_FRAME) && net->rx.sring->req_prod == 16);
  loop_turn();
  CHECK(ups == 1 && last_mac[5] == 7 && world_notifications == 0); /* posted buffers wake nobody */
  CHECK(timers_next_due_ns() == TIMER_NEVER);
  for (int i = 0; i < 5; i++) CHECK(can_send(net));
  loop_turn();
  CHECK(net->tx.sring->req_prod == 5 && world_notifications == 1);
  for (int i = 0; i < 40; i++) {
    backend_sends(net);
    world_fire(DEVICE_PORT);
    loop_turn();
  }
  CHECK(frames == 40 && net->rx.sring->req_prod == 16 + 40 && world_notifications == 1);
  while (can_send(net)) continue;
  loop_turn();
  backend_answers(net);
  world_fire(DEVICE_PORT); /* the one channel tells of answers, too */
  CHECK(shoal_net_reserve(net) != NULL);
  CHECK(shoal_net_open(0, &events, NULL) == NULL);
  CHECK(shoal_net_open(1, &events, NULL) != NULL && told("gave the guest no such device")); /* neither wired nor a store */
  return net;
}

static uint32_t given[WIRING_ADDRESSES];
static size_t given_count;
static bool takes_addresses = true;
static bool on_addresses(const uint32_t *addresses, size_t count) {
  memcpy(given, addresses, count * sizeof *given);
  given_count = count;
  return takes_addresses;
}

static void readdress(uint32_t number, uint32_t count) {
  laid_out.addresses.wanted = number;
  laid_out.addresses.count = count;
  for (uint32_t i = 0; i < WIRING_ADDRESSES; i++) laid_out.addresses.addresses[i] = 0x01000a0a + i;
  laid_out.wiring.order = WIRING_READDRESS;
  world_fire(CONSOLE_PORT);
  CHECK(laid_out.wiring.order == WIRING_NOTHING);
}

static void test_readdress(void) {
  told("");
  readdress(5, 2);
  CHECK(laid_out.addresses.taken == 0 && told("cannot be taken")); /* nobody listens */
  config_listen(on_addresses);
  readdress(6, 2);
  CHECK(given_count == 2 && given[1] == 0x01000a0b && laid_out.addresses.taken == 6 && !told("control"));
  readdress(7, WIRING_ADDRESSES);
  CHECK(given_count == WIRING_ADDRESSES && laid_out.addresses.taken == 7);
  readdress(8, 0);
  CHECK(given_count == 0 && laid_out.addresses.taken == 8);
  readdress(9, WIRING_ADDRESSES + 1);
  CHECK(laid_out.addresses.taken == 8 && told("cannot be taken"));
  readdress(0, 1);
  CHECK(laid_out.addresses.taken == 8);
  takes_addresses = false;
  readdress(10, 1);
  CHECK(laid_out.addresses.taken == 8);
  world_console_length = 0;
}

static void test_map(void) {
  struct wired_place at = place(false);
  lay_out();
  laid_out.map = (struct wiring_map){0};
  wired_init(&at);
  CHECK(!wired_map_is_read());
  wired_show_map(5 * PAGE_BYTES + 8, FRAMES);
  CHECK(laid_out.map.magic == WIRING_MAP_MAGIC && laid_out.map.offset == 5 * PAGE_BYTES + 8 && laid_out.map.pages == FRAMES);
  CHECK(!wired_map_is_read()); /* nobody said so */
  laid_out.map.is_read = 1;
  CHECK(wired_map_is_read() && laid_out.map.is_read == 0 && !wired_map_is_read()); /* for one suspension */
  laid_out.map = (struct wiring_map){.is_read = 1};
  at = place(true);
  wired_init(&at);
  wired_show_map(0, FRAMES);
  CHECK(laid_out.map.magic == 0 && !wired_map_is_read()); /* a guest with a store has no page to say it in */
  lay_out();
  laid_out.map = (struct wiring_map){0};
  at = place(false);
  wired_init(&at);
  world_console_length = 0;
}

static void test_orders(void) {
  control_start();
  laid_out.wiring.order = WIRING_SUSPEND;
  world_fire(CONSOLE_PORT);
  CHECK(world_suspensions == 1 && laid_out.wiring.order == WIRING_NOTHING && told("control: suspend"));
  world_fire(CONSOLE_PORT); /* console input, say */
  CHECK(world_suspensions == 1 && !told("control"));
  laid_out.wiring.order = 4711;
  world_fire(CONSOLE_PORT);
  CHECK(laid_out.wiring.order == WIRING_NOTHING && told("cannot obey order 4711"));
  laid_out.wiring.order = WIRING_SUSPEND; /* left there before the guest listened */
  control_start();
  CHECK(world_suspensions == 2);
  test_readdress();
  test_map();
  if (setjmp(world_end) == 0) {
    laid_out.wiring.order = WIRING_POWEROFF;
    world_fire(CONSOLE_PORT);
    CHECK(!"the guest obeyed the order");
  }
  CHECK(laid_out.wiring.order == WIRING_NOTHING);
}

/* What platform/xen/suspend.c does between two domains. */
static void go_on(bool with_store) {
  struct wired_place at = place(with_store);
  world_new_domain();
  store_page.rsp_prod += 7; /* left over from another daemon */
  store_init(with_store ? &store_page : NULL, with_store ? 1 : 0);
  wired_resume(&at);
  netfront_forget_all();
  netfront_start_all();
  control_start();
  loop_turn();
}

static void test_resume(struct shoal_net *net) {
  unsigned pages = world_pages, ups_before = ups, downs_before = downs;
  for (unsigned round = 1; round <= 3000; round++) {
    world_console_length = 0;
    world_notifications = 0;
    lay_out();
    laid_out.wiring.vifs[0].mac[5] = (uint8_t)round;
    laid_out.wiring.vifs[0].port = DEVICE_PORT + round % 5;
    for (unsigned i = 0; i < round % 9; i++) can_send(net); /* lost with the domain */
    go_on(false);
    if (ups != ups_before + round || downs != downs_before + round || last_mac[5] != (uint8_t)round) CHECK(!"down and up once a round");
    if (world_pages != pages || world_grants != 16 + 8 || world_ports != 0) CHECK(!"nothing is lost by a round");
    if (net->rx.sring->req_prod != 16 || net->tx.sring->req_prod != 0) CHECK(!"fresh rings");
    backend_sends(net);
    frames = 0;
    world_fire(DEVICE_PORT + round % 5);
    if (frames != 1 || !can_send(net)) CHECK(!"frames in and out");
    loop_turn();
    if (net->tx.sring->req_prod != 1 || world_notifications != 1) CHECK(!"the frame went out");
    if (round % 100 == 0) { /* a device that was given up works again elsewhere */
      net->rx.sring->rsp_prod += 500;
      world_fire(DEVICE_PORT + round % 5);
      if (!net->broken) CHECK(!"a broken device");
    }
  }
  /* Ring pages that were not set aside at the start are somebody else's. */
  lay_out();
  laid_out.wiring.vifs[0].tx_frame = 150;
  told("");
  go_on(false);
  CHECK(wired_vif(0) == NULL && told("none at the start") && shoal_net_reserve(net) == NULL);
  CHECK(world_grants == 0 && world_pages == pages);
}

static void test_resume_to_store(struct shoal_net *net) {
  unsigned pages = world_pages;
  for (unsigned round = 0; round < 1000; round++) {
    world_console_length = 0;
    laid_out.wiring.magic = 0;
    store_page.req_cons = store_page.req_prod;
    go_on(true);
    if (!net->linked || !net->own_rings || world_pages != pages + 2 * 2) CHECK(!"rings of its own");
    if (world_grants != 2 * (2 + 16 + 8) || world_ports != 2 * 2) CHECK(!"granted and announced once");
    if (store_is_quiet()) CHECK(!"asked the store");
  }
  lay_out();
  go_on(false); /* and back; device 1 is gone with the store */
  CHECK(can_send(net) && world_pages == pages && world_grants == 16 + 8 && world_ports == 0 && store_is_quiet());
}

int main(void) {
  memory = aligned_alloc(PAGE_BYTES, FRAMES * PAGE_BYTES);
  world_reset();
  test_faults();
  struct shoal_net *net = test_device();
  test_orders();
  test_resume(net);
  test_resume_to_store(net);
  for (unsigned i = 0; i < 2; i++) {
    struct shoal_net *device = netfront_device(i);
    shoal_free(device->tx_buffers);
    shoal_free(device);
  }
  world_reset();
  free(memory);
  CHECK_END();
}
