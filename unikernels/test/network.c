/*
 * A device from the store's handshake to frames on its rings, with the test as store daemon and backend: what is written and how
 * often, what happens when the backend goes and comes, how checksums are told, that notifications are few.
 */
#include "check.h"
#include "world.h"
#include <stdlib.h>
#include "control.h"
#include "loop.h"
#include "netfront.h"
#include "store.h"

static struct xenstore_domain_interface page;
static char log_text[4096]; /* "W path=value;" "R path;" "X path;" (watch) of everything that was asked */
static char backend_state[2] = "2";
static char online[2] = "1";
static char order[16];
static char backend_path[40] = "/local/domain/0/backend/vif/3/0";
static char watch_tokens[2][2];

static unsigned ups, downs, frames;
static uint32_t last_flags;
static size_t last_length;

static void on_up(void *context, const uint8_t *mac) {
  (void)context;
  ups++;
  CHECK(mac[0] == 0 && mac[1] == 0x16 && mac[5] == 9);
}

static void on_down(void *context) {
  (void)context;
  downs++;
}

static void on_frame(void *context, const uint8_t *frame, size_t length, uint32_t flags) {
  (void)context, (void)frame;
  frames++;
  last_flags = flags;
  last_length = length;
}

static unsigned writables, frames_before_room;
static void on_writable(void *context) {
  (void)context;
  writables++;
  frames_before_room = frames;
}

static const struct shoal_net_events events = {.up = on_up, .down = on_down, .frame = on_frame, .writable = on_writable};

static void reply(uint32_t type, uint32_t id, const char *payload, size_t length) {
  struct xsd_sockmsg header = {.type = type, .req_id = id, .len = (uint32_t)length};
  for (size_t i = 0; i < sizeof header; i++) page.rsp[MASK_XENSTORE_IDX(page.rsp_prod++)] = ((char *)&header)[i];
  for (size_t i = 0; i < length; i++) page.rsp[MASK_XENSTORE_IDX(page.rsp_prod++)] = payload[i];
}

