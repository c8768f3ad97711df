/*
 * Keys to objects, and which goes when room is needed: SIEVE (Zhang et al., NSDI 2024): one queue in the order of arrival, one bit an
 * object, one hand that goes from old to new, clears bits and evicts the first object without. A hit sets a bit and moves nothing.
 */
#include "store_ram.h"

static struct object **bucket_of(struct store *store, const uint8_t *key) {
  uint32_t hash;
  memcpy(&hash, key, sizeof hash);
  return &store->buckets[hash & store->bucket_mask];
}

struct object *store_find(struct store *store, const uint8_t key[STORE_KEY_BYTES]) {
  struct object *object = *bucket_of(store, key);
  while (object != NULL && memcmp(object->key, key, STORE_KEY_BYTES) != 0) object = object->next_in_bucket;
  if (object != NULL) object->holders++;
  return object;
}

void ram_list(struct object *object) {
  struct store *store = object->store;
  struct object **bucket = bucket_of(store, object->key);
  object->next_in_bucket = *bucket;
  *bucket = object;
  object->older = store->newest;
  object->newer = NULL;
  if (store->newest != NULL) store->newest->newer = object;
  else store->oldest = object;
  store->newest = object;
  object->listed = true;
  object->visited = false;
  store->counts.objects++;
}

void ram_unlist(struct object *object) {
  struct store *store = object->store;
  if (!object->listed) return;
  struct object **at = bucket_of(store, object->key);
  while (*at != object) at = &(*at)->next_in_bucket;
  *at = object->next_in_bucket;
  if (store->hand == object) store->hand = object->newer;
  if (object->newer != NULL) object->newer->older = object->older;
  else store->newest = object->older;
  if (object->older != NULL) object->older->newer = object->newer;
  else store->oldest = object->newer;
  object->listed = false;
  store->counts.objects--;
  if (object->holders == 0) ram_free_object(object);
}

/* What somebody holds would free nothing; the hand passes it by. */
bool ram_evict(struct store *store) {
  struct object *at = store->hand != NULL ? store->hand : store->oldest;
  for (uint64_t left = 2 * store->counts.objects + 1; left > 0 && at != NULL; left--) {
    struct object *next = at->newer != NULL ? at->newer : store->oldest;
    if (at->holders == 0 && !at->visited) {
      store->hand = next == at ? NULL : next;
      store->counts.evicted++;
      ram_unlist(at);
      return true;
    }
    at->visited = false;
    at = next;
  }
  return false;
}

void *ram_alloc(struct store *store, unsigned order) {
  for (;;) {
    void *memory = arena_alloc(&store->arena, order);
    if (memory != NULL || !ram_evict(store)) return memory;
  }
}

void store_remove(struct store *store, struct object *object) {
  (void)store;
  object_hold(object);
  ram_unlist(object);
  object_release(object);
}

void store_touch(struct object *object) { object->visited = true; }

void store_each(struct store *store, int (*visit)(void *arg, struct object *object), void *arg) {
  struct object *object = store->newest;
  if (object != NULL) object_hold(object);
  while (object != NULL) {
    int stop = visit(arg, object);
    /* The visit may have removed it; then its neighbours are not known any more, and the walk ends. */
    struct object *older = object->listed ? object->older : NULL;
    if (stop != 0) older = NULL;
    if (older != NULL) object_hold(older);
    object_release(object);
    object = older;
  }
}

void store_count(const struct store *store, struct store_counts *counts) {
  *counts = store->counts;
  counts->capacity = store->arena.units * ARENA_UNIT_BYTES;
  counts->bytes = counts->capacity - store->arena.free_bytes;
}
