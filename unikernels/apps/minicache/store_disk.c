/*
 * The store's objects: where their memory comes from, keys, and which one gives way (SIEVE: Zhang et al., NSDI 2024: one hand from the oldest to
 * the newest, which passes over what was hit since it last came by; a hit moves nothing).
 */
#include "store_disk_inside.h"

#define EVICT_AHEAD 256u
#define EVICT_AT_ONCE 64u

/* ---- keys ---- */

static struct object **bucket_of(struct store *store, const uint8_t *key) {
  return &store->by_key[disk_get32(key) & store->by_key_mask]; /* a digest is as good as its hash */
}

static void sieve_insert(struct object *object) {
  struct store *store = object->store;
  object->newer = NULL;
  object->older = store->newest;
  if (store->newest != NULL) store->newest->newer = object;
  store->newest = object;
  if (store->oldest == NULL) store->oldest = object;
}

static void sieve_remove(struct object *object) {
  struct store *store = object->store;
  if (store->hand == object) store->hand = object->newer;
  *(object->newer != NULL ? &object->newer->older : &store->newest) = object->older;
  *(object->older != NULL ? &object->older->newer : &store->oldest) = object->newer;
}

void object_list(struct object *object) {
  struct object **bucket = bucket_of(object->store, object->key);
  object->hash_next = *bucket;
  *bucket = object;
  object->listed = true;
  object->store->counts.objects++;
  sieve_insert(object);
}

void object_unlist(struct object *object) {
  struct store *store = object->store;
  if (!object->listed) return;
  struct object **at = bucket_of(store, object->key);
  while (*at != object) at = &(*at)->hash_next;
  *at = object->hash_next;
  object->listed = false;
  sieve_remove(object);
  store->counts.objects--;
  store->counts.bytes -= object->filled;
  store->coming += object->chunk_count;
  write_settle(object);
}

struct object *store_find(struct store *store, const uint8_t key[STORE_KEY_BYTES]) {
  if (store->mounted != 1) return NULL;
  struct object *object = *bucket_of(store, key);
  while (object != NULL && memcmp(object->key, key, STORE_KEY_BYTES) != 0) object = object->hash_next;
  if (object != NULL) object_hold(object);
  return object;
}

void store_remove(struct store *store, struct object *object) {
  (void)store;
  object_keep(object);
  object_unlist(object);
  object_let_go(object);
}

void store_touch(struct object *object) { object->visited = true; }

void store_each(struct store *store, int (*visit)(void *arg, struct object *object), void *arg) {
  struct object *object = store->oldest, *next;
  if (object != NULL) object_keep(object);
  for (int stop = 0; object != NULL; object = next) {
    next = object->newer;
    if (next != NULL) object_keep(next);
    stop = visit(arg, object); /* it may remove what it is shown, and no other */
    object_let_go(object);
    if (!stop) continue;
    if (next != NULL) object_let_go(next);
    return;
  }
}

static void drop_meta(struct object *object) {
  struct store *store = object->store;
  if (object->meta_cells == 0) return;
  disk_map_give(&store->cells, (uint32_t)((object->meta - store->cell_bytes) / META_CELL_BYTES), object->meta_cells);
  object->meta_cells = object->meta_length = 0;
}

bool store_evict(struct store *store) {
  for (uint32_t steps = 2 * store->object_count; steps > 0; steps--) {
    struct object *object = store->hand != NULL ? store->hand : store->oldest;
    if (object == NULL) return false;
    store->hand = object->newer;
    if (object->visited) {
      object->visited = false;
    } else if (object->refs == 0 && object->state == 1) {
      store->counts.evicted++;
      drop_meta(object);
      store_remove(store, object);
      return true;
    }
  }
  return false;
}

/* ---- the life of an object ---- */

