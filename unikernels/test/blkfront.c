/*
 * A block device from the store's handshake to requests on its ring, with the test as store daemon and backend: what is written, how
 * requests are split and put together, errors, flushes, grants that last or do not, a backend that goes and comes, another domain.
 */
#include "check.h"
#include "world.h"
#include <stdlib.h>
#include "blkfront.h"
#include "loop.h"
#include "pages.h"
#include "resume.h"
#include "store.h"

#define DISK_BYTES (1u << 20)

const struct shoal_app shoal_app = {.name = "test", .version = "0"};

static struct xenstore_domain_interface page;
static char log_text[8192];
static char backend_state[2] = "2", online[2] = "1", backend_path[40] = "/local/domain/0/backend/vbd/3/51712";
static const char *sectors = "2048", *info = "0", *indirect = "64", *flush = "1", *barrier = "0", *persistent = "0";
static char watch_token[2];
static uint8_t disk[DISK_BYTES];
static unsigned ups, downs, served, indirect_served, flushed, segments_most;
static int status_of_all = BLKIF_RSP_OKAY;

static void on_up(void *context) { (void)context, ups++; }
static void on_down(void *context) { (void)context, downs++; }
static const struct shoal_block_events events = {.up = on_up, .down = on_down};

static void reply(uint32_t type, uint32_t id, const char *payload, size_t length) {
  struct xsd_sockmsg header = {.type = type, .req_id = id, .len = (uint32_t)length};
  for (size_t i = 0; i < sizeof header; i++) page.rsp[MASK_XENSTORE_IDX(page.rsp_prod++)] = ((char *)&header)[i];
  for (size_t i = 0; i < length; i++) page.rsp[MASK_XENSTORE_IDX(page.rsp_prod++)] = payload[i];
}

static const char *value_of(const char *path) {
  const char *key = strrchr(path, '/') + 1;
  if (strcmp(path, "device/vbd/51712/backend") == 0) return backend_path;
  if (strncmp(path, backend_path, strlen(backend_path)) != 0) return NULL;
  if (strcmp(key, "state") == 0) return backend_state;
  if (strcmp(key, "online") == 0) return online;
  if (strcmp(key, "sectors") == 0) return sectors;
  if (strcmp(key, "sector-size") == 0) return "512";
  if (strcmp(key, "info") == 0) return info;
  if (strcmp(key, "feature-max-indirect-segments") == 0) return indirect;
  if (strcmp(key, "feature-flush-cache") == 0) return flush;
  if (strcmp(key, "feature-barrier") == 0) return barrier;
  if (strcmp(key, "feature-persistent") == 0) return persistent;
  return NULL;
}

static void settle(void) {
  for (int turn = 0; turn < 30; turn++) {
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
        char event[256];
        memcpy(watch_token, second, 2);
        reply(XS_WATCH, header.req_id, "OK", 3);
        size_t length = shoal_format(event, sizeof event, "%s", payload) + 1;
        memcpy(event + length, second, 2);
        reply(XS_WATCH_EVENT, 0, event, length + 2);
      } else {
        const char *value = value_of(payload);
        if (value == NULL) reply(XS_ERROR, header.req_id, "ENOENT", 7);
        else reply(XS_READ, header.req_id, value, strlen(value));
      }
      world_fire(1);
    }
    world_now_ns += 1000;
    loop_turn();
  }
}

static void set_backend(const char *state) {
  char event[4] = {'p', '\0', watch_token[0], '\0'};
  backend_state[0] = state[0];
  reply(XS_WATCH_EVENT, 0, event, sizeof event);
  world_fire(1);
  settle();
}

static bool asked(const char *what) { return strstr(log_text, what) != NULL; }
static void forget(void) { memset(log_text, 0, sizeof log_text); }

/* ---- the backend: maps what it is granted, and nothing else ---- */

static RING_IDX consumed;

static void serve_segments(struct block_device *device, uint8_t operation, uint64_t sector, const struct blkif_request_segment *segments, unsigned count) {
  (void)device;
  if (count > segments_most) segments_most = count;
  for (unsigned i = 0; i < count; i++) {
    bool readonly = false;
    uint8_t *at = (uint8_t *)(uintptr_t)world_granted_page(segments[i].gref, &readonly);
    CHECK(at != NULL && segments[i].last_sect < 8 && segments[i].first_sect <= segments[i].last_sect);
    CHECK(operation == BLKIF_OP_WRITE || !readonly); /* what it is to write to, it can */
    uint32_t length = (segments[i].last_sect - segments[i].first_sect + 1u) * 512u;
    CHECK(sector * 512 + length <= DISK_BYTES);
    if (at == NULL || sector * 512 + length > DISK_BYTES) return;
    at += segments[i].first_sect * 512;
    if (operation == BLKIF_OP_WRITE) memcpy(disk + sector * 512, at, length);
    else memcpy(at, disk + sector * 512, length);
    sector += length / 512;
  }
}

