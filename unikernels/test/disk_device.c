/* See disk_device.h. */
#include "disk_device.h"
#include <stdlib.h>

uint64_t device_seed = 1;

uint32_t device_random(uint32_t end) {
  device_seed ^= device_seed << 13;
  device_seed ^= device_seed >> 7;
  device_seed ^= device_seed << 17;
  return (uint32_t)(device_seed >> 20) % end;
}

void device_init(struct block_device *device, uint64_t size_bytes) {
  memset(device, 0, sizeof *device);
  device->size_bytes = size_bytes;
  device->now = calloc(1, size_bytes);
  device->durable = calloc(1, size_bytes);
  device->writes_left = UINT32_MAX;
}

static void forget_log(struct block_device *device, size_t count) {
  for (size_t i = 0; i < count; i++) free(device->log[i].bytes);
  memmove(device->log, device->log + count, (device->log_count - count) * sizeof *device->log);
  device->log_count -= count;
  for (unsigned i = 0; i < device->pending_count; i++) device->marks[i] -= device->marks[i] < count ? device->marks[i] : count;
}

void device_free(struct block_device *device) {
  if (device->log_count > 0) forget_log(device, device->log_count);
  free(device->log);
  free(device->now);
  free(device->durable);
}

struct shoal_block_info shoal_block_info(const struct block_device *device) {
  return (struct shoal_block_info){device->size_bytes, device->readonly, !device->no_flush};
}

void shoal_block_submit(struct block_device *device, struct shoal_block_request *request) {
  if (device->pending_count == 256) abort();
  if (request->operation != SHOAL_BLOCK_FLUSH &&
      (request->length_bytes == 0 || request->length_bytes % 512 != 0 || request->offset_bytes % 512 != 0 || (uintptr_t)request->bytes % 512 != 0 ||
       request->offset_bytes + request->length_bytes > device->size_bytes || request->length_bytes > SHOAL_BLOCK_REQUEST_BYTES)) {
    abort(); /* the store asks for what no device would do */
  }
  device->marks[device->pending_count] = device->log_count;
  device->pending[device->pending_count++] = request;
}

static void log_write(struct block_device *device, const struct shoal_block_request *request) {
  if (device->log_count == device->log_room) {
    device->log_room = device->log_room * 2 + 64;
    device->log = realloc(device->log, device->log_room * sizeof *device->log);
  }
  uint8_t *copy = malloc(request->length_bytes);
  memcpy(copy, request->bytes, request->length_bytes);
  device->log[device->log_count++] = (struct device_write){request->offset_bytes, request->length_bytes, copy};
}

bool device_step(struct block_device *device) {
  if (device->dead || device->pending_count == 0) return false;
  unsigned which = device_random(device->pending_count);
  struct shoal_block_request *request = device->pending[which];
  size_t mark = device->marks[which];
  bool failed = device->fail_one_in > 0 && device_random(device->fail_one_in) == 0;
  if (request->operation == SHOAL_BLOCK_WRITE && device->writes_left-- == 0) {
    device->dead = true; /* it stays pending: its sectors may be there or not */
    return false;
  }
  device->pending_count--;
  memmove(device->pending + which, device->pending + which + 1, (device->pending_count - which) * sizeof *device->pending);
  memmove(device->marks + which, device->marks + which + 1, (device->pending_count - which) * sizeof *device->marks);
  switch (request->operation) {
    case SHOAL_BLOCK_READ:
      device->reads++;
      memcpy(request->bytes, device->now + request->offset_bytes, request->length_bytes);
      if (failed) memset(request->bytes, 0x5a, request->length_bytes);
      break;
    case SHOAL_BLOCK_WRITE:
      device->writes++;
      if (failed) break;
      memcpy(device->now + request->offset_bytes, request->bytes, request->length_bytes);
      log_write(device, request);
      break;
    case SHOAL_BLOCK_FLUSH:
      device->flushes++;
      if (failed) break;
      for (size_t i = 0; i < mark; i++) memcpy(device->durable + device->log[i].offset, device->log[i].bytes, device->log[i].length);
      forget_log(device, mark);
      break;
  }
  request->done(request, failed ? SHOAL_BLOCK_FAILED : SHOAL_BLOCK_OK);
  return true;
}

static void write_in_part(struct block_device *device, uint64_t offset, const uint8_t *bytes, uint32_t length) {
  for (uint32_t at = 0; at < length; at += 512) {
    uint32_t fate = device_random(4);
    if (fate == 0) continue;
    memcpy(device->durable + offset + at, bytes + at, fate == 1 ? device_random(512) : 512);
  }
}

void device_crash(struct block_device *device) {
  for (unsigned i = 0; i < device->pending_count; i++) {
    if (device->pending[i]->operation == SHOAL_BLOCK_WRITE) log_write(device, device->pending[i]);
  }
  device->pending_count = 0;
  /* Any order: later writes may be there without earlier ones. */
  for (size_t left = device->log_count; left > 0; left--) {
    size_t which = device_random((uint32_t)left);
    struct device_write write = device->log[which];
    device->log[which] = device->log[left - 1];
    device->log[left - 1] = write;
    write_in_part(device, write.offset, write.bytes, write.length);
  }
  if (device->log_count > 0) forget_log(device, device->log_count);
  memcpy(device->now, device->durable, device->size_bytes);
  device->dead = false;
  device->writes_left = UINT32_MAX;
}
