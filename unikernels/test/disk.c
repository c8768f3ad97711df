/*
 * The object store over a device against a reference: random operations, a loss of power at every write, sectors that are lost, torn and
 * reordered, a full device, one that fails, bytes that changed on it. Variants: see main.
 */
#include "disk_rig.h"

#define KEYS 40u

/* What the reference knows of a key. */
static struct known {
  uint32_t version;  /* the one that counts now; 0: none */
  uint64_t length;
  bool durable;      /* it was there when everything had settled */
  bool removed;      /* removed, and that had settled */
} known[KEYS];
static uint64_t lengths[KEYS][64]; /* of each version that was ever completed */
static uint32_t last_version[KEYS];

static uint64_t any_length(void) {
  switch (device_random(5)) {
    case 0: return device_random(600);
    case 1: return STORE_CHUNK_BYTES * (1 + device_random(3));
    case 2: return device_random(300000);
    default: return device_random(50000);
  }
}

/* A found object is a version that was completed once, and whole. */
static uint32_t check_found(struct object *object, uint32_t number) {
  size_t length;
  uint32_t meta[2] = {0, 0};
  const void *stored = object_meta(object, &length);
  CHECK(length == sizeof meta);
  memcpy(meta, stored, length < sizeof meta ? length : sizeof meta);
  CHECK(meta[0] == number && meta[1] > 0 && meta[1] <= last_version[number] && object_state(object) == 1);
  CHECK(object_length(object) == lengths[number][meta[1] % 64] && object_available(object) == object_length(object));
  int same = rig_compare(object, number, meta[1]);
  CHECK(same == 1);
  return meta[1];
}

static void do_put(uint32_t number) {
  if (last_version[number] == 63) return;
  uint32_t version = ++last_version[number];
  uint64_t length = any_length();
  lengths[number][version % 64] = length;
  int status = rig_put(number, version, length, device_random(2) == 0);
  known[number].removed = false;
  known[number].durable = false;
  known[number].version = status == 0 ? version : 0;
  known[number].length = length;
}

static void do_check(uint32_t number) {
  struct object *object = rig_find(number);
  if (object == NULL) {
    known[number].version = 0; /* evicted */
    return;
  }
  CHECK(known[number].version != 0 && check_found(object, number) == known[number].version);
  if (device_random(2)) store_touch(object);
  object_release(object);
}

static void do_remove(uint32_t number) {
  struct object *object = rig_find(number);
  if (object == NULL) return;
  store_remove(rig_store, object);
  CHECK(rig_find(number) == NULL);
  CHECK(rig_compare(object, number, known[number].version) == 1); /* who holds it reads on */
  object_release(object);
  known[number].version = 0;
  known[number].durable = false;
}

/* The meta of another version, the same body under it: told apart by its version. */
static void do_set_meta(uint32_t number) {
  struct object *object = rig_find(number);
  if (object == NULL) return;
  uint32_t meta[2] = {number, known[number].version};
  CHECK(object_set_meta(object, meta, sizeof meta) == 0);
  object_release(object);
}

static void do_abandon(uint32_t number) {
  uint8_t key[STORE_KEY_BYTES];
  int error;
  rig_key(key, number);
  struct object *object = store_create(rig_store, key, "x", 1, STORE_UNKNOWN, &error);
  if (object == NULL) return;
  rig_append(object, number, 99, 0, device_random(60000));
  if (device_random(2)) object_abandon(object, STORE_ABANDONED);
  object_release(object); /* by itself as good as abandoned */
  CHECK(rig_find(number) == NULL);
  known[number].version = 0;
  known[number].durable = false;
}

static void operate(void) {
  uint32_t number = device_random(KEYS);
  switch (device_random(9)) {
    case 0: case 1: case 2: do_put(number); break;
    case 3: case 4: do_check(number); break;
    case 5: do_remove(number); break;
    case 6: do_set_meta(number); break;
    case 7: do_abandon(number); break;
    default: device_step(&rig_device); break;
  }
}

