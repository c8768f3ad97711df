/*
 * The mount of an object store on a device whose bytes are anybody's: a sound volume whose records and extents are changed, with their
 * checks made right or left wrong. Nothing may be read outside of what was read in, no chunk may belong to two objects, and every
 * object found can be read to its end or says why not.
 */
#include "world.h"
#include <stdlib.h>
#include "loop.h"
#include "../apps/minicache/store_disk_inside.h"

#define DEVICE_BYTES (1u << 20)

struct block_device {
  uint8_t bytes[DEVICE_BYTES];
  struct shoal_block_request *pending[64];
  unsigned count;
};
static struct block_device device;

struct shoal_block_info shoal_block_info(const struct block_device *of) {
  (void)of;
  return (struct shoal_block_info){DEVICE_BYTES, false, true};
}

void shoal_block_submit(struct block_device *to, struct shoal_block_request *request) {
  if (to->count == 64) abort();
  to->pending[to->count++] = request;
}

static void run(void) {
  for (unsigned turns = 0; turns < 3000; turns++) {
    if (device.count > 0) {
      struct shoal_block_request *request = device.pending[0];
      memmove(device.pending, device.pending + 1, --device.count * sizeof *device.pending);
      if (request->operation != SHOAL_BLOCK_FLUSH && request->offset_bytes + request->length_bytes > DEVICE_BYTES) abort();
      if (request->operation == SHOAL_BLOCK_READ) memcpy(request->bytes, device.bytes + request->offset_bytes, request->length_bytes);
      if (request->operation == SHOAL_BLOCK_WRITE) memcpy(device.bytes + request->offset_bytes, request->bytes, request->length_bytes);
      request->done(request, SHOAL_BLOCK_OK);
    }
    world_now_ns += 1000;
    loop_turn();
  }
}

/* A record of the input's making, sealed as if the store had written it. */
static void forge(struct input *input, const struct disk_volume *volume) {
  static uint32_t checks[1u << 16];
  struct disk_extent extents[DISK_EXTENTS];
  uint8_t key[STORE_KEY_BYTES] = {0}, digest[32] = {0}, meta[256], record[DISK_RECORD_BYTES];
  uint32_t count = input_byte(input) % 4, chunks = 0;
  key[0] = input_byte(input) % 4;
  for (uint32_t i = 0; i < count; i++) {
    extents[i] = (struct disk_extent){input_byte(input) % volume->chunk_count, input_byte(input) % 4 + 1};
    if (extents[i].first + extents[i].count > volume->chunk_count) extents[i].count = 1;
    chunks += extents[i].count;
  }
  struct disk_write write = {.sector = input_byte(input) % volume->record_sectors, .sequence = input_byte(input), .key = key, .digest = digest,
                             .meta = meta, .extent_count = count, .extents = extents, .checks = checks,
                             .length = (uint64_t)chunks * STORE_CHUNK_BYTES - (chunks > 0 ? input_byte(input) : 0)};
  write.meta_length = (uint32_t)input_bytes(input, meta, sizeof meta);
  uint32_t length = disk_write_record(volume, &write, record);
  uint32_t change = input_word(input), at = change % (length - 8);
  if (change & 1u << 31) {
    record[at] ^= (uint8_t)(change >> 20);
    if (change & 1u << 30) { /* and sealed again */
      uint32_t told = disk_get32(record + 8);
      if (told >= 16 && told <= length) {
        uint64_t check = shoal_siphash(volume->key, record, told - 8);
        memcpy(record + told - 8, &check, 8);
      }
    }
  }
  if (write.sector + length / DISK_SECTOR_BYTES > volume->record_sectors) return;
  memcpy(device.bytes + DISK_RECORDS_BYTES + write.sector * DISK_SECTOR_BYTES, record, length);
}

static void ready(void *arg, int status, struct chunk *chunk) {
  *(int *)arg = status == 0 ? -100 : status;
  if (chunk != NULL) chunk_release(chunk);
}

static int visit(void *arg, struct object *object) {
  struct store *store = arg;
  uint64_t length = object_length(object);
  size_t meta_length;
  volatile uint8_t sum = 0;
  const uint8_t *meta = object_meta(object, &meta_length);
  for (size_t i = 0; i < meta_length; i++) sum = (uint8_t)(sum + meta[i]);
  for (uint64_t at = 0; at < length; at += STORE_CHUNK_BYTES) {
    struct chunk *chunk;
    int status = 0;
    struct reading reading = {.ready = ready, .arg = &status};
    int now = object_read(object, at, &chunk, &reading);
    if (now < 0) break;
    if (now == 1) {
      chunk_release(chunk);
      continue;
    }
    for (unsigned turns = 0; turns < 200 && status == 0; turns++) {
      struct shoal_block_request *request = device.count > 0 ? device.pending[0] : NULL;
      if (request == NULL) abort(); /* it would wait for ever */
      memmove(device.pending, device.pending + 1, --device.count * sizeof *device.pending);
      if (request->operation == SHOAL_BLOCK_READ) memcpy(request->bytes, device.bytes + request->offset_bytes, request->length_bytes);
      request->done(request, SHOAL_BLOCK_OK);
    }
    if (status == 0) abort();
    if (status < 0) break;
  }
  (void)store;
  return object_state(object) < 0; /* it was dropped: the walk is over for this run */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input input = {data, data + size};
  struct disk_volume volume;
  struct store *store;
  world_reset();
  memset(&device, 0, sizeof device);
  if (!disk_plan(&volume, DEVICE_BYTES, 64)) abort();
  volume.key[0] = 1, volume.key[1] = 2;
  disk_write_volume(&volume, device.bytes);
  disk_write_volume(&volume, device.bytes + DISK_SECOND_COPY_BYTES);
  unsigned records = input_byte(&input) % 8;
  while (records-- > 0) forge(&input, &volume);
  while (input.at < input.end) device.bytes[input_word(&input) % (DISK_RECORDS_BYTES + 65536)] ^= input_byte(&input);
  struct store_config config = {.ram_bytes = 700u << 10, .device = &device};
  if (store_open(&store, &config) != 0) abort();
  run();
  if (store_mounted(store) == 0) abort();
  if (store_mounted(store) == 1) {
    uint32_t taken = 0;
    for (uint32_t i = 0; i < store->chunks.count; i++) taken += store->chunks.bits[i / 8] >> i % 8 & 1;
    if (taken + store->chunks.free != store->chunks.count) abort();
    store_each(store, visit, store);
    run();
    if (!store_settled(store)) abort();
  }
  store_close(store);
  return 0;
}
