/*
 * The format against test/vectors/object-store/format.txt, and as a program that TypeScript's tests run beside their own:
 *   disk_format                      compares the vectors
 *   disk_format FILE list            "KEY DIGEST LENGTH META" of every object, bodies read and compared with their checks
 *   disk_format FILE put KEY FILE2   stores FILE2's bytes under the key of 64 hex digits, with the meta "from C"
 */
#include "check.h"
#include "world.h"
#include <stdio.h>
#include <stdlib.h>
#include "config.h"
#include "loop.h"
#include "../apps/minicache/store_disk_inside.h"

static size_t unhex(const char *text, uint8_t *bytes) {
  size_t count = 0;
  for (; text[0] != '\0' && text[1] != '\0' && text[0] != '-'; text += 2, count++) {
    unsigned value;
    if (sscanf(text, "%2x", &value) != 1) return count;
    bytes[count] = (uint8_t)value;
  }
  return count;
}

static char line[200000], words[10][160000];
static uint8_t bytes[80000], made[80000], data[80000], key[32], digest[32];
static uint32_t checks[65536];

static void compare_record(const struct disk_volume *volume) {
  struct disk_extent extents[DISK_EXTENTS];
  uint32_t count = 0, index = 0;
  size_t meta = unhex(words[7], data), length = unhex(words[8], bytes);
  unhex(words[4], key), unhex(words[5], digest);
  for (char *at = words[6]; at != NULL && *at != '-'; at = strchr(at, ',') != NULL ? strchr(at, ',') + 1 : NULL) {
    sscanf(at, "%u:%u", &extents[count].first, &extents[count].count);
    for (uint32_t i = 0; i < extents[count].count; i++, index++) checks[extents[count].first + i] = 0x01000193u * (index + 1);
    count++;
  }
  struct disk_write write = {.sector = (uint32_t)atoi(words[1]), .sequence = strtoull(words[2], NULL, 10), .length = strtoull(words[3], NULL, 10),
                             .key = key, .digest = digest, .meta = data, .meta_length = (uint32_t)meta, .extent_count = count,
                             .extents = extents, .checks = checks};
  CHECK(disk_write_record(volume, &write, made) == length && memcmp(made, bytes, length) == 0);
  struct disk_record record;
  CHECK(disk_read_record(volume, write.sector, bytes, length, &record));
  CHECK(record.sequence == write.sequence && record.length == write.length && record.extent_count == count && record.meta_length == meta &&
        memcmp(record.meta, data, meta) == 0 && memcmp(record.key, key, 32) == 0 && memcmp(record.digest, digest, 32) == 0);
  for (uint32_t i = 0; i < index; i++) CHECK(disk_record_check(&record, i) == 0x01000193u * (i + 1));
  CHECK(!disk_read_record(volume, write.sector + 1, bytes, length, &record)); /* copied to another place */
}

static void compare_vectors(const char *path) {
  FILE *file = fopen(path, "r");
  struct disk_volume volume = {0}, read;
  unsigned lines = 0;
  if (file == NULL) {
    fprintf(stderr, "%s: cannot be read\n", path);
    exit(1);
  }
  while (fgets(line, sizeof line, file) != NULL) {
    int count = sscanf(line, "%s %s %s %s %s %s %s %s %s", words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7], words[8]);
    if (count < 2 || words[0][0] == '#') continue;
    lines++;
    if (strcmp(words[0], "siphash") == 0) {
      uint64_t keys[2];
      unhex(words[1], (uint8_t *)keys);
      size_t length = unhex(words[2], data);
      CHECK(shoal_siphash(keys, data, length) == strtoull(words[3], NULL, 16));
    } else if (strcmp(words[0], "volume") == 0) {
      CHECK(disk_plan(&volume, strtoull(words[1], NULL, 10), (uint32_t)atoi(words[2])));
      unhex(words[3], (uint8_t *)volume.key);
      disk_write_volume(&volume, made);
      CHECK(unhex(words[4], bytes) == DISK_VOLUME_BYTES && memcmp(made, bytes, DISK_VOLUME_BYTES) == 0);
      memset(made, 0, DISK_RECORDS_BYTES);
      memcpy(made, bytes, DISK_VOLUME_BYTES);
      CHECK(disk_read_volume(&read, made, volume.device_bytes) == DISK_VOLUME_VALID && memcmp(&read, &volume, sizeof read) == 0);
      CHECK(disk_read_volume(&read, made, volume.device_bytes - 1) != DISK_VOLUME_VALID);
    } else if (strcmp(words[0], "record") == 0) {
      compare_record(&volume);
    } else if (strcmp(words[0], "bad") == 0) {
      struct disk_record record;
      size_t length = unhex(words[3], bytes);
      CHECK(!disk_read_record(&volume, (uint32_t)atoi(words[2]), bytes, length, &record));
    } else {
      CHECK(!"a line of a known kind");
    }
  }
  CHECK(lines > 10);
  fclose(file);
}

