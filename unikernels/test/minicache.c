/*
 * Minicache's parts that need no network: what is fresh and when (clocks that jump included), the store against a model, SIEVE beside LRU,
 * signed URLs against the vectors that TypeScript shares, the next segment's name, and frames put together for the kernel.
 */
#include "check.h"
#include "world.h"
#include <stdlib.h>
#include "loop.h"
#include "../apps/minicache/date.h"
#include "../apps/minicache/hls.h"
#include "../apps/minicache/policy.h"
#include "../apps/minicache/signed_url.h"
#include "../apps/minicache/store_ram.h"
#include "../platform/host/gso.h"

static uint64_t seed = 88172645463325252ull;
static uint32_t roll(uint32_t below) {
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return (uint32_t)(seed >> 20) % below;
}

/* ---- freshness ---- */

static struct judged judge(const char *lines, int64_t sent, int64_t now) {
  static const struct policy_settings settings = {.negative_seconds = 2, .heuristic_most_seconds = 86400};
  char text[1024];
  struct http_head head;
  struct cache_control asked = {0};
  size_t length = shoal_format(text, sizeof text, "HTTP/1.1 200 OK\r\n%s\r\n", lines);
  CHECK(http_read_response(&head, text, length, METHOD_GET) == 0);
  return policy_judge(&settings, &head, &asked, false, sent, now);
}

static void test_policy(void) {
  static const int64_t now = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */
  const struct cache_control nothing = {0};
  struct judged judged = judge("Cache-Control: max-age=60\r\n", now, now);
  CHECK(judged.storable && policy_usable(&judged.fitness, &nothing, now + 59) == USABLE_FRESH);
  CHECK(policy_usable(&judged.fitness, &nothing, now + 60) == USABLE_AFTER_VALIDATION);
  CHECK(policy_usable(&judged.fitness, &nothing, now - 1000) == USABLE_FRESH && policy_age(&judged.fitness, now - 1000) == 0); /* back before it came */
  CHECK(policy_usable(&judged.fitness, &nothing, INT64_MAX / 2) == USABLE_AFTER_VALIDATION);
  judged = judge("Cache-Control: max-age=60\r\nAge: 50\r\n", now - 5, now);
  CHECK(judged.fitness.initial_age == 55);
  judged = judge("Date: Sun, 06 Nov 1994 08:48:37 GMT\r\nCache-Control: max-age=60\r\n", now, now);
  CHECK(judged.fitness.initial_age == 60 && judged.storable);
  judged = judge("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nExpires: Sun, 06 Nov 1994 08:50:37 GMT\r\n", now, now);
  CHECK(judged.storable && judged.fitness.lifetime == 60);
  CHECK(!judge("Expires: 0\r\n", now, now).storable);
  judged = judge("Last-Modified: Sun, 06 Nov 1994 08:32:57 GMT\r\n", now, now);
  CHECK(judged.storable && judged.fitness.lifetime == 100); /* a tenth of 1,000 s */
  CHECK(judge("Cache-Control: max-age=99999999999\r\n", now, now).fitness.lifetime == CC_MOST_SECONDS);
  CHECK(!judge("Cache-Control: max-age=1x\r\n", now, now).storable);
  judged = judge("Cache-Control: max-age=10, stale-while-revalidate=5\r\n", now, now);
  CHECK(policy_usable(&judged.fitness, &nothing, now + 14) == USABLE_STALE_REVALIDATE && policy_usable(&judged.fitness, &nothing, now + 15) == USABLE_AFTER_VALIDATION);
  CHECK(policy_usable_on_error(&judged.fitness, &nothing, now + 999, true) && !policy_usable_on_error(&judged.fitness, &nothing, now + 999, false));
  judged = judge("Cache-Control: max-age=10, must-revalidate, stale-if-error=99\r\n", now, now);
  CHECK(!policy_usable_on_error(&judged.fitness, &nothing, now + 11, true));
}

/* ---- the store against a model ---- */

#define KEYS 64u

static struct {
  uint32_t length, version; /* 0: not there, as far as the model knows it may also have been evicted */
} model[KEYS];

static uint8_t byte_at(uint32_t key, uint32_t version, uint64_t offset) { return (uint8_t)(key * 31 + version * 7 + offset * 13 + (offset >> 8)); }

static void make_key(uint8_t key[STORE_KEY_BYTES], uint32_t number) {
  memset(key, 0, STORE_KEY_BYTES);
  for (unsigned i = 0; i < 4; i++) key[i] = (uint8_t)(number * 2654435761u >> 8 * i), key[4 + i] = (uint8_t)(number >> 8 * i);
}