static void settle_all(void) {
  if (!rig_settle()) return;
  for (uint32_t i = 0; i < KEYS; i++) {
    struct object *object = rig_find(i);
    known[i].durable = object != NULL;
    known[i].removed = object == NULL;
    if (object == NULL) known[i].version = 0;
    else object_release(object);
  }
}

/* After a restart. `strict`: all that was durable is there, none that was removed is. */
static void check_all(bool strict) {
  CHECK(store_mounted(rig_store) == 1);
  for (uint32_t i = 0; i < KEYS; i++) {
    struct object *object = rig_find(i);
    if (strict) CHECK((object != NULL) >= (known[i].durable && known[i].version != 0));
    if (known[i].removed) CHECK(object == NULL);
    if (object == NULL) {
      known[i].version = 0;
      continue;
    }
    known[i].version = check_found(object, i);
    object_release(object);
  }
}

static void begin(uint64_t seed, uint64_t device_bytes) {
  world_reset();
  memset(known, 0, sizeof known);
  memset(last_version, 0, sizeof last_version);
  device_seed = seed * 2654435761u + 88172645463325252ull;
  device_init(&rig_device, device_bytes);
}

static void end(void) {
  rig_close();
  device_free(&rig_device);
}

static void test_model(void) {
  for (uint64_t seed = 1; seed <= 6; seed++) {
    begin(seed, RIG_DEVICE_BYTES);
    rig_mount(RIG_RAM_BYTES);
    for (unsigned round = 0; round < 6; round++) {
      for (unsigned i = 0; i < 120; i++) operate();
      settle_all();
      struct store_counts counts;
      store_count(rig_store, &counts);
      CHECK(counts.torn == 0 && counts.io_errors == 0 && counts.bytes <= counts.capacity);
      rig_close();
      rig_mount(RIG_RAM_BYTES);
      check_all(true);
    }
    end();
  }
}

/* The power fails at the k-th write, for every k that a run comes to. */
static void test_crash(void) {
  unsigned whole = 0;
  for (unsigned k = 0; k < 260; k++) {
    begin(k + 100, 2u << 20);
    rig_device.writes_left = k;
    rig_mount(RIG_RAM_BYTES);
    for (unsigned i = 0; i < 60 && !rig_device.dead && store_mounted(rig_store) == 1; i++) {
      if (i % 10 == 9) settle_all();
      else operate();
      /* What was durable may since have been removed or replaced without that having settled: no promise then. */
    }
    for (unsigned i = 0; i < KEYS; i++) known[i].durable = false;
    bool removed[KEYS];
    for (unsigned i = 0; i < KEYS; i++) removed[i] = known[i].removed;
    rig_lose_power();
    for (unsigned mounts = 0; mounts < 2; mounts++) {
      rig_mount(RIG_RAM_BYTES);
      for (unsigned i = 0; i < KEYS; i++) known[i].removed = removed[i];
      check_all(false);
      struct store_counts counts;
      store_count(rig_store, &counts);
      CHECK(counts.torn == 0); /* flushes were honoured: not even a chunk is missing */
      CHECK(rig_settle());
      whole += (unsigned)counts.objects;
      rig_close();
    }
    end();
  }
  CHECK(whole > 1000); /* the test is about something */
}

/* What had settled survives any loss of power after it, while other keys are written. */
static void test_durable(void) {
  for (unsigned k = 0; k < 120; k++) {
    begin(k + 1000, 2 * RIG_DEVICE_BYTES);
    rig_mount(RIG_RAM_BYTES);
    for (uint32_t number = 0; number < 10; number++) do_put(number);
    settle_all();
    rig_device.writes_left = k / 2;
    for (unsigned i = 0; i < 40 && !rig_device.dead; i++) do_set_meta(device_random(10)), do_put(10 + device_random(4)), device_step(&rig_device);
    struct store_counts counts;
    store_count(rig_store, &counts);
    CHECK(counts.evicted == 0); /* else it would be no wonder */
    rig_lose_power();
    rig_mount(RIG_RAM_BYTES);
    for (uint32_t number = 0; number < 10; number++) {
      struct object *object = rig_find(number);
      CHECK(object != NULL && check_found(object, number) == 1);
      if (object != NULL) object_release(object);
    }
    end();
  }
}

