/*
 * Hit ratios of the RAM store (SIEVE) and of an LRU of as many objects, under the same requests: popularity by Zipf, the catalogue shifting
 * slowly (every so often a rank gets another object), as audiences do.
 *   zipf ALPHA CATALOGUE SHARE_PERCENT REQUESTS    prints "sieve lru", hits of 1
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "loop.h"
#include "../../unikernels/apps/minicache/store_ram.h"

/* What the store asks of a platform. */
uint64_t shoal_now_ns(void) { return 0; }
void *shoal_alloc(size_t size) { return malloc(size); }
void shoal_free(void *memory) { free(memory); }
void shoal_panic(const char *format, ...) { fprintf(stderr, "%s\n", format), exit(1); }

static uint64_t seed = 88172645463325252ull;
static double roll(void) {
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return (double)(seed >> 11) / 9007199254740992.0;
}

struct entry { uint32_t newer, older; uint8_t in; };
static struct entry *entries; /* 0 is the ring's head */
static uint32_t lru_count;

static void unlink_entry(uint32_t at) {
  entries[entries[at].newer].older = entries[at].older;
  entries[entries[at].older].newer = entries[at].newer;
}
static void link_newest(uint32_t at) {
  entries[at].newer = 0;
  entries[at].older = entries[0].older;
  entries[entries[0].older].newer = at;
  entries[0].older = at;
}
/* entries[0].older: the newest; entries[0].newer: the oldest. */
static int lru(uint32_t object, uint32_t capacity) {
  uint32_t at = object + 1;
  if (entries[at].in) {
    unlink_entry(at);
    link_newest(at);
    return 1;
  }
  if (lru_count == capacity) {
    uint32_t oldest = entries[0].newer;
    unlink_entry(oldest);
    entries[oldest].in = 0;
    lru_count--;
  }
  entries[at].in = 1;
  link_newest(at);
  lru_count++;
  return 0;
}

static int sieve(struct store *store, uint32_t object) {
  static const uint8_t body[600], digest[32];
  uint8_t key[STORE_KEY_BYTES] = {0};
  uint32_t mixed = object * 2654435761u;
  int error;
  memcpy(key, &mixed, 4);
  memcpy(key + 4, &object, 4);
  struct object *found = store_find(store, key);
  if (found != NULL) {
    store_touch(found);
    object_release(found);
    return 1;
  }
  struct object *made = store_create(store, key, "m", 1, sizeof body, &error);
  if (made == NULL) return 0;
  object_append(made, body, sizeof body);
  object_complete(made, digest);
  object_release(made);
  timers_run(UINT64_MAX);
  return 0;
}

int main(int count, char **words) {
  if (count != 5) return 2;
  double alpha = atof(words[1]);
  uint32_t catalogue = (uint32_t)atoi(words[2]), capacity = (uint32_t)((double)catalogue * atof(words[3]) / 100), requests = (uint32_t)atoi(words[4]);
  double *sums = malloc((catalogue + 1) * sizeof *sums);
  uint32_t next = catalogue, objects = catalogue + requests / 100 + 2, *rank = malloc(catalogue * sizeof *rank);
  entries = calloc(objects + 1, sizeof *entries);
  sums[0] = 0;
  for (uint32_t i = 0; i < catalogue; i++) sums[i + 1] = sums[i] + pow(i + 1, -alpha), rank[i] = i;
  struct store *store;
  struct store_config config = {.ram_bytes = (uint64_t)capacity * 2048 * 2};
  if (store_open(&store, &config) != 0) return 1;
  /* As many objects as the LRU has, no more: the store's places for objects are cut to it. */
  uint32_t places = 0;
  for (struct object *at = store->free_objects; at != NULL; at = at->next_in_bucket) {
    if (++places == capacity) at->next_in_bucket = NULL;
  }
  uint32_t hits_sieve = 0, hits_lru = 0, counted = 0;
  for (uint32_t i = 0; i < requests; i++) {
    double at = roll() * sums[catalogue];
    uint32_t low = 0, high = catalogue - 1;
    while (low < high) {
      uint32_t middle = (low + high) / 2;
      if (sums[middle + 1] < at) low = middle + 1;
      else high = middle;
    }
    if (i % 100 == 0) rank[(uint32_t)(roll() * catalogue)] = next++;
    int a = sieve(store, rank[low]), b = lru(rank[low], capacity);
    if (i < requests / 5) continue; /* while they fill */
    hits_sieve += (uint32_t)a, hits_lru += (uint32_t)b, counted++;
  }
  printf("%.4f %.4f\n", (double)hits_sieve / counted, (double)hits_lru / counted);
  return 0;
}
