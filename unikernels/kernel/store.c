/*
 * See store.h. The ring is shared with the store daemon, which the guest trusts for its values but not for its indices and
 * lengths: after nonsense the store counts as broken, everything under way fails, and the guest goes on without it.
 */
#include "store.h"
#include <xen/io/xs_wire.h>
#include "barrier.h"
#include "events.h"
#include "loop.h"

_Static_assert(offsetof(struct xenstore_domain_interface, req_cons) == 2048, "the ring page of xs_wire.h");

/* Room for requests beyond what the ring (1,024 bytes) takes at once. */
#define QUEUE_BYTES 1024u

static struct xenstore_domain_interface *ring;
static uint32_t ring_port;
static bool broken = true;
static struct store_parser parser;
static uint32_t last_id;
static unsigned sent_count;

static char queue[QUEUE_BYTES];
static size_t queued;
static struct loop_batch notify_later;

static struct pending {
  uint32_t id, type; /* id 0: unused */
  store_handler *handler;
  void *context;
} pending[STORE_PENDING];

static struct watch {
  void (*changed)(void *context);
  void *context;
} watches[STORE_WATCHES];

static void fail_all(const char *why) {
  broken = true;
  shoal_print("store: %s; going on without it\n", why);
  for (size_t i = 0; i < STORE_PENDING; i++) {
    struct pending done = pending[i];
    pending[i].id = 0;
    if (done.id != 0 && done.handler != NULL) done.handler(done.context, STORE_EIO, "", 0);
  }
}

/* Moves as much as fits from the queue to the ring. */
static void push(void) {
  uint32_t producer = ring->req_prod;
  uint32_t used = producer - *(volatile uint32_t *)&ring->req_cons;
  if (used > XENSTORE_RING_SIZE) {
    fail_all("request ring indices make no sense");
    return;
  }
  barrier_full(); /* the daemon has done with the room before we write to it */
  size_t count = XENSTORE_RING_SIZE - used < queued ? XENSTORE_RING_SIZE - used : queued;
  if (count == 0) return;
  for (size_t i = 0; i < count; i++) ring->req[MASK_XENSTORE_IDX(producer + i)] = queue[i];
  barrier_write(); /* bytes before the index that shows them */
  *(volatile uint32_t *)&ring->req_prod = producer + (uint32_t)count;
  queued -= count;
  memmove(queue, queue + count, queued);
  loop_flush_later(&notify_later);
}

static void notify(void *context) {
  (void)context;
  event_notify(ring_port);
}

static void append(const char *bytes, size_t count) {
  memcpy(queue + queued, bytes, count);
  queued += count;
}

/* Sends `first` NUL `second` (with a NUL of its own when second_terminated). */
static bool request(uint32_t type, const char *first, const char *second, bool second_terminated, store_handler *handler,
                    void *context) {
  size_t first_length = strlen(first) + 1;
  size_t second_length = second == NULL ? 0 : strlen(second) + (second_terminated ? 1 : 0);
  struct xsd_sockmsg header = {.type = type, .len = (uint32_t)(first_length + second_length)};
  if (broken) {
    if (handler != NULL) handler(context, STORE_EIO, "", 0);
    return true;
  }
  if (sizeof header + header.len > QUEUE_BYTES - queued) return false;
  struct pending *slot = NULL;
  for (size_t i = 0; i < STORE_PENDING && slot == NULL; i++) {
    if (pending[i].id == 0) slot = &pending[i];
  }
  if (slot == NULL) return false;
  if (++last_id == 0) last_id = 1;
  header.req_id = last_id;
  *slot = (struct pending){last_id, type, handler, context};
  append((const char *)&header, sizeof header);
  append(first, first_length);
  if (second != NULL) append(second, second_length);
  sent_count++;
  push();
  return true;
}

bool store_read(const char *path, store_handler *handler, void *context) {
  return request(XS_READ, path, NULL, false, handler, context);
}

bool store_write(const char *path, const char *value, store_handler *handler, void *context) {
  return request(XS_WRITE, path, value, false, handler, context);
}