static void test_full(void) {
  begin(7, 2u << 20);
  rig_mount(RIG_RAM_BYTES);
  struct store_counts counts;
  store_count(rig_store, &counts);
  CHECK(rig_put(0, 1, counts.capacity + 1, true) == STORE_TOO_LONG);
  CHECK(rig_put(0, 1, counts.capacity + 1, false) == STORE_TOO_LONG);
  CHECK(rig_find(0) == NULL);
  /* Ten times what it holds: the oldest give way. */
  last_version[1] = 1, lengths[1][1] = 100000;
  for (uint32_t number = 1; number < 30; number++) {
    last_version[number % KEYS] = 1, lengths[number % KEYS][1] = 100000;
    CHECK(rig_put(number, 1, 100000, number % 2) == 0 && rig_settle());
    struct object *object = rig_find(1);
    CHECK(object != NULL); /* hit each time: SIEVE keeps it */
    if (object != NULL) store_touch(object), object_release(object);
  }
  CHECK(rig_settle());
  store_count(rig_store, &counts);
  CHECK(counts.evicted > 10 && counts.objects >= 8 && counts.bytes <= counts.capacity);
  struct object *object = rig_find(1);
  CHECK(object != NULL && check_found(object, 1) == 1);
  if (object != NULL) object_release(object);
  /* All that is there is held: nothing can give way, and that is said. */
  struct object *held[KEYS] = {0};
  for (uint32_t number = 0; number < KEYS; number++) held[number] = rig_find(number);
  CHECK(rig_put(35, 1, counts.capacity - 100000, true) == STORE_FULL);
  for (uint32_t number = 0; number < KEYS; number++) {
    if (held[number] != NULL) object_release(held[number]);
  }
  CHECK(rig_put(36, 1, 200000, true) == 0);
  CHECK(rig_settle());
  end();
}

static void test_errors(void) {
  for (uint64_t seed = 1; seed <= 4; seed++) {
    begin(seed + 50, RIG_DEVICE_BYTES);
    rig_mount(RIG_RAM_BYTES);
    rig_device.fail_one_in = 6;
    for (unsigned i = 0; i < 150; i++) {
      uint32_t number = device_random(KEYS);
      if (device_random(3) == 0) do_put(number), known[number].version = last_version[number];
      struct object *object = rig_find(number);
      if (object == NULL) continue;
      size_t length;
      const uint32_t *meta = object_meta(object, &length);
      int same = rig_compare(object, number, meta[1]);
      CHECK(same == 1 || same == STORE_IO); /* never other bytes */
      if (device_random(8) == 0) store_remove(rig_store, object);
      object_release(object);
    }
    struct store_counts counts;
    store_count(rig_store, &counts);
    CHECK(counts.io_errors > 0 && counts.torn == 0);
    rig_device.fail_one_in = 0;
    world_now_ns += 2000000000ull;
    CHECK(rig_settle()); /* it goes on when the device does */
    CHECK(rig_put(0, 62, 5000, true) == 0);
    CHECK(rig_settle());
    rig_close();
    rig_mount(RIG_RAM_BYTES);
    struct object *object = rig_find(0);
    CHECK(object != NULL && rig_compare(object, 0, 62) == 1);
    if (object != NULL) object_release(object);
    end();
  }
}

/* Any byte of the device changes while it is off: what is found is right or is not served. */
static void test_corrupt(void) {
  unsigned torn = 0, found = 0;
  begin(3, 2u << 20);
  rig_mount(RIG_RAM_BYTES);
  for (uint32_t number = 0; number < 12; number++) do_put(number);
  settle_all();
  rig_close();
  uint8_t *kept = malloc(rig_device.size_bytes);
  memcpy(kept, rig_device.now, rig_device.size_bytes);
  for (unsigned round = 0; round < 150; round++) {
    memcpy(rig_device.now, kept, rig_device.size_bytes);
    for (unsigned i = 0; i < 40; i++) {
      uint32_t at = device_random(3) == 0 ? 8192 + device_random(60000) : 8192 + device_random((uint32_t)rig_device.size_bytes - 8192);
      rig_device.now[at] ^= (uint8_t)(1u << device_random(8));
    }
    rig_mount(RIG_RAM_BYTES);
    CHECK(store_mounted(rig_store) == 1);
    for (uint32_t number = 0; number < 12; number++) {
      struct object *object = rig_find(number);
      if (object == NULL) continue;
      int same = rig_compare(object, number, last_version[number]);
      CHECK(same == 1 || same == STORE_CORRUPT);
      found += same == 1, torn += same != 1;
      object_release(object);
      CHECK(same == 1 || rig_find(number) == NULL);
    }
    CHECK(rig_settle());
    rig_close();
  }
  CHECK(torn > 20 && found > 20);
  free(kept);
  end();
}