static bool keep_meta(struct store *store, struct object *object, const void *meta, size_t length) {
  uint32_t cells = (uint32_t)((length + META_CELL_BYTES - 1) / META_CELL_BYTES), first = 0;
  if (cells > 0 && disk_map_take(&store->cells, cells, cells, &first) == 0) return false;
  drop_meta(object);
  object->meta = store->cell_bytes + (size_t)first * META_CELL_BYTES;
  if (length > 0) memcpy(object->meta, meta, length);
  object->meta_length = (uint16_t)length;
  object->meta_cells = (uint16_t)cells;
  return true;
}

struct object *object_take(struct store *store, const uint8_t key[STORE_KEY_BYTES], const void *meta, size_t meta_length) {
  struct object *object = store->free_objects;
  if (object == NULL) return NULL;
  struct object *next = object->hash_next;
  memset(object, 0, sizeof *object);
  object->store = store;
  if (!keep_meta(store, object, meta, meta_length)) {
    object->hash_next = next;
    return NULL;
  }
  store->free_objects = next;
  store->free_object_count--;
  memcpy(object->key, key, STORE_KEY_BYTES);
  return object;
}

static void object_free(struct object *object) {
  struct store *store = object->store;
  for (struct extent *extent = object->extents, *next; extent != NULL; extent = next) {
    next = extent->next;
    for (uint32_t i = 0; i < extent->run.count; i++) frame_forget(store, extent->run.first + i);
    disk_map_give(&store->chunks, extent->run.first, extent->run.count);
    extent->next = store->free_extents;
    store->free_extents = extent;
  }
  drop_meta(object);
  store->coming -= object->chunk_count;
  object->hash_next = store->free_objects;
  store->free_objects = object;
  store->free_object_count++;
  store->room = true;
  store_soon(store);
}

void object_keep(struct object *object) { object->refs++; }

void object_let_go(struct object *object) {
  if (object->refs == 0) shoal_panic("store: an object let go too often");
  if (--object->refs == 0 && !object->listed) object_free(object);
}

void object_hold(struct object *object) {
  object->holders++;
  object_keep(object);
}

void object_release(struct object *object) {
  if (object->holders == 0) shoal_panic("store: an object released too often");
  if (--object->holders == 0 && object->state == 0) object_abandon(object, STORE_ABANDONED); /* nobody is left to fill it */
  object_let_go(object);
}

uint32_t object_chunk(struct object *object, uint32_t index) {
  if (index >= object->chunk_count) return NO_CHUNK;
  if (object->near == NULL || index < object->near_index) object->near = object->extents, object->near_index = 0;
  while (index - object->near_index >= object->near->run.count) {
    object->near_index += object->near->run.count;
    object->near = object->near->next;
  }
  return object->near->run.first + (index - object->near_index);
}

bool object_extend(struct object *object, uint32_t first, uint32_t count) {
  struct store *store = object->store;
  struct extent *last = object->last_extent;
  if (last != NULL && last->run.first + last->run.count == first) {
    last->run.count += count;
  } else {
    struct extent *extent = store->free_extents;
    if (extent == NULL || object->extent_count == DISK_EXTENTS) return false;
    store->free_extents = extent->next;
    *extent = (struct extent){.run = {first, count}};
    *(last != NULL ? &last->next : &object->extents) = extent;
    object->last_extent = extent;
    object->extent_count++;
  }
  object->chunk_count += count;
  if (!object->listed) store->coming += count;
  return true;
}

/* Of a victim meta and RAM are free at once; with a device its chunks and itself only when its record is erased: no use in more then. */
static bool may_evict(const struct store *store) { return store->free_objects != NULL || store->device == NULL || store->erase.first == NULL; }

/* Some room is made before it is asked for: a chunk whose record has to be erased first is not there at once. */
static void evict_ahead(struct store *store) {
  uint32_t want = store->chunks.count / 64 < EVICT_AHEAD ? store->chunks.count / 64 : EVICT_AHEAD;
  if (store->free_object_count < 4 && store->erase.first == NULL) store_evict(store);
  for (unsigned i = 0; i < 8 && store->chunks.free + store->coming < want && store_evict(store); i++) continue;
}