static void put(struct store *store, uint32_t number) {
  uint8_t key[STORE_KEY_BYTES], part[5000];
  int error;
  uint32_t length = roll(4) == 0 ? roll(100000) : roll(3000), version = model[number].version + 1;
  bool known = roll(2) == 0, abandons = roll(8) == 0;
  make_key(key, number);
  struct object *object = store_create(store, key, &version, sizeof version, known ? length : STORE_UNKNOWN, &error);
  if (object == NULL) {
    CHECK(error == STORE_FULL || error == STORE_TOO_LONG);
    return;
  }
  model[number].version = version;
  model[number].length = length + 1;
  for (uint32_t at = 0; at < length;) {
    uint32_t count = 1 + roll(sizeof part);
    if (count > length - at) count = length - at;
    for (uint32_t i = 0; i < count; i++) part[i] = byte_at(number, version, at + i);
    if (object_append(object, part, count) < 0) {
      abandons = true;
      break;
    }
    at += count;
  }
  if (abandons) object_abandon(object, STORE_ABANDONED), model[number].length = 0;
  else CHECK(object_complete(object, key) == 0);
  object_release(object);
}

static void look(struct store *store, uint32_t number) {
  uint8_t key[STORE_KEY_BYTES];
  size_t size;
  make_key(key, number);
  struct object *object = store_find(store, key);
  if (object == NULL) return; /* never there, or evicted */
  CHECK(model[number].length > 0 && object_state(object) == 1 && object_length(object) == model[number].length - 1);
  uint32_t version;
  memcpy(&version, object_meta(object, &size), sizeof version);
  CHECK(size == sizeof version && version == model[number].version);
  for (uint64_t at = roll(3) == 0 ? roll(model[number].length) : 0; at < object_length(object);) {
    struct chunk *chunk;
    struct reading reading;
    if (object_read(object, at, &chunk, &reading) != 1) {
      CHECK(!"a chunk is there");
      break;
    }
    bool right = chunk->length > 0;
    for (uint32_t i = 0; i < chunk->length; i += 97) right = right && chunk->data[i] == byte_at(number, version, at + i);
    CHECK(right);
    at += chunk->length;
    chunk_release(chunk);
  }
  store_touch(object);
  object_release(object);
}

static void test_store(void) {
  struct store *store;
  struct store_counts counts;
  struct store_config config = {.ram_bytes = 600 * 1024};
  CHECK(store_open(&store, &config) == 0);
  size_t free_at_first = store->arena.free_bytes;
  for (uint32_t i = 0; i < 20000; i++) {
    uint32_t number = roll(KEYS);
    switch (roll(8)) {
      case 0: case 1: put(store, number); break;
      case 2: {
        uint8_t key[STORE_KEY_BYTES];
        make_key(key, number);
        struct object *object = store_find(store, key);
        if (object == NULL) break;
        store_remove(store, object);
        model[number].length = 0;
        object_release(object);
        break;
      }
      default: look(store, number); break;
    }
    loop_turn();
  }
  store_count(store, &counts);
  CHECK(counts.evicted > 100 && counts.objects <= KEYS && counts.bytes <= counts.capacity);
  for (uint32_t i = 0; i < KEYS; i++) {
    uint8_t key[STORE_KEY_BYTES];
    make_key(key, i);
    struct object *object = store_find(store, key);
    if (object == NULL) continue;
    store_remove(store, object);
    object_release(object);
  }
  loop_turn();
  CHECK(store->arena.free_bytes == free_at_first && store->committed == 0); /* nothing is lost */
  /* And all of it has come together again. */
  static void *whole[1024];
  size_t count = 0;
  while (count < 1024 && (whole[count] = arena_alloc(&store->arena, ARENA_ORDERS - 1)) != NULL) count++;
  CHECK(count == store->arena.units >> (ARENA_ORDERS - 1));
  while (count > 0) arena_free(&store->arena, whole[--count], ARENA_ORDERS - 1);
  /* What somebody holds stays while everything else goes. */
  uint8_t held_key[STORE_KEY_BYTES];
  int error;
  make_key(held_key, 1000);
  struct object *held = store_create(store, held_key, "m", 1, 0, &error);
  CHECK(held != NULL && object_complete(held, held_key) == 0);
  for (uint32_t i = 0; i < 2000; i++) put(store, roll(KEYS));
  struct object *again = store_find(store, held_key);
  CHECK(again == held);
  if (again != NULL) object_release(again);
  object_release(held);
  loop_turn();
  store_close(store);
}

static unsigned told;
static void on_change(void *arg, struct object *object) {
  (void)object;
  told++;
  if (arg != NULL) object_unwatch(object, arg);
}

static void test_watching(void) {
  struct store *store;
  struct store_config config = {.ram_bytes = 600 * 1024};
  uint8_t key[STORE_KEY_BYTES] = {1};
  int error;
  CHECK(store_open(&store, &config) == 0);
  struct object *object = store_create(store, key, "m", 1, STORE_UNKNOWN, &error);
  struct watcher once = {.changed = on_change}, always = {.changed = on_change};
  once.arg = &once;
  object_watch(object, &always);
  object_watch(object, &once);
  CHECK(object_append(object, "abc", 3) == 3 && told == 0); /* never from inside */
  loop_turn();
  CHECK(told == 2);
  struct chunk *chunk;
  struct reading reading;
  CHECK(object_read(object, 1, &chunk, &reading) == 1 && chunk->length == 2 && memcmp(chunk->data, "bc", 2) == 0);
  store_remove(store, object);
  object_abandon(object, STORE_IO);
  object_release(object);
  CHECK(memcmp(chunk->data, "bc", 2) == 0); /* lives as long as it is held */
  chunk_release(chunk);
  loop_turn();
  CHECK(told == 3);
  store_close(store);
}