static void answer(struct block_device *device, uint64_t id, uint8_t operation, int status) {
  *RING_GET_RESPONSE(&device->ring, device->ring.sring->rsp_prod) = (blkif_response_t){.id = id, .operation = operation, .status = (int16_t)status};
  device->ring.sring->rsp_prod++;
}

/* Serves up to `most` requests; how many there were. */
static unsigned serve(struct block_device *device, unsigned most) {
  unsigned count = 0;
  if (!device->linked || device->broken) return 0;
  for (; count < most && consumed != device->ring.sring->req_prod; count++, consumed++) {
    blkif_request_t request = *RING_GET_REQUEST(&device->ring, consumed);
    served++;
    if (status_of_all != BLKIF_RSP_OKAY) {
      answer(device, request.operation == BLKIF_OP_INDIRECT ? ((blkif_request_indirect_t *)&request)->id : request.id, request.operation, status_of_all);
    } else if (request.operation == BLKIF_OP_INDIRECT) {
      blkif_request_indirect_t *big = (blkif_request_indirect_t *)&request;
      bool readonly;
      const struct blkif_request_segment *list = world_granted_page(big->indirect_grefs[0], &readonly);
      CHECK(list != NULL && big->nr_segments > BLKIF_MAX_SEGMENTS_PER_REQUEST);
      indirect_served++;
      serve_segments(device, big->indirect_op, big->sector_number, list, big->nr_segments);
      answer(device, big->id, request.operation, BLKIF_RSP_OKAY);
    } else {
      flushed += request.operation == BLKIF_OP_FLUSH_DISKCACHE || request.operation == BLKIF_OP_WRITE_BARRIER;
      CHECK(request.nr_segments <= BLKIF_MAX_SEGMENTS_PER_REQUEST);
      serve_segments(device, request.operation, request.sector_number, request.seg, request.nr_segments);
      answer(device, request.id, request.operation, BLKIF_RSP_OKAY);
    }
  }
  device->ring.sring->req_event = consumed + 1;
  if (count > 0) world_fire(device->port);
  return count;
}

/* ---- requests ---- */

static unsigned ended;
static int last_status;

static void on_done(struct shoal_block_request *request, int status) {
  *(unsigned *)request->context += 1;
  ended++;
  last_status = status;
}

static unsigned told[64];
static struct shoal_block_request requests[64];

static void ask(struct block_device *device, unsigned which, enum shoal_block_operation operation, uint64_t offset, void *bytes, uint32_t length) {
  told[which] = 0;
  requests[which] = (struct shoal_block_request){.operation = operation, .offset_bytes = offset, .bytes = bytes, .length_bytes = length,
                                                 .done = on_done, .context = &told[which]};
  shoal_block_submit(device, &requests[which]);
  CHECK(told[which] == 0); /* never from inside the call */
}

static void run(struct block_device *device) {
  for (unsigned turns = 0; turns < 50; turns++) {
    world_now_ns += 1000;
    loop_turn();
    serve(device, 7);
  }
}

static void test_handshake(struct block_device *device) {
  CHECK(device != NULL && ups == 0);
  settle();
  CHECK(asked("W device/vbd/51712/ring-ref=") && asked("W device/vbd/51712/event-channel=") && asked("W device/vbd/51712/protocol=x86_64-abi;"));
  CHECK(asked("W device/vbd/51712/state=3;") && !asked("state=4") && ups == 0);
  CHECK(shoal_block_info(device).size_bytes == 0);
  set_backend("4");
  CHECK(asked("W device/vbd/51712/state=4;") && ups == 1);
  CHECK(shoal_block_info(device).size_bytes == DISK_BYTES && shoal_block_info(device).flushes && !shoal_block_info(device).readonly);
}