void store_tick(void *context) {
  struct store *store = context;
  if (store->when_mounted != NULL && store->mounted != 0) {
    void (*tell)(void *, int) = store->when_mounted;
    store->when_mounted = NULL;
    tell(store->when_mounted_arg, store->mounted);
  }
  if (store->mounted != 1 || store->closing) return;
  evict_ahead(store);
  write_pump(store);
  bool room = store->room;
  store->room = false;
  while (room && store->blocked != NULL) {
    struct object *object = store->blocked;
    store->blocked = object->blocked_next;
    object->blocked = false;
    object_note(object);
    object_let_go(object);
  }
  struct object *noted = store->noted;
  store->noted = NULL;
  while (noted != NULL) {
    struct object *object = noted;
    noted = object->noted_next;
    object->noted = false;
    read_serve(object);
    for (struct watcher *watcher = object->watchers; watcher != NULL; watcher = store->next_watcher) {
      store->next_watcher = watcher->next;
      watcher->changed(watcher->arg, object);
    }
    object_let_go(object);
  }
  if (room && store->starving) read_serve_all(store);
}

void store_soon(struct store *store) {
  if (!store->closing) shoal_timer_set(&store->tick, 0);
}

void object_note(struct object *object) {
  if (object->noted) return;
  object->noted = true;
  object_keep(object);
  object->noted_next = object->store->noted;
  object->store->noted = object;
  store_soon(object->store);
}

void store_retry(void *context) {
  struct store *store = context;
  store->resting = false;
  write_pump(store);
}

struct object *store_create(struct store *store, const uint8_t key[STORE_KEY_BYTES], const void *meta, size_t meta_length, uint64_t length,
                            int *error) {
  int ignored;
  if (error == NULL) error = &ignored;
  *error = store->mounted != 1 ? STORE_IO : STORE_TOO_LONG;
  if (store->mounted != 1 || meta_length > STORE_META_BYTES) return NULL;
  if (length != STORE_UNKNOWN && (length > store->counts.capacity || length > (uint64_t)DISK_OBJECT_CHUNKS * STORE_CHUNK_BYTES)) return NULL;
  struct object *object = object_take(store, key, meta, meta_length);
  for (unsigned i = 0; i < EVICT_AT_ONCE && object == NULL && may_evict(store) && store_evict(store); i++) {
    object = object_take(store, key, meta, meta_length);
  }
  *error = STORE_FULL;
  if (object == NULL) return NULL;
  *error = 0;
  struct object *before = store_find(store, key);
  if (before != NULL) {
    store_remove(store, before);
    object_release(before);
  }
  object->length = length;
  object_hold(object);
  object_list(object);
  store_soon(store);
  return object;
}

int object_set_meta(struct object *object, const void *meta, size_t length) {
  struct store *store = object->store;
  if (length > STORE_META_BYTES) return STORE_TOO_LONG;
  object_keep(object);
  bool kept = keep_meta(store, object, meta, length);
  for (unsigned i = 0; i < EVICT_AT_ONCE && !kept && store_evict(store); i++) kept = keep_meta(store, object, meta, length);
  if (kept && object->state == 1 && store->device != NULL) {
    object->wants_record = true;
    write_settle(object);
  }
  object_let_go(object);
  return kept ? 0 : STORE_FULL;
}

const uint8_t *object_key(const struct object *object) { return object->key; }

const void *object_meta(const struct object *object, size_t *length) {
  *length = object->meta_length;
  return object->meta;
}

uint64_t object_length(const struct object *object) { return object->length; }
uint64_t object_available(const struct object *object) { return object->filled; }
int object_state(const struct object *object) { return object->state; }

void object_watch(struct object *object, struct watcher *watcher) {
  watcher->previous = NULL;
  watcher->next = object->watchers;
  if (object->watchers != NULL) object->watchers->previous = watcher;
  object->watchers = watcher;
}

void object_unwatch(struct object *object, struct watcher *watcher) {
  if (object->store->next_watcher == watcher) object->store->next_watcher = watcher->next;
  *(watcher->previous != NULL ? &watcher->previous->next : &object->watchers) = watcher->next;
  if (watcher->next != NULL) watcher->next->previous = watcher->previous;
}