/* ---- the rest ---- */

static void test_signed_urls(void) {
  FILE *file = fopen("../test/vectors/signed-url.txt", "r");
  char line[512], word[5][256];
  unsigned count = 0;
  CHECK(file != NULL);
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    if (line[0] == '#') continue;
    CHECK(sscanf(line, "%255s %255s %255s %255s %255s", word[0], word[1], word[2], word[3], word[4]) == 5);
    /* key, now, valid|refused, target, rest */
    struct slice target = {word[3], strlen(word[3])}, key = {word[0], strlen(word[0])};
    bool valid = signed_url_check(&target, key, atoll(word[1]));
    CHECK(valid == (strcmp(word[2], "valid") == 0));
    if (valid) CHECK(slice_equal(target, (struct slice){word[4], strlen(word[4])}));
    count++;
  }
  CHECK(count >= 8);
  if (file != NULL) fclose(file);
}

static void check_next(const char *target, const char *next) {
  char made[256];
  size_t length = hls_next((struct slice){target, strlen(target)}, made, sizeof made);
  CHECK(length == strlen(next) && memcmp(made, next, length) == 0);
}

static void test_next_segment(void) {
  check_next("/v/seg009.ts?a=1", "/v/seg010.ts?a=1");
  check_next("/v/99.m4s", "/v/100.m4s");
  check_next("/v/list.m3u8", "");
  check_next("/v/init.mp4", "");
  check_next("/v/1080p.mp4", "");
}

static uint8_t sent[70000];
static size_t sent_length;
static unsigned sent_count;
static struct gso_header sent_header;
static void on_send(void *context, const struct gso_header *header, const uint8_t *frame, size_t length) {
  (void)context;
  sent_header = *header;
  memcpy(sent, frame, length);
  sent_length = length;
  sent_count++;
}

static void make_segment(uint8_t *frame, uint32_t sequence, uint16_t port, size_t data) {
  memset(frame, 0, 54);
  frame[12] = 8, frame[14] = 0x45, frame[22] = 64, frame[23] = 6;
  frame[16] = (uint8_t)((40 + data) >> 8), frame[17] = (uint8_t)(40 + data);
  frame[34] = (uint8_t)(port >> 8), frame[35] = (uint8_t)port;
  for (unsigned i = 0; i < 4; i++) frame[38 + i] = (uint8_t)(sequence >> (24 - 8 * i));
  frame[46] = 0x50, frame[47] = 16;
  for (size_t i = 0; i < data; i++) frame[54 + i] = (uint8_t)(sequence + i);
}

static void test_gso(void) {
  static struct gso gso = {.send = on_send};
  for (uint32_t i = 0; i < 3; i++) {
    make_segment(gso_reserve(&gso), 1000 + i * 1460, 80, i == 2 ? 100 : 1460);
    gso_commit(&gso, 54 + (i == 2 ? 100u : 1460u), SHOAL_NET_CSUM_BLANK);
  }
  CHECK(sent_count == 0);
  make_segment(gso_reserve(&gso), 5000, 81, 1460); /* of another flow */
  gso_commit(&gso, 54 + 1460, SHOAL_NET_CSUM_BLANK);
  CHECK(sent_count == 1 && sent_length == 54 + 2 * 1460 + 100 && sent_header.type == 1 && sent_header.segment_bytes == 1460 && sent_header.header_bytes == 54);
  CHECK((sent[16] << 8 | sent[17]) == 40 + 2 * 1460 + 100);
  bool right = true;
  for (size_t i = 0; i < 2 * 1460 + 100; i++) right = right && sent[54 + i] == (uint8_t)(1000 + i);
  CHECK(right);
  gso_flush(&gso);
  CHECK(sent_count == 2 && sent_length == 54 + 1460 && sent_header.type == 0 && sent[35] == 81);
  make_segment(gso_reserve(&gso), 1000, 80, 0); /* a bare acknowledgement goes at once */
  gso_commit(&gso, 60, SHOAL_NET_CSUM_BLANK);
  CHECK(sent_count == 3);
  make_segment(gso_reserve(&gso), 1000, 80, 1460);
  gso_commit(&gso, 54 + 1460, SHOAL_NET_CSUM_BLANK);
  make_segment(gso_reserve(&gso), 9000, 80, 1460); /* a hole in the sequence */
  gso_commit(&gso, 54 + 1460, SHOAL_NET_CSUM_BLANK);
  CHECK(sent_count == 4 && sent_length == 54 + 1460);
  gso_flush(&gso);
}

struct cache cache; /* hls.c's */
bool fetch_ahead(const struct viewer *like, struct slice target);
bool fetch_ahead(const struct viewer *like, struct slice target) {
  (void)like, (void)target;
  return false;
}

int main(void) {
  world_reset();
  test_policy();
  test_store();
  test_watching();
  test_signed_urls();
  test_next_segment();
  test_gso();
  CHECK_END();
}