static void test_requests(struct block_device *device, uint8_t *bytes) {
  for (unsigned i = 0; i < DISK_BYTES; i++) disk[i] = (uint8_t)(i * 7 >> 3);
  /* Sizes and offsets around pages, the eleven of a request, and the most. */
  static const uint32_t lengths[] = {512, 4096, 4608, 11 * 4096, 11 * 4096 + 512, 16384, 65536, 262144, 262144 - 512};
  for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    for (unsigned shift = 0; shift < 4096 && shift + lengths[i] <= 262144; shift += 1536) {
      uint64_t offset = 512 * (i * 37 + 1);
      memset(bytes, 0, 262144);
      ask(device, 0, SHOAL_BLOCK_READ, offset, bytes + shift, lengths[i]);
      run(device);
      CHECK(told[0] == 1 && last_status == SHOAL_BLOCK_OK && memcmp(bytes + shift, disk + offset, lengths[i]) == 0);
      CHECK((shift == 0 || bytes[shift - 1] == 0) && (shift + lengths[i] == 262144 || bytes[shift + lengths[i]] == 0));
      for (uint32_t j = 0; j < lengths[i]; j++) bytes[shift + j] = (uint8_t)(j * 13 >> 2);
      uint8_t before = disk[offset - 1], after = disk[offset + lengths[i]];
      ask(device, 0, SHOAL_BLOCK_WRITE, offset, bytes + shift, lengths[i]);
      run(device);
      CHECK(told[0] == 1 && memcmp(bytes + shift, disk + offset, lengths[i]) == 0 && disk[offset - 1] == before && disk[offset + lengths[i]] == after);
    }
  }
  /* Many at once: more than the ring has slots. */
  unsigned notifications = world_notifications;
  for (unsigned i = 0; i < 60; i++) ask(device, i, SHOAL_BLOCK_READ, i * 4096, bytes + i * 4096, 4096);
  loop_turn();
  CHECK(world_notifications == notifications + 1 && device->ring.sring->req_prod - consumed == BLKFRONT_SLOTS);
  run(device);
  for (unsigned i = 0; i < 60; i++) CHECK(told[i] == 1);
  CHECK(memcmp(bytes, disk, 60 * 4096) == 0);
}

static void test_refused(struct block_device *device, uint8_t *bytes) {
  static const struct {
    uint64_t offset;
    uint32_t length, shift;
  } bad[] = {{0, 0, 0}, {0, 100, 0}, {100, 512, 0}, {0, 512, 1}, {DISK_BYTES, 512, 0}, {DISK_BYTES - 512, 1024, 0}, {UINT64_MAX - 511, 512, 0}, {0, 262144 + 512, 0}};
  unsigned before = served;
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    ask(device, 0, SHOAL_BLOCK_READ, bad[i].offset, bytes + bad[i].shift, bad[i].length);
    run(device);
    CHECK(told[0] == 1 && last_status == SHOAL_BLOCK_REFUSED);
  }
  CHECK(served == before);
}

static void test_status(struct block_device *device, uint8_t *bytes) {
  status_of_all = BLKIF_RSP_ERROR;
  ask(device, 0, SHOAL_BLOCK_READ, 0, bytes, 65536);
  run(device);
  CHECK(told[0] == 1 && last_status == SHOAL_BLOCK_FAILED);
  status_of_all = BLKIF_RSP_OKAY;
  unsigned before = flushed;
  ask(device, 0, SHOAL_BLOCK_FLUSH, 0, NULL, 0);
  run(device);
  CHECK(told[0] == 1 && last_status == SHOAL_BLOCK_OK && flushed == before + 1);
  status_of_all = BLKIF_RSP_EOPNOTSUPP; /* it had said that it can */
  ask(device, 0, SHOAL_BLOCK_FLUSH, 0, NULL, 0);
  run(device);
  CHECK(told[0] == 1 && last_status == SHOAL_BLOCK_OK && !shoal_block_info(device).flushes);
  status_of_all = BLKIF_RSP_OKAY;
  ask(device, 0, SHOAL_BLOCK_FLUSH, 0, NULL, 0);
  run(device);
  CHECK(told[0] == 1 && flushed == before + 1);
}