static void test_volume(void) {
  begin(5, 2u << 20);
  rig_device.now[1080] = 0x53, rig_device.now[1081] = 0xef; /* somebody's file system */
  rig_mount(RIG_RAM_BYTES);
  CHECK(store_mounted(rig_store) == STORE_CORRUPT && rig_device.writes == 0);
  rig_close();
  rig_device.now[1080] = rig_device.now[1081] = 0;
  rig_mount(RIG_RAM_BYTES);
  CHECK(store_mounted(rig_store) == 1);
  CHECK(rig_put(1, 1, 40000, true) == 0 && rig_settle());
  rig_close();
  memset(rig_device.now, 0xff, 512); /* the first description is lost: the second serves */
  rig_mount(RIG_RAM_BYTES);
  last_version[1] = 1, lengths[1][1] = 40000;
  struct object *object = rig_find(1);
  CHECK(object != NULL && check_found(object, 1) == 1);
  if (object != NULL) object_release(object);
  rig_close();
  memset(rig_device.now + 4096, 0xff, 512);
  rig_mount(RIG_RAM_BYTES);
  CHECK(store_mounted(rig_store) == STORE_CORRUPT);
  end();
  begin(6, 64u << 20);
  rig_mount(300u << 10); /* its index alone is larger */
  CHECK(store_mounted(rig_store) == STORE_FULL);
  end();
}

/* The power goes between the new record and the end of the old one, which lies behind it: the later counts, and the other goes. */
static void test_two_records(void) {
  uint8_t old[DISK_SECTOR_BYTES];
  begin(9, 2u << 20);
  rig_mount(RIG_RAM_BYTES);
  CHECK(rig_put(1, 1, 40000, true) == 0 && rig_settle());
  for (unsigned round = 0; round < 2; round++) {
    struct object *object = rig_find(1);
    uint8_t *place = rig_device.now + 8192 + object->record.sector * DISK_SECTOR_BYTES;
    memcpy(old, place, sizeof old);
    CHECK(object_set_meta(object, round == 0 ? "first" : "second", 6) == 0);
    object_release(object);
    CHECK(rig_settle());
    rig_close();
    if (round == 1) {
      CHECK(place > rig_device.now + 8192 && memcmp(place, old, 8) != 0); /* it was erased, and is there again */
      memcpy(place, old, sizeof old);
    }
    rig_mount(RIG_RAM_BYTES);
  }
  for (unsigned mounts = 0; mounts < 2; mounts++) {
    struct object *object = rig_find(1);
    size_t length = 0;
    CHECK(object != NULL && memcmp(object_meta(object, &length), "second", 6) == 0 && length == 6 && rig_compare(object, 1, 1) == 1);
    object_release(object);
    CHECK(rig_settle() && rig_store->records.count - rig_store->records.free == 1);
    rig_close();
    rig_mount(RIG_RAM_BYTES);
  }
  end();
}

int main(int count, char **words) {
  const char *variant = count > 1 ? words[1] : "plain";
  if (strcmp(variant, "plain") == 0) test_model(), test_volume(), test_two_records();
  else if (strcmp(variant, "crash") == 0) test_crash(), test_durable();
  else if (strcmp(variant, "full") == 0) test_full();
  else if (strcmp(variant, "errors") == 0) test_errors();
  else if (strcmp(variant, "corrupt") == 0) test_corrupt();
  CHECK_END();
}