static bool ends_with(const char *text, const char *end) {
  return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

static const char *value_of(const char *path) {
  if (strcmp(path, "device/vif/0/mac") == 0) return "00:16:3e:00:00:09";
  if (strcmp(path, "device/vif/0/backend") == 0) return backend_path;
  if (ends_with(path, "/state")) return backend_state;
  if (ends_with(path, "/online")) return online;
  if (ends_with(path, "/feature-gso-tcpv4")) return "1";
  if (ends_with(path, "/feature-gso-tcpv6")) return "0";
  if (strcmp(path, "control/shutdown") == 0) return order;
  return NULL;
}

/* The daemon: answers all that was asked, lets the guest take it in, until nothing is asked any more. */
static void settle(void) {
  for (int turn = 0; turn < 20; turn++) {
    char payload[256];
    while (page.req_prod != page.req_cons) {
      struct xsd_sockmsg header;
      for (size_t i = 0; i < sizeof header; i++) ((char *)&header)[i] = page.req[MASK_XENSTORE_IDX(page.req_cons++)];
      for (size_t i = 0; i < header.len; i++) payload[i] = page.req[MASK_XENSTORE_IDX(page.req_cons++)];
      payload[header.len] = '\0';
      size_t at = strlen(log_text);
      const char *second = payload + strlen(payload) + 1;
      if (header.type == XS_WRITE) {
        shoal_format(log_text + at, sizeof log_text - at, "W %s=%s;", payload, second);
        reply(XS_WRITE, header.req_id, "OK", 3);
      } else if (header.type == XS_WATCH) {
        shoal_format(log_text + at, sizeof log_text - at, "X %s;", payload);
        memcpy(watch_tokens[strcmp(payload, "control/shutdown") == 0], second, 2);
        reply(XS_WATCH, header.req_id, "OK", 3);
        char event[64];
        size_t length = shoal_format(event, sizeof event, "%s", payload) + 1;
        memcpy(event + length, second, 2);
        reply(XS_WATCH_EVENT, 0, event, length + 2);
      } else {
        const char *value = value_of(payload);
        shoal_format(log_text + at, sizeof log_text - at, "R %s;", payload);
        if (value == NULL) reply(XS_ERROR, header.req_id, "ENOENT", 7);
        else reply(XS_READ, header.req_id, value, strlen(value));
      }
      world_fire(1);
    }
    loop_turn();
  }
}

static void fire_watch(int which) {
  char event[4] = {'p', '\0', watch_tokens[which][0], '\0'};
  reply(XS_WATCH_EVENT, 0, event, sizeof event);
  world_fire(1);
  settle();
}

static void set_backend(const char *state) {
  backend_state[0] = state[0];
  fire_watch(0);
}

static bool asked(const char *what) { return strstr(log_text, what) != NULL; }
static void forget(void) { memset(log_text, 0, sizeof log_text); }

static unsigned asked_count(void) {
  unsigned count = 0;
  for (const char *at = log_text; *at != '\0'; at++) count += *at == ';';
  return count;
}

static void backend_receives(struct shoal_net *net, uint16_t flags, int16_t status) {
  netif_rx_response_t *response = RING_GET_RESPONSE(&net->rx, net->rx.sring->rsp_prod);
  uint16_t id = RING_GET_REQUEST(&net->rx, net->rx.sring->rsp_prod)->id;
  *response = (netif_rx_response_t){.id = id, .flags = flags, .status = status};
  net->rx.sring->rsp_prod++;
  world_fire(net->link.rx_port);
}

static void test_handshake(struct shoal_net *net) {
  CHECK(net != NULL && ups == 0);
  settle();
  CHECK(ups == 1 && world_grants == 2 + 16 + 8);
  CHECK(asked("W device/vif/0/tx-ring-ref=") && asked("W device/vif/0/rx-ring-ref=") && asked("W device/vif/0/event-channel-tx=") &&
        asked("W device/vif/0/event-channel-rx=") && net->link.tx_port != net->link.rx_port);
  CHECK(asked("W device/vif/0/request-rx-copy=1;W device/vif/0/feature-rx-notify=1;W device/vif/0/state=4;"));
  CHECK(!asked("W device/vif/0/feature-sg") && !asked("W device/vif/0/feature-gso") && !asked("no-csum-offload"));
  CHECK(asked("X /local/domain/0/backend/vif/3/0/state;") && asked("X control/shutdown;"));
  /* 7 writes, 2 reads, 2 watches, one look at what each watch covers, and two at what the backend takes. */
  CHECK(asked_count() == 15);
  forget();
  set_backend("4");
  CHECK(asked_count() == 3 && ups == 1 && downs == 0);
  CHECK(net->long_ipv4 && !net->long_ipv6);
}

/* The backend has done with all it was given. */
static void backend_answers(struct shoal_net *net) {
  while (net->tx.sring->rsp_prod != net->tx.sring->req_prod) {
    RING_IDX at = net->tx.sring->rsp_prod;
    netif_tx_request_t request = *RING_GET_REQUEST(&net->tx, at);
    *RING_GET_RESPONSE(&net->tx, at) = (netif_tx_response_t){.id = request.id};
    net->tx.sring->rsp_prod++;
    if (!(request.flags & NETTXF_extra_info)) continue;
    *RING_GET_RESPONSE(&net->tx, at + 1) = (netif_tx_response_t){.status = NETIF_RSP_NULL, .id = 0xffff};
    net->tx.sring->rsp_prod++;
  }
  world_fire(net->link.tx_port);
}

static void commit_segment(struct shoal_net *net, bool six, uint32_t sequence, size_t data) {
  uint8_t *frame = shoal_net_reserve(net);
  size_t tcp = six ? 54 : 34;
  memset(frame, 0, tcp + 20);
  frame[12] = six ? 0x86 : 8, frame[13] = six ? 0xdd : 0;
  if (six) frame[14] = 0x60, frame[18] = (uint8_t)((20 + data) >> 8), frame[19] = (uint8_t)(20 + data), frame[20] = 6;
  else frame[14] = 0x45, frame[16] = (uint8_t)((40 + data) >> 8), frame[17] = (uint8_t)(40 + data), frame[23] = 6;
  for (unsigned i = 0; i < 4; i++) frame[tcp + 4 + i] = (uint8_t)(sequence >> (24 - 8 * i));
  frame[tcp + 12] = 0x50, frame[tcp + 13] = 16;
  memset(frame + tcp + 20, (int)(sequence / 1000), data);
  shoal_net_commit(net, tcp + 20 + data, SHOAL_NET_CSUM_BLANK);
}

/* What the backend is given from slot `at` on, as one frame; how many slots it takes, that of the extra information included. */
static unsigned whole_frame(struct shoal_net *net, RING_IDX at, uint8_t *whole, uint16_t *each) {
  unsigned slots = 0;
  netif_tx_request_t request = *RING_GET_REQUEST(&net->tx, at);
  size_t total = request.size, rest = 0, length = 0;
  *each = 0;
  if (request.flags & NETTXF_extra_info) {
    const struct netif_extra_info *extra = (const struct netif_extra_info *)RING_GET_REQUEST(&net->tx, at + 1);
    CHECK(extra->type == XEN_NETIF_EXTRA_TYPE_GSO && extra->flags == 0 && extra->u.gso.type == XEN_NETIF_GSO_TYPE_TCPV4);
    *each = extra->u.gso.size;
  }
  for (RING_IDX next = at;;) {
    request = *RING_GET_REQUEST(&net->tx, next);
    slots += next == at && (request.flags & NETTXF_extra_info) ? 2 : 1;
    if (next != at) rest += request.size;
    if (!(request.flags & NETTXF_more_data)) break;
    next = at + slots;
  }
  for (unsigned i = 0; i < slots; i++) {
    if (i == 1 && *each != 0) continue;
    request = *RING_GET_REQUEST(&net->tx, at + i);
    size_t size = i == 0 ? total - rest : request.size;
    CHECK(request.offset + size <= 4096);
    memcpy(whole + length, net->tx_buffers[request.id].bytes - net->tx_buffers[request.id].offset + request.offset, size);
    length += size;
  }
  CHECK(length == total);
  return slots;
}

static bool is_whole(const uint8_t *frame, uint32_t sequence, size_t length) {
  uint32_t sum = 0;
  for (unsigned i = 14; i < 34; i += 2) sum += (uint32_t)(frame[i] << 8 | frame[i + 1]);
  bool right = (sum & 0xffff) + (sum >> 16) == 0xffff && ((size_t)frame[16] << 8 | frame[17]) == 40 + length;
  for (size_t i = 0; i < length; i++) right = right && frame[54 + i] == (uint8_t)(sequence / 1000 + i / 1000);
  return right;
}

/* Segments of a flow are one frame for the backend, in fewer slots than they are, and one for what it is. */
static void test_long(struct shoal_net *net) {
  static uint8_t whole[65536];
  uint16_t each;
  RING_IDX at = net->tx.sring->req_prod;
  for (uint32_t i = 0; i < 3; i++) commit_segment(net, false, 1000 + i * 1000, i == 2 ? 500 : 1000);
  for (uint32_t i = 0; i < 2; i++) commit_segment(net, true, 1000 + i * 1000, 1000); /* not agreed on */
  CHECK(net->tx.sring->req_prod == at);
  loop_turn();
  CHECK(net->tx.sring->req_prod == at + 2 + 2); /* a page, and what it is */
  CHECK(whole_frame(net, at, whole, &each) == 2 && each == 1000 && is_whole(whole, 1000, 2500));
  CHECK((RING_GET_REQUEST(&net->tx, at)->flags & (NETTXF_csum_blank | NETTXF_data_validated)) == (NETTXF_csum_blank | NETTXF_data_validated));
  CHECK(whole_frame(net, at + 2, whole, &each) == 1 && each == 0);
  backend_answers(net);
  shoal_net_reserve(net);
  CHECK(!net->broken && net->tx_free_count == 16);

  /* Until buffers run out: none is lost, and those that were emptied are there again. */
  at = net->tx.sring->req_prod;
  for (uint32_t i = 0; i < 16; i++) commit_segment(net, false, 7000 + 1000 * i, 1000);
  CHECK(shoal_net_reserve(net) != NULL && net->tx_free_count == 8);
  CHECK(whole_frame(net, at, whole, &each) == 5 && net->tx.sring->req_prod == at + 5 && is_whole(whole, 7000, 16000));
  backend_answers(net);
  CHECK(shoal_net_reserve(net) != NULL && net->tx_free_count == 16 && !net->broken);

  /* A hole, another flow, a last segment: each begins anew, in its order. */
  at = net->tx.sring->req_prod;
  const struct { uint32_t sequence; size_t data; } sent[] = {{1000, 1000}, {2000, 1000}, {4000, 1000}, {5000, 300}, {5300, 1000}};
  for (size_t i = 0; i < sizeof sent / sizeof *sent; i++) commit_segment(net, false, sent[i].sequence, sent[i].data);
  loop_turn();
  at += whole_frame(net, at, whole, &each);
  CHECK(each == 1000 && is_whole(whole, 1000, 2000));
  at += whole_frame(net, at, whole, &each);
  CHECK(each == 1000 && is_whole(whole, 4000, 1300));
  at += whole_frame(net, at, whole, &each);
  CHECK(each == 0 && at == net->tx.sring->req_prod);
  backend_answers(net);
  shoal_net_reserve(net);
}

/* Answers to all frames but the last so many. */
static void answer_but(struct shoal_net *net, unsigned frames_left) {
  RING_IDX begins[64], at = net->tx.sring->rsp_prod;
  unsigned count = 0;
  for (bool more = false; at != net->tx.sring->req_prod; at++) {
    netif_tx_request_t request = *RING_GET_REQUEST(&net->tx, at);
    if (!more) begins[count++] = at;
    if (request.flags & NETTXF_extra_info) at++;
    more = (request.flags & NETTXF_more_data) != 0;
  }
  RING_IDX until = frames_left == 0 ? at : count > frames_left ? begins[count - frames_left] : net->tx.sring->rsp_prod, end = net->tx.sring->req_prod;
  net->tx.sring->req_prod = until;
  backend_answers(net);
  net->tx.sring->req_prod = end;
}

/* Whatever halves of pages were used before, and whatever is on its way: all bytes of a flow, in their order, and no buffer is lost. */
static void test_packing(struct shoal_net *net) {
  static uint8_t whole[65536];
  uint32_t roll = 12345, most_slots = 0;
  bool right = true;
  for (unsigned round = 0; round < 3000; round++) {
    roll = roll * 1103515245u + 12345u;
    unsigned segments = 1 + (roll >> 16) % 9, small = (roll >> 20) % 3, left = (roll >> 24) % 3;
    uint16_t each;
    for (unsigned i = 0; i < small && net->tx_free_count > 0; i++) memset(shoal_net_reserve(net), 0, 60), shoal_net_commit(net, 60, 0);
    loop_turn();
    RING_IDX at = net->tx.sring->req_prod;
    uint32_t sequence = 1000, last = (roll >> 8) % 1000;
    if (segments > net->tx_free_count) segments = net->tx_free_count;
    for (unsigned i = 0; i < segments; i++) commit_segment(net, false, 1000 + 1000 * i, i + 1 == segments && i > 0 ? 1 + last : 1000);
    loop_turn();
    while (at != net->tx.sring->req_prod) {
      unsigned slots = whole_frame(net, at, whole, &each);
      size_t data = (size_t)(whole[16] << 8 | whole[17]) - 40;
      for (size_t i = 0; each == 0 && i < data; i++) right = right && whole[54 + i] == (uint8_t)(sequence / 1000 + i / 1000);
      right = right && (each == 0 || is_whole(whole, sequence, data));
      sequence += (uint32_t)data;
      at += slots;
      if (slots > most_slots) most_slots = slots;
    }
    right = right && (segments == 0 || sequence == 1000 + 1000 * (segments - 1) + (segments > 1 ? 1 + last : 1000));
    answer_but(net, left);
    shoal_net_reserve(net);
  }
  answer_but(net, 0);
  shoal_net_reserve(net);
  CHECK(right && !net->broken && net->tx_free_count == 16 && most_slots >= 4);
}

static void test_frames(struct shoal_net *net) {
  world_notifications = 0;
  for (int i = 0; i < 5; i++) {
    uint8_t *room = shoal_net_reserve(net);
    CHECK(room != NULL && room == shoal_net_reserve(net));
    memset(room, 0, 60);
    shoal_net_commit(net, 60, i == 0 ? SHOAL_NET_CSUM_BLANK : 0);
  }
  CHECK(net->tx.sring->req_prod == 0);
  loop_turn();
  CHECK(net->tx.sring->req_prod == 5 && world_notifications == 1); /* one for all five */
  CHECK(RING_GET_REQUEST(&net->tx, 0)->flags == (NETTXF_csum_blank | NETTXF_data_validated));
  CHECK(RING_GET_REQUEST(&net->tx, 1)->flags == 0);

  backend_receives(net, 0, 60);
  CHECK(frames == 1 && last_flags == 0 && last_length == 60);
  backend_receives(net, NETRXF_csum_blank | NETRXF_data_validated, 1514);
  CHECK(frames == 2 && last_flags == (SHOAL_NET_CSUM_BLANK | SHOAL_NET_CSUM_VALID) && last_length == 1514);
  backend_receives(net, NETRXF_data_validated, 100);
  CHECK(frames == 3 && last_flags == SHOAL_NET_CSUM_VALID);
  backend_receives(net, NETRXF_more_data, 100); /* over two buffers: not agreed on */
  backend_receives(net, 0, 100);
  backend_receives(net, 0, 1515);
  backend_receives(net, 0, -1);
  CHECK(frames == 3 && !net->broken);
  loop_turn();
  CHECK(net->rx.sring->req_prod == 16 + 7); /* every buffer went back */

  /* All buffers out: no room, until the backend answers. */
  unsigned sent = 5;
  while (shoal_net_reserve(net) != NULL) shoal_net_commit(net, 60, 0), sent++;
  CHECK(sent == 16);
  CHECK(net->tx.sring->rsp_event == net->tx.sring->rsp_prod + 8); /* half of what is on its way */
  for (int i = 0; i < 16; i++) {
    uint16_t id = RING_GET_REQUEST(&net->tx, net->tx.sring->rsp_prod)->id;
    *RING_GET_RESPONSE(&net->tx, net->tx.sring->rsp_prod) = (netif_tx_response_t){.id = id};
    net->tx.sring->rsp_prod++;
  }
  backend_receives(net, 0, 60);
  CHECK(writables == 1 && frames == 4 && frames_before_room == 3); /* who waits for room is told before others ask for it */
  CHECK(shoal_net_reserve(net) != NULL);
}

static void test_reconnect(struct shoal_net *net) {
  unsigned pages = world_pages, grants = world_grants, ports = world_ports;
  for (unsigned round = 1; round <= 3; round++) {
    forget();
    set_backend("5");
    CHECK(downs == round && asked("W device/vif/0/state=6;") && shoal_net_reserve(net) == NULL);
    forget();
    set_backend("6");
    CHECK(asked("R /local/domain/0/backend/vif/3/0/online;W device/vif/0/state=1;"));
    set_backend("2");
    CHECK(asked("W device/vif/0/state=4;") && ups == round + 1);
    set_backend("4");
    CHECK(shoal_net_reserve(net) != NULL);
  }
  CHECK(world_pages == pages && world_grants == grants && world_ports == ports); /* nothing is lost by a round */
  forget();
  online[0] = '0';
  set_backend("5");
  set_backend("6");
  CHECK(!asked("state=1")); /* it is being removed: left alone */
  set_backend("2");
  set_backend("4");
  set_backend("2"); /* began anew without a farewell */
  CHECK(downs == 5 && ups == 6);
  set_backend("4");
}

static void test_bad_backend(struct shoal_net *net) {
  frames = 0;
  net->rx.sring->rsp_prod += 1000;
  world_fire(net->link.rx_port);
  CHECK(net->broken && frames == 0 && downs == 6 && shoal_net_reserve(net) == NULL);
  set_backend("6");
  set_backend("2");
  CHECK(net->broken && ups == 6);
}

int main(void) {
  world_reset();
  memset(&page, 0, sizeof page);
  store_init(&page, 1);
  struct shoal_net *net = shoal_net_open(0, &events, NULL);
  control_start();
  CHECK(shoal_net_open(0, &events, NULL) == NULL && shoal_net_open(NETFRONT_DEVICES, &events, NULL) == NULL);
  test_handshake(net);
  test_frames(net);
  test_long(net);
  test_packing(net);
  test_reconnect(net);
  test_bad_backend(net);
  memcpy(order, "suspend", 8);
  fire_watch(1);
  CHECK(world_suspensions == 1 && asked("W control/shutdown=;"));
  forget();
  if (setjmp(world_end) == 0) {
    memcpy(order, "poweroff", 9);
    fire_watch(1);
    CHECK(!"the guest obeyed control/shutdown");
  }
  CHECK(asked("W control/shutdown=;")); /* acknowledged first */
  /* A daemon gone mad: the guest goes on without. */
  page.rsp_prod += 5000;
  world_fire(1);
  CHECK(strstr(world_console, "going on without it") != NULL);
  shoal_free(net->tx_buffers);
  shoal_free(net);
  world_reset();
  CHECK_END();
}
