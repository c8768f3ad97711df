/*
 * Readers of the store: misses of one chunk share one read, the next chunks are read ahead, readers follow a filler, none is told after it
 * gave up; and the store in RAM alone, which gives way to what is new and to nothing that is held.
 */
#include "disk_rig.h"

static void test_misses(void) {
  struct rig_reading mine[5];
  struct store_counts before, after;
  device_init(&rig_device, RIG_DEVICE_BYTES);
  rig_mount(RIG_RAM_BYTES);
  CHECK(rig_put(1, 1, 20 * STORE_CHUNK_BYTES + 100, true) == 0 && rig_settle());
  rig_close();
  rig_mount(RIG_RAM_BYTES);
  struct object *object = rig_find(1);
  store_count(rig_store, &before);
  for (unsigned i = 0; i < 5; i++) {
    mine[i] = (struct rig_reading){.reading = {.ready = rig_ready, .arg = &mine[i]}};
    CHECK(object_read(object, i * 100, &mine[i].chunk, &mine[i].reading) == 0);
  }
  store_count(rig_store, &after);
  CHECK(after.device_reads - before.device_reads == 5); /* this chunk once for all, and four ahead */
  object_unread(object, &mine[3].reading);
  while (device_step(&rig_device)) continue;
  for (unsigned i = 0; i < 5; i++) {
    CHECK(mine[i].done == (i != 3));
    if (!mine[i].done) continue;
    CHECK(mine[i].status == 1 && mine[i].chunk->length == STORE_CHUNK_BYTES - i * 100 && mine[i].chunk->data[0] == rig_byte(1, 1, i * 100));
    chunk_release(mine[i].chunk);
  }
  int status;
  struct chunk *chunk = NULL;
  CHECK(object_read(object, 3 * STORE_CHUNK_BYTES + 5, &chunk, &mine[0].reading) == 1); /* it was read ahead */
  CHECK(chunk->data[0] == rig_byte(1, 1, 3 * STORE_CHUNK_BYTES + 5));
  chunk_release(chunk);
  CHECK(rig_read(object, object_length(object), &status) == NULL && status == STORE_TOO_LONG);
  CHECK(rig_compare(object, 1, 1) == 1);
  object_release(object);
  rig_close();
  device_free(&rig_device);
}

/* Every frame is held by readers: the next one waits, and goes on when one lets go. */
static void test_starving(void) {
  device_init(&rig_device, RIG_DEVICE_BYTES);
  rig_mount(RIG_RAM_BYTES);
  CHECK(rig_put(1, 1, 100 * STORE_CHUNK_BYTES, true) == 0 && rig_settle());
  struct object *object = rig_find(1);
  struct chunk *held[100];
  unsigned count = 0;
  int status = 1;
  while (count < 100 && (held[count] = rig_read(object, (uint64_t)count * STORE_CHUNK_BYTES, &status)) != NULL) count++;
  CHECK(count > 8 && count < 100 && status == 0);
  struct rig_reading mine = {.reading = {.ready = rig_ready, .arg = &mine}};
  CHECK(object_read(object, 99 * STORE_CHUNK_BYTES, &mine.chunk, &mine.reading) == 0);
  CHECK(rig_put(2, 1, 3 * STORE_CHUNK_BYTES, true) < 0); /* nor is there room to fill */
  chunk_release(held[--count]);
  chunk_release(held[--count]);
  CHECK(rig_settle() && mine.done && mine.status == 1);
  chunk_release(mine.chunk);
  while (count > 0) chunk_release(held[--count]);
  CHECK(rig_put(2, 2, 3 * STORE_CHUNK_BYTES, true) == 0 && rig_settle());
  object_release(object);
  rig_close();
  device_free(&rig_device);
}

static unsigned changes;
static struct watcher other;
static void on_change(void *arg, struct object *object) {
  changes++;
  if (arg != NULL) object_unwatch(object, arg); /* the other one, while both are being told */
}

