/* What the tests of the store share: bodies that can be told by their key and version, and a store that is driven by hand. */
#ifndef TEST_DISK_RIG_H
#define TEST_DISK_RIG_H

#include "check.h"
#include "world.h"
#include <stdlib.h>
#include "loop.h"
#include "disk_device.h"
#include "../apps/minicache/store_disk_inside.h"

#define RIG_DEVICE_BYTES (4u << 20)
#define RIG_RAM_BYTES (900u << 10)

static struct store *rig_store;
static struct block_device rig_device;

static inline void rig_turn(void) {
  world_now_ns += 1000;
  loop_turn();
}

/* Until nothing moves any more; false when it never does. */
static inline bool rig_settle(void) {
  for (unsigned turns = 0; turns < 100000; turns++) {
    rig_turn();
    if (rig_device.dead) return false;
    if (!device_step(&rig_device) && rig_store != NULL && store_mounted(rig_store) != 0 && (store_mounted(rig_store) < 0 || store_settled(rig_store))) return true;
  }
  return false;
}

static inline void rig_mount(uint64_t ram_bytes) {
  struct store_config config = {.ram_bytes = ram_bytes, .device = &rig_device};
  int status = store_open(&rig_store, &config);
  if (status != 0) abort();
  for (unsigned turns = 0; turns < 100000 && store_mounted(rig_store) == 0 && !rig_device.dead; turns++) {
    device_step(&rig_device);
    rig_turn();
  }
}

/* As a restart of the guest: the store in RAM is gone, the device stays as it is. */
static inline void rig_close(void) {
  if (rig_store == NULL) return;
  store_close(rig_store);
  while (device_step(&rig_device)) continue;
  rig_store = NULL;
}

/* As when the power goes: nothing is ended, the guest is no more. */
static inline void rig_lose_power(void) {
  device_crash(&rig_device);
  shoal_timer_cancel(&rig_store->tick);
  shoal_timer_cancel(&rig_store->retry);
  shoal_free(rig_store->memory);
  shoal_free(rig_store);
  rig_store = NULL;
}

static inline void rig_key(uint8_t key[STORE_KEY_BYTES], uint32_t number) {
  for (unsigned i = 0; i < STORE_KEY_BYTES; i++) key[i] = (uint8_t)((number + 1) * 2654435761u >> (i % 4 * 8));
}

static inline uint8_t rig_byte(uint32_t number, uint32_t version, uint64_t at) {
  return (uint8_t)((number * 31 + version * 17 + 1) * (uint32_t)(at / 7 + 3) >> 5 ^ at);
}

/* Appends the body's bytes from `from` on; how many were taken, or an error. */
static inline int64_t rig_append(struct object *object, uint32_t number, uint32_t version, uint64_t from, uint32_t length) {
  uint8_t *bytes = malloc(length + 1);
  for (uint32_t i = 0; i < length; i++) bytes[i] = rig_byte(number, version, from + i);
  int64_t taken = object_append(object, bytes, length);
  free(bytes);
  return taken;
}

struct rig_reading {
  struct reading reading;
  struct chunk *chunk;
  int status;
  bool done;
};

static inline void rig_ready(void *arg, int status, struct chunk *chunk) {
  struct rig_reading *mine = arg;
  if (mine->done) abort(); /* told twice */
  mine->status = status;
  mine->chunk = chunk;
  mine->done = true;
}

/* Reads from `offset` on and waits for it; NULL with *status when that fails. */
static inline struct chunk *rig_read(struct object *object, uint64_t offset, int *status) {
  struct rig_reading mine = {.reading = {.ready = rig_ready, .arg = &mine}};
  *status = object_read(object, offset, &mine.chunk, &mine.reading);
  for (unsigned turns = 0; *status == 0 && !mine.done && turns < 100000; turns++) {
    device_step(&rig_device);
    rig_turn();
  }
  if (*status == 0 && !mine.done) {
    object_unread(object, &mine.reading);
    return NULL;
  }
  if (*status == 0) *status = mine.status;
  return *status == 1 ? mine.chunk : NULL;
}

/* 1: the whole body is that of `version`; 0: it is another; negative: it could not be read. */
static inline int rig_compare(struct object *object, uint32_t number, uint32_t version) {
  uint64_t length = object_length(object);
  for (uint64_t at = 0; at < length;) {
    int status;
    struct chunk *chunk = rig_read(object, at, &status);
    if (chunk == NULL) return status == 0 ? STORE_ABANDONED : status;
    bool same = true;
    for (uint32_t i = 0; i < chunk->length; i++) same &= chunk->data[i] == rig_byte(number, version, at + i);
    if (chunk->length == 0) abort();
    at += chunk->length;
    chunk_release(chunk);
    if (!same) return 0;
  }
  return 1;
}

/* Makes object `number` whole, with a meta that says number and version. */
static inline int rig_put(uint32_t number, uint32_t version, uint64_t length, bool known) {
  uint8_t key[STORE_KEY_BYTES], digest[32] = {(uint8_t)number, (uint8_t)version};
  uint32_t meta[2] = {number, version};
  int error;
  rig_key(key, number);
  struct object *object = store_create(rig_store, key, meta, sizeof meta, known ? length : STORE_UNKNOWN, &error);
  if (object == NULL) return error;
  uint64_t at = 0;
  for (unsigned turns = 0; at < length && turns < 10000; turns++) {
    int64_t taken = rig_append(object, number, version, at, length - at < 20000 ? (uint32_t)(length - at) : 20000);
    if (taken < 0) {
      object_abandon(object, STORE_ABANDONED);
      object_release(object);
      return (int)taken;
    }
    at += (uint64_t)taken;
    device_step(&rig_device);
    rig_turn();
    if (rig_device.dead) break;
  }
  int status = at == length ? object_complete(object, digest) : STORE_ABANDONED;
  object_release(object);
  return status;
}

static inline struct object *rig_find(uint32_t number) {
  uint8_t key[STORE_KEY_BYTES];
  rig_key(key, number);
  return store_find(rig_store, key);
}

#endif
