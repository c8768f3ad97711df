/*
 * The store client, the network handshake and the control watch on top of it, against a daemon that answers anything: raw bytes,
 * answers to real requests with values of the fuzzer's choice, events, indices out of range. The guest must neither crash nor
 * lose a request's slot, and everything it has under way fails in order when the stream breaks.
 */
#include "world.h"
#include <stdlib.h>
/* The sources themselves, so that their state can be put back between runs. */
#include "../kernel/store.c"
#include "../kernel/netfront_store.c"
#include "../kernel/netfront_open.c"
#include "../kernel/control.c"

static struct xenstore_domain_interface page;

/* Requests the daemon has seen, the newest last. */
static struct seen {
  uint32_t id, type;
  char path[64];
} seen[64];
static unsigned seen_count;

static void on_up(void *context, const uint8_t *mac) { (void)context, (void)mac; }
static void on_down(void *context) { (void)context; }

static void on_frame(void *context, const uint8_t *frame, size_t length_bytes, uint32_t flags) {
  (void)context, (void)frame, (void)length_bytes, (void)flags;
}

static const struct shoal_net_events net_events = {.up = on_up, .down = on_down, .frame = on_frame};

static void put(const void *bytes, size_t size) {
  const char *from = bytes;
  for (size_t i = 0; i < size && page.rsp_prod - page.rsp_cons < XENSTORE_RING_SIZE; i++) {
    page.rsp[MASK_XENSTORE_IDX(page.rsp_prod++)] = from[i];
  }
}

static char take_byte(void) { return page.req[MASK_XENSTORE_IDX(page.req_cons++)]; }

/* The daemon's side of the requests: whole ones are read and remembered. */
static void serve(void) {
  while (page.req_prod - page.req_cons >= sizeof(struct xsd_sockmsg) && page.req_prod - page.req_cons <= XENSTORE_RING_SIZE) {
    struct xsd_sockmsg header;
    uint32_t start = page.req_cons;
    for (size_t i = 0; i < sizeof header; i++) ((char *)&header)[i] = take_byte();
    if (page.req_prod - page.req_cons < header.len) {
      page.req_cons = start;
      return;
    }
    struct seen *request = &seen[seen_count++ % 64];
    *request = (struct seen){.id = header.req_id, .type = header.type};
    for (size_t i = 0; i < header.len; i++) {
      char c = take_byte();
      if (i < sizeof request->path - 1) request->path[i] = c;
    }
  }
}

static void reply(uint32_t type, uint32_t id, const char *payload, size_t length) {
  struct xsd_sockmsg header = {.type = type, .req_id = id, .len = (uint32_t)length};
  put(&header, sizeof header);
  put(payload, length);
}

static bool ends_with(const char *text, const char *end) {
  return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

/* Answers one request as a sound daemon might. */
static void answer_well(struct input *input) {
  static const char *const states[] = {"1", "2", "3", "4", "5", "6", "", "x"};
  static const char *const backends[] = {"/local/domain/0/backend/vif/1/0", "/local/domain/7/backend/vif/1/0"};
  static const char *const orders[] = {"", "poweroff", "suspend", "reboot"};
  const struct seen *request = &seen[input_byte(input) % 64];
  unsigned choice = input_byte(input);
  const char *value = "";
  if (request->type == XS_READ) {
    if (ends_with(request->path, "/mac")) value = "00:16:3e:00:00:01";
    else if (ends_with(request->path, "/backend")) value = backends[choice % 2];
    else if (ends_with(request->path, "/state")) value = states[choice % 8];
    else if (ends_with(request->path, "/online")) value = choice & 1 ? "1" : "0";
    else if (ends_with(request->path, "shutdown")) value = orders[choice % 4];
  }
  reply(request->type, request->id, value, strlen(value));
}

static void answer(struct input *input, uint32_t type) {
  char payload[700];
  uint32_t id = seen[input_byte(input) % 64].id;
  reply(type, id, payload, input_bytes(input, payload, sizeof payload));
}

static void fire_watch(struct input *input) {
  char event[] = "some/path\0a";
  event[sizeof event - 2] = (char)('a' + input_byte(input) % 3);
  reply(XS_WATCH_EVENT, 0, event, sizeof event);
}

static void act(struct input *input) {
  char bytes[128];
  switch (input_byte(input) % 10) {
    case 0: put(bytes, input_bytes(input, bytes, sizeof bytes)); break;
    case 1: answer(input, XS_READ); break;
    case 2: answer(input, XS_WRITE); break;
    case 3: answer(input, XS_ERROR); break;
    case 4: answer(input, XS_WATCH_EVENT); break;
    case 5: fire_watch(input); break;
    case 6: answer_well(input); break;
    case 7: *(&page.req_cons + input_byte(input) % 4) = input_word(input); break;
    case 8: store_read("some/path", NULL, NULL); break;
    default: serve(); break;
  }
}

static void reset(void) {
  for (size_t i = 0; i < NETFRONT_DEVICES; i++) {
    if (nets[i] == NULL) continue;
    netfront_unlink(nets[i]);
    shoal_free(nets[i]->tx_buffers);
    shoal_free(nets[i]);
    nets[i] = NULL;
  }
  loop_turn();
  memset(&page, 0, sizeof page);
  memset(&parser, 0, sizeof parser);
  memset(pending, 0, sizeof pending);
  memset(watches, 0, sizeof watches);
  memset(seen, 0, sizeof seen);
  queued = 0;
  last_id = 0;
  seen_count = 0;
  asking = false;
  world_reset();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input input = {data, data + size};
  world_reset();
  store_init(&page, 1);
  shoal_net_open(0, &net_events, NULL);
  control_start();
  while (setjmp(world_end) == 0 && input.at < input.end && !broken) {
    act(&input);
    store_poll(NULL);
    loop_turn();
    if (queued > QUEUE_BYTES) abort();
  }
  reset();
  return 0;
}
