/*
 * Source and sink of small packets, for the benchmark of middleboxes (bench/click): sends UDP packets of 64 bytes (with the frame check sequence) of
 * many flows out of device 0 and counts what comes back in by device 1; of those every 64th is looked at: checksums, and where it says it is
 * from. Answers ARP for every address on both. Does nothing until it is told to by a frame (order.h), and answers with what it counted.
 */
#include "shoal.h"
#include "order.h"
#include "packet.h"

enum { EVERY = 64, TURN = 64 };
#define LOST_NS 100000000ull
#define AFTER_NS 200000000ull /* for those that are still on their way at the end */
/* Longer than that nothing holds this guest up but that the whole emulated machine stands still: not part of the time. */
#define STANDSTILL_NS 1000000000ull

static struct device { struct shoal_net *net; uint8_t mac[6]; bool up; } devices[2];
static uint8_t frames[ORDER_FLOWS_MOST][FRAME];
static struct order_ask order;
static struct order_tell told;
static uint8_t asker[6];
static enum { IDLE, RUNS, ENDS } state;
static uint64_t start_ns, now_ns, last_ns;
static unsigned next_flow;

static bool send_frame(struct device *device, const void *frame, size_t length) {
  uint8_t *room = device->up ? shoal_net_reserve(device->net) : NULL;
  if (room == NULL) return false;
  memcpy(room, frame, length);
  shoal_net_commit(device->net, length, 0);
  return true;
}

static void tell(void) {
  uint8_t frame[HEAD + sizeof told];
  memcpy(frame, asker, 6);
  memcpy(frame + 6, devices[0].mac, 6);
  put16(frame + 12, ORDER_TYPE);
  memcpy(frame + HEAD, &told, sizeof told);
  send_frame(&devices[0], frame, sizeof frame);
}

/* ---- a run ---- */

static uint64_t away(void) { return told.sent - told.received - told.lost; }

static void note_time(void) {
  uint64_t before = now_ns;
  now_ns = shoal_now_ns();
  if (now_ns - before > STANDSTILL_NS) start_ns += now_ns - before, last_ns += now_ns - before;
}

/* By halves of the window, so that neither end is woken for single packets. Returns whether there is more to send at once. */
static bool send_some(void) {
  if (told.received + told.lost > told.sent) told.lost = told.sent - told.received; /* they came after all */
  unsigned room = order.window == 0 ? TURN : away() < order.window ? (unsigned)(order.window - away()) : 0;
  if (order.window != 0 && away() > order.window / 2 && room < TURN) return false;
  for (unsigned i = 0; i < room && i < TURN; i++) {
    if (!send_frame(&devices[0], frames[next_flow], FRAME)) return false;
    next_flow = (next_flow + 1) % order.flows;
    told.sent++;
  }
  return room > TURN || order.window == 0;
}

static void turn(void *context);
static struct shoal_timer turn_timer = {.fire = turn};

static void turn(void *context) {
  (void)context;
  note_time();
  if (state == RUNS && now_ns - start_ns >= (uint64_t)order.run_ms * 1000000) {
    told.took_us = (now_ns - start_ns) / 1000;
    told.in_time = told.received;
    state = ENDS;
    shoal_timer_set(&turn_timer, now_ns + AFTER_NS);
    return;
  }
  if (state == ENDS) {
    state = IDLE;
    tell();
    return;
  }
  if (now_ns - last_ns > LOST_NS) told.lost = told.sent - told.received, last_ns = now_ns;
  bool more = send_some();
  shoal_timer_set(&turn_timer, more ? now_ns : now_ns + 5000000);
}

static void begin(const struct order_ask *asked) {
  order = *asked;
  for (unsigned i = 0; i < order.flows; i++) make_frame(frames[i], order.to, devices[0].mac, i);
  memset(&told, 0, sizeof told);
  memcpy(told.magic, ORDER_TELL, sizeof told.magic);
  told.id = order.id;
  next_flow = 0;
  state = RUNS;
  start_ns = last_ns = now_ns = shoal_now_ns();
  shoal_timer_set(&turn_timer, start_ns);
}

/* ---- frames ---- */

static void obey(const uint8_t *frame, size_t length) {
  struct order_ask asked;
  if (length < HEAD + sizeof asked) return;
  memcpy(&asked, frame + HEAD, sizeof asked);
  if (memcmp(asked.magic, ORDER_ASK, sizeof asked.magic) != 0 || asked.flows < 1 || asked.flows > ORDER_FLOWS_MOST) return;
  memcpy(asker, frame + 6, 6);
  if (state != IDLE) return;
  if (asked.id == told.id) tell();
  else begin(&asked);
}

static void answer_arp(struct device *device, const uint8_t *asked) {
  uint8_t answer[FRAME] = {0};
  if (asked[21] != 1 || memcmp(asked + 28, asked + 38, 4) == 0) return;
  memcpy(answer, asked + 6, 6);
  memcpy(answer + 6, device->mac, 6);
  memcpy(answer + 12, asked + 12, 8);
  answer[21] = 2;
  memcpy(answer + 22, device->mac, 6);
  memcpy(answer + 28, asked + 38, 4);
  memcpy(answer + 32, asked + 22, 10);
  send_frame(device, answer, sizeof answer);
}

static void count_packet(const uint8_t *frame) {
  uint8_t ip[46];
  uint32_t source;
  told.received++;
  if (told.received % EVERY == 1) {
    memcpy(ip, frame + HEAD, sizeof ip);
    source = (uint32_t)ip[12] << 24 | (uint32_t)ip[13] << 16 | (uint32_t)ip[14] << 8 | ip[15];
    told.wrong += !sums_right(ip) || (source & order.source_mask) != order.source;
    told.looked_at++;
    note_time();
    last_ns = now_ns;
  }
  /* The window has room again: what is due is sent once all that came has been taken. */
  if (state == RUNS && away() == order.window / 2) shoal_timer_set(&turn_timer, 0);
}

static void on_frame(void *context, const uint8_t *frame, size_t length, uint32_t flags) {
  struct device *device = context;
  (void)flags;
  if (length < 42) return;
  uint32_t type = (uint32_t)frame[12] << 8 | frame[13];
  if (type == 0x0806) answer_arp(device, frame);
  else if (type == ORDER_TYPE && device == &devices[0]) obey(frame, length);
  else if (device == &devices[1] && state != IDLE && length >= FRAME && memcmp(frame + 42, MARK, 8) == 0) count_packet(frame);
}

static void on_up(void *context, const uint8_t *mac) {
  struct device *device = context;
  memcpy(device->mac, mac, 6);
  device->up = true;
}

static void on_down(void *context) { ((struct device *)context)->up = false; }

static void on_writable(void *context) {
  if (context == &devices[0] && state == RUNS) shoal_timer_set(&turn_timer, 0);
}

static void start(void) {
  static const struct shoal_net_events events = {.up = on_up, .down = on_down, .frame = on_frame, .writable = on_writable};
  for (unsigned i = 0; i < 2; i++) {
    devices[i].net = shoal_net_open(i, &events, &devices[i]);
    if (devices[i].net == NULL) shoal_panic("packets: device %u cannot be opened", i);
  }
  shoal_print("packets: ready\n");
}

const struct shoal_app shoal_app = {.name = "packets", .version = APP_VERSION, .start = start};