bool store_watch(const char *path, void (*changed)(void *context), void *context) {
  char token[2] = {'a', '\0'};
  size_t i = 0;
  while (i < STORE_WATCHES && watches[i].changed != NULL) i++;
  if (i == STORE_WATCHES) return false;
  token[0] = (char)('a' + i);
  watches[i] = (struct watch){changed, context};
  if (request(XS_WATCH, path, token, true, NULL, NULL)) return true;
  watches[i].changed = NULL;
  return false;
}

static void handle(const struct store_message *message) {
  if (message->header.type == XS_WATCH_EVENT) {
    const char *path, *token;
    if (!store_parse_event(message, &path, &token)) return;
    size_t i = (size_t)(unsigned char)token[0] - 'a';
    if (token[0] < 'a' || token[1] != '\0' || i >= STORE_WATCHES || watches[i].changed == NULL) return;
    watches[i].changed(watches[i].context);
    return;
  }
  for (size_t i = 0; i < STORE_PENDING; i++) {
    if (pending[i].id == 0 || pending[i].id != message->header.req_id) continue;
    struct pending done = pending[i];
    int error = 0;
    pending[i].id = 0;
    if (message->header.type == XS_ERROR) error = store_parse_error(message);
    else if (message->header.type != done.type) error = STORE_EPROTO;
    else if (message->truncated) error = STORE_EOVERFLOW;
    if (done.handler == NULL) return;
    if (error != 0) done.handler(done.context, error, "", 0);
    else done.handler(done.context, 0, message->payload, message->length);
    return;
  }
  /* An answer to nothing we asked is dropped: it can do no harm. */
}

void store_poll(void *context) {
  (void)context;
  while (!broken) {
    uint32_t consumer = ring->rsp_cons;
    uint32_t there = *(volatile uint32_t *)&ring->rsp_prod - consumer;
    if (there > XENSTORE_RING_SIZE) {
      fail_all("reply ring indices make no sense");
      return;
    }
    barrier_read(); /* the index before the bytes it shows */
    if (there == 0) break;
    char bytes[64];
    size_t count = there < sizeof bytes ? there : sizeof bytes;
    for (size_t i = 0; i < count; i++) bytes[i] = ring->rsp[MASK_XENSTORE_IDX(consumer + i)];
    barrier_full(); /* bytes are read before the daemon may overwrite them */
    *(volatile uint32_t *)&ring->rsp_cons = consumer + (uint32_t)count;
    /* The daemon waits for room only when the ring had none to spare. */
    if (there > XENSTORE_RING_SIZE / 2) loop_flush_later(&notify_later);
    const char *at = bytes;
    size_t left = count;
    struct store_message message;
    enum store_parse result;
    while ((result = store_parse(&parser, &at, &left, &message)) == STORE_MESSAGE) {
      handle(&message);
      if (broken) return;
    }
    if (result == STORE_BROKEN) fail_all("a reply is longer than the protocol allows");
  }
  if (!broken && queued > 0) push();
}

void store_init(struct xenstore_domain_interface *interface, uint32_t port) {
  ring = interface;
  ring_port = port;
  broken = port == 0;
  parser.have = 0;
  queued = 0;
  for (size_t i = 0; i < STORE_PENDING; i++) pending[i].id = 0;
  for (size_t i = 0; i < STORE_WATCHES; i++) watches[i].changed = NULL;
  notify_later.flush = notify;
  if (broken) return;
  /* What another daemon left in the ring was not for this domain; a fresh ring is empty anyway. */
  ring->req_prod = *(volatile uint32_t *)&ring->req_cons;
  ring->rsp_cons = *(volatile uint32_t *)&ring->rsp_prod;
  event_bind(port, store_poll, NULL);
}

bool store_exists(void) { return !broken; }

bool store_is_quiet(void) {
  for (size_t i = 0; i < STORE_PENDING; i++) {
    if (pending[i].id != 0) return false;
  }
  return broken || queued == 0;
}

unsigned store_request_count(void) { return sent_count; }