static void follow(bool on_device, int reason) {
  struct store_config config = {.ram_bytes = RIG_RAM_BYTES, .device = on_device ? &rig_device : NULL};
  uint8_t key[STORE_KEY_BYTES], digest[32] = {0};
  int error;
  device_init(&rig_device, RIG_DEVICE_BYTES);
  if (on_device) rig_mount(RIG_RAM_BYTES);
  else CHECK(store_open(&rig_store, &config) == 0 && store_mounted(rig_store) == 1);
  rig_key(key, 5);
  struct object *object = store_create(rig_store, key, "meta", 4, STORE_UNKNOWN, &error);
  struct object *same = rig_find(5);
  CHECK(object != NULL && same == object && object_length(object) == STORE_UNKNOWN && object_state(object) == 0);
  struct watcher watcher = {.changed = on_change, .arg = &other};
  other = (struct watcher){.changed = on_change, .arg = NULL};
  changes = 0;
  object_watch(object, &other);
  object_watch(object, &watcher);
  struct rig_reading mine = {.reading = {.ready = rig_ready, .arg = &mine}};
  CHECK(object_read(object, 10, &mine.chunk, &mine.reading) == 0); /* nothing is there yet */
  CHECK(rig_append(object, 5, 1, 0, 30000) == 30000 && changes == 0 && !mine.done); /* never from inside the call */
  rig_turn();
  CHECK(mine.done && mine.status == 1 && mine.chunk->length == STORE_CHUNK_BYTES - 10 && changes == 1);
  chunk_release(mine.chunk);
  mine = (struct rig_reading){.reading = {.ready = rig_ready, .arg = &mine}};
  CHECK(object_read(same, 30000, &mine.chunk, &mine.reading) == 0);
  watcher.arg = NULL;
  if (reason == 0) CHECK(object_complete(object, digest) == 0 && object_state(object) == 1 && object_length(object) == 30000);
  else object_abandon(object, reason);
  rig_turn();
  CHECK(mine.done && mine.status == (reason == 0 ? STORE_TOO_LONG : reason) && changes == 2);
  object_unwatch(object, &watcher);
  if (reason == 0) CHECK(rig_compare(object, 5, 1) == 1);
  struct object *found = rig_find(5);
  CHECK((found != NULL) == (reason == 0));
  if (found != NULL) object_release(found);
  CHECK(rig_append(object, 5, 1, 30000, 1) < 0);
  object_release(object);
  object_release(same);
  if (on_device) CHECK(rig_settle());
  else rig_turn();
  rig_close();
  device_free(&rig_device);
}

static int visit(void *arg, struct object *object) {
  unsigned *left = arg;
  store_remove(rig_store, object);
  return --*left == 0;
}

static void test_ram(void) {
  struct store_config config = {.ram_bytes = RIG_RAM_BYTES};
  struct store_counts counts;
  memset(&rig_device, 0, sizeof rig_device);
  CHECK(store_open(&rig_store, &config) == 0);
  store_count(rig_store, &counts);
  CHECK(counts.capacity > RIG_RAM_BYTES * 8 / 10);
  CHECK(rig_put(0, 1, counts.capacity + 1, true) == STORE_TOO_LONG);
  struct object *held = NULL;
  for (uint32_t number = 0; number < 60; number++) {
    CHECK(rig_put(number, 1, 90000, number % 2) == 0);
    if (number == 3) held = rig_find(3);
    struct object *object = rig_find(number);
    CHECK(object != NULL && rig_compare(object, number, 1) == 1);
    object_release(object);
  }
  store_count(rig_store, &counts);
  CHECK(counts.evicted > 40 && counts.objects >= 7 && counts.bytes == counts.objects * 90000);
  CHECK(rig_compare(held, 3, 1) == 1);
  object_release(held);
  unsigned some = 3;
  store_each(rig_store, visit, &some);
  unsigned all = 1000;
  store_count(rig_store, &counts);
  uint64_t left = counts.objects;
  store_each(rig_store, visit, &all);
  CHECK(1000 - all == left);
  store_count(rig_store, &counts);
  CHECK(counts.objects == 0 && counts.bytes == 0);
  CHECK(rig_put(1, 2, counts.capacity, true) == 0); /* all of it is free again */
  char *long_meta = calloc(1, STORE_META_BYTES + 1);
  uint8_t key[STORE_KEY_BYTES] = {1};
  int error;
  CHECK(store_create(rig_store, key, long_meta, STORE_META_BYTES + 1, 1, &error) == NULL && error == STORE_TOO_LONG);
  free(long_meta);
  rig_turn();
  rig_close();
}

int main(void) {
  world_reset();
  test_misses();
  test_starving();
  follow(true, 0);
  follow(true, STORE_ABANDONED);
  follow(false, 0);
  follow(false, STORE_IO);
  test_ram();
  CHECK_END();
}