/* ---- as a program ---- */

static struct store *store;

static void turns(unsigned count) {
  while (count-- > 0) world_now_ns += 1000, loop_turn();
}

static void on_up(void *context) { (void)context; }
static const struct shoal_block_events events = {.up = on_up};

static void open_store(const char *file) {
  char text[512];
  world_reset();
  config_init(text, shoal_format(text, sizeof text, "disk=%s ", file));
  struct store_config config = {.ram_bytes = 8u << 20, .device = shoal_block_open(0, &events, NULL, NULL, 0)};
  if (config.device == NULL || store_open(&store, &config) != 0) exit(3);
  for (unsigned i = 0; i < 10000 && store_mounted(store) == 0; i++) turns(1);
  if (store_mounted(store) != 1) {
    fprintf(stderr, "status %d\n", store_mounted(store));
    exit(3);
  }
}

static void ready(void *arg, int status, struct chunk *chunk) {
  *(int *)arg = status;
  if (chunk != NULL) chunk_release(chunk);
}

static int list_one(void *arg, struct object *object) {
  (void)arg;
  size_t length;
  const uint8_t *meta = object_meta(object, &length);
  for (unsigned i = 0; i < 32; i++) printf("%02x", object->key[i]);
  printf(" ");
  for (unsigned i = 0; i < 32; i++) printf("%02x", object->digest[i]);
  printf(" %lu %.*s", (unsigned long)object_length(object), (int)length, (const char *)meta);
  for (uint64_t at = 0; at < object_length(object); at += STORE_CHUNK_BYTES) {
    struct chunk *chunk;
    int status = 0;
    struct reading reading = {.ready = ready, .arg = &status};
    int now = object_read(object, at, &chunk, &reading);
    if (now == 1) chunk_release(chunk);
    for (unsigned i = 0; now == 0 && status == 0 && i < 1000; i++) turns(1);
    if (now < 0 || status < 0) printf(" BAD");
  }
  printf("\n");
  return 0;
}

static int put(const char *hex, const char *path) {
  static uint8_t body[4u << 20];
  FILE *file = fopen(path, "rb");
  if (file == NULL) return 4;
  size_t length = fread(body, 1, sizeof body, file);
  int error;
  fclose(file);
  unhex(hex, key);
  struct object *object = store_create(store, key, "from C", 6, STORE_UNKNOWN, &error);
  if (object == NULL) return 5;
  for (size_t at = 0; at < length;) {
    int64_t taken = object_append(object, body + at, length - at);
    if (taken < 0) return 6;
    at += (size_t)taken;
    turns(1);
  }
  object_complete(object, digest);
  object_release(object);
  for (unsigned i = 0; i < 10000 && (i < 10 || !store_settled(store)); i++) turns(1);
  return 0;
}

int main(int count, char **given) {
  if (count < 3) {
    compare_vectors("../test/vectors/object-store/format.txt");
    CHECK_END();
  }
  int result = 0;
  open_store(given[1]);
  if (strcmp(given[2], "list") == 0) store_each(store, list_one, NULL);
  else result = count < 5 ? 2 : put(given[3], given[4]);
  store_close(store);
  return result;
}