static void test_reconnect(struct block_device *device, uint8_t *bytes) {
  unsigned grants = world_grants, ports = world_ports, pages = world_pages;
  for (unsigned round = 1; round <= 3; round++) {
    for (unsigned i = 0; i < 20; i++) ask(device, i, SHOAL_BLOCK_READ, i * 8192, bytes + i * 8192, 8192);
    loop_turn();
    serve(device, 5);
    consumed = 0;
    forget();
    set_backend("5"); /* in the middle of it */
    CHECK(downs == round && asked("W device/vbd/51712/state=6;"));
    set_backend("6");
    CHECK(asked("W device/vbd/51712/state=1;"));
    memset(bytes, 0, 20 * 8192);
    set_backend("2");
    CHECK(asked("W device/vbd/51712/state=3;"));
    set_backend("4");
    CHECK(ups == round + 1);
    run(device);
    for (unsigned i = 0; i < 20; i++) CHECK(told[i] == 1 && last_status == SHOAL_BLOCK_OK);
    CHECK(memcmp(bytes + 5 * 8192, disk + 5 * 8192, 15 * 8192) == 0);
    flush = "1";
  }
  CHECK(world_grants == grants && world_ports == ports && world_pages == pages); /* nothing is lost by a round */
  consumed = 0;
  online[0] = '0';
  set_backend("5");
  set_backend("6");
  ask(device, 0, SHOAL_BLOCK_READ, 0, bytes, 4096);
  run(device);
  CHECK(told[0] == 0); /* it may come back */
  world_now_ns += BLKFRONT_PATIENCE_NS + 1;
  loop_turn();
  loop_turn();
  CHECK(told[0] == 1 && last_status == SHOAL_BLOCK_GONE);
  set_backend("2");
  set_backend("4");
  ask(device, 0, SHOAL_BLOCK_READ, 0, bytes, 4096);
  run(device);
  CHECK(told[0] == 1 && last_status == SHOAL_BLOCK_OK);
}

static void test_another_domain(struct block_device *device, uint8_t *bytes) {
  unsigned before = downs;
  for (unsigned i = 0; i < 5; i++) ask(device, i, SHOAL_BLOCK_READ, i * 65536, bytes + i * 49152, 49152);
  loop_turn();
  consumed = 0;
  world_new_domain();
  memset(&page, 0, sizeof page);
  store_init(&page, 1);
  forget();
  backend_state[0] = '2';
  resume_run(false);
  CHECK(downs == before + 1);
  settle();
  CHECK(asked("W device/vbd/51712/state=3;"));
  set_backend("4");
  run(device);
  for (unsigned i = 0; i < 5; i++) CHECK(told[i] == 1 && memcmp(bytes + i * 49152, disk + i * 65536, 49152) == 0);
}

static void test_lasting(bool backend_can) {
  uint8_t *bytes = pages_alloc(64);
  char number[] = "51728";
  (void)number;
  memcpy(backend_path, "/local/domain/0/backend/vbd/3/51728", 36);
  persistent = backend_can ? "1" : "0";
  consumed = 0;
  struct block_device device;
  CHECK(blkfront_init(&device, 1, &events, NULL, bytes, 64 * PAGE_BYTES) && blkfront_link(&device, 0));
  struct blkfront_features features = {.sectors = 2048, .sector_bytes = 512, .segments_most = 32, .persistent = backend_can};
  blkfront_up(&device, &features);
  unsigned before = world_grants;
  for (unsigned round = 0; round < 3; round++) {
    for (unsigned i = 0; i < 16; i++) ask(&device, i, SHOAL_BLOCK_READ, i * 16384, bytes + i * 16384, 16384);
    run(&device);
    CHECK(memcmp(bytes, disk, 262144) == 0);
    CHECK(world_grants == before + (backend_can ? 64 : 0)); /* kept, each page once; or given back */
  }
  uint8_t *elsewhere = pages_alloc(1);
  ask(&device, 0, SHOAL_BLOCK_READ, 0, elsewhere, 4096);
  run(&device);
  CHECK(last_status == (backend_can ? SHOAL_BLOCK_REFUSED : SHOAL_BLOCK_OK));
  /* Answers to what it was never asked. */
  answer(&device, 3, BLKIF_OP_READ, BLKIF_RSP_OKAY);
  ask(&device, 1, SHOAL_BLOCK_READ, 0, bytes, 4096);
  loop_turn();
  world_fire(device.port);
  run(&device);
  CHECK(device.broken && told[1] == 1 && last_status == SHOAL_BLOCK_GONE);
  blkfront_unlink(&device);
  CHECK(world_grants <= before);
  shoal_free(device.lasting_refs);
}

int main(void) {
  world_reset();
  memset(&page, 0, sizeof page);
  store_init(&page, 1);
  uint8_t *bytes = pages_alloc(64);
  struct block_device *device = shoal_block_open(0, &events, NULL, NULL, 0);
  CHECK(shoal_block_open(0, &events, NULL, NULL, 0) == NULL && shoal_block_open(BLKFRONT_DEVICES, &events, NULL, NULL, 0) == NULL);
  test_handshake(device);
  unsigned grants = world_grants;
  test_requests(device, bytes);
  CHECK(world_grants == grants && indirect_served > 0 && segments_most == 64); /* every grant was given back */
  test_refused(device, bytes);
  test_status(device, bytes);
  test_reconnect(device, bytes);
  test_another_domain(device, bytes);
  test_lasting(true);
  test_lasting(false);
  shoal_free(device);
  world_reset();
  CHECK_END();
}
