/*
 * A block device for tests of the store, over memory: requests end when the test says so, in any order; it can lose power (what was
 * not flushed is there in part, sector by sector, in any order, and torn within a sector), stop after a number of writes, and fail.
 */
#ifndef TEST_DISK_DEVICE_H
#define TEST_DISK_DEVICE_H

#include "shoal.h"

struct block_device {
  uint8_t *now, *durable;
  uint64_t size_bytes;
  struct shoal_block_request *pending[256];
  size_t marks[256]; /* of a pending flush: the writes that it covers */
  unsigned pending_count;
  struct device_write {
    uint64_t offset;
    uint32_t length;
    uint8_t *bytes;
  } *log;
  size_t log_count, log_room;
  unsigned writes_left; /* until the power fails; UINT32_MAX: never */
  bool dead, readonly, no_flush, bad_order;
  unsigned fail_one_in; /* 0: never */
  unsigned writes, reads, flushes;
};

/* A random number below `end`, from a state of the test's own. */
extern uint64_t device_seed;
uint32_t device_random(uint32_t end);

void device_init(struct block_device *device, uint64_t size_bytes);
void device_free(struct block_device *device);

/* Ends one pending request, any of them; false when there is none or the power is gone. */
bool device_step(struct block_device *device);

/* The power goes, and comes back: pending requests are forgotten. */
void device_crash(struct block_device *device);

#endif
