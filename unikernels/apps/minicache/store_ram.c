/*
 * The store in RAM alone: metas and bodies in one arena taken at the start, bodies in chunks that readers hold by reference. See
 * store.h for the promises and store_ram_find.c for finding and evicting.
 */
#include "store_ram.h"

/* The tables take a share of the memory beside the arena: an object for 2 KiB, a handle for 4 KiB of it. */
#define OBJECT_SHARE 2048u
#define HANDLE_SHARE 4096u
#define HANDLES_LEAST 256u

static void tell(void *context);

int store_open(struct store **out, const struct store_config *config) {
  struct store *store = shoal_alloc(sizeof *store);
  if (store == NULL || config->device != NULL) {
    shoal_free(store);
    return STORE_FULL;
  }
  memset(store, 0, sizeof *store);
  uint64_t per = OBJECT_SHARE + sizeof(struct object) + 2 * sizeof(struct object *) + sizeof(struct handle) / 2;
  uint32_t count = (uint32_t)(config->ram_bytes / per), handles = count / 2 < HANDLES_LEAST ? HANDLES_LEAST : count / 2, buckets = 1;
  while (buckets < count) buckets *= 2;
  store->objects = shoal_alloc((count + 1) * sizeof *store->objects);
  store->handles = shoal_alloc(handles * sizeof *store->handles);
  store->buckets = shoal_alloc(buckets * sizeof *store->buckets);
  if (store->objects == NULL || store->handles == NULL || store->buckets == NULL || !arena_open(&store->arena, (uint64_t)count * OBJECT_SHARE)) {
    store_close(store);
    return STORE_FULL;
  }
  memset(store->buckets, 0, buckets * sizeof *store->buckets);
  store->bucket_mask = buckets - 1;
  for (uint32_t i = 0; i < count; i++) {
    store->objects[i].next_in_bucket = store->free_objects;
    store->free_objects = &store->objects[i];
  }
  for (uint32_t i = 0; i < handles; i++) {
    store->handles[i].next = store->free_handles;
    store->free_handles = &store->handles[i];
  }
  store->timer = (struct shoal_timer){.fire = tell, .context = store};
  *out = store;
  return 0;
}

void store_close(struct store *store) {
  shoal_timer_cancel(&store->timer);
  arena_close(&store->arena);
  shoal_free(store->objects);
  shoal_free(store->handles);
  shoal_free(store->buckets);
  shoal_free(store);
}

/* Chunks and the pointers to them. */
static uint64_t needed_bytes(uint64_t length) {
  uint64_t chunks = length / STORE_CHUNK_BYTES, tail = length % STORE_CHUNK_BYTES;
  return length == 0 ? 0 : chunks * STORE_CHUNK_BYTES + (tail == 0 ? 0 : (uint64_t)ARENA_UNIT_BYTES << arena_order((size_t)tail)) + 2 * ARENA_UNIT_BYTES + 16 * chunks;
}

/* `bytes` of what was reserved are taken, or not needed any more. */
static void use_reserved(struct object *object, uint64_t bytes) {
  if (bytes > object->reserved) bytes = object->reserved;
  object->reserved -= bytes;
  object->store->committed -= bytes;
}

struct object *store_create(struct store *store, const uint8_t key[STORE_KEY_BYTES], const void *meta, size_t meta_length, uint64_t length, int *error) {
  *error = meta_length > STORE_META_BYTES || (length != STORE_UNKNOWN && length > store->arena.units * (uint64_t)ARENA_UNIT_BYTES / 2) ? STORE_TOO_LONG : 0;
  if (*error != 0) return NULL;
  /* Room for all of it is made now: a body that began to be sent must not end for want of memory. */
  uint64_t needed = length == STORE_UNKNOWN ? 0 : needed_bytes(length);
  while (store->arena.free_bytes < store->committed + needed + STORE_META_BYTES && ram_evict(store)) continue;
  if (needed > 0 && store->arena.free_bytes < store->committed + needed + STORE_META_BYTES) {
    *error = STORE_FULL;
    return NULL;
  }
  while (store->free_objects == NULL && ram_evict(store)) continue;
  unsigned order = arena_order(meta_length);
  void *copy = store->free_objects == NULL ? NULL : ram_alloc(store, order);
  if (copy == NULL) {
    *error = STORE_FULL;
    return NULL;
  }
  struct object *before = store_find(store, key), *object = store->free_objects;
  if (before != NULL) {
    ram_unlist(before);
    object_release(before);
  }
  store->free_objects = object->next_in_bucket;
  memset(object, 0, sizeof *object);
  memcpy(object->key, key, STORE_KEY_BYTES);
  memcpy(copy, meta, meta_length);
  object->store = store;
  object->meta = copy;
  object->meta_length = (uint16_t)meta_length;
  object->meta_order = (uint8_t)order;
  object->length = length;
  object->reserved = needed;
  store->committed += needed;
  object->holders = 1;
  ram_list(object);
  return object;
}

void object_hold(struct object *object) { object->holders++; }

void object_release(struct object *object) {
  if (object->holders == 0) shoal_panic("store: an object released once too often");
  if (--object->holders == 0 && !object->listed) ram_free_object(object);
}

static void free_body(struct object *object) {
  struct arena *arena = &object->store->arena;
  for (struct node *node = object->first, *next; node != NULL; node = next) {
    uint32_t count = node == object->last ? object->last_count : NODE_CHUNKS;
    next = node->next;
    for (uint32_t i = 0; i < count; i++) arena_free(arena, node->chunks[i], next == NULL && i + 1 == count ? object->tail_order : ARENA_ORDERS - 1);
    arena_free(arena, node, (unsigned)node->order);
  }
  object->first = object->last = NULL;
  object->last_count = 0;
}

void ram_free_object(struct object *object) {
  struct store *store = object->store;
  if (object->dirty) return; /* `tell` comes back to it */
  free_body(object);
  arena_free(&store->arena, object->meta, object->meta_order);
  object->next_in_bucket = store->free_objects;
  store->free_objects = object;
}

const uint8_t *object_key(const struct object *object) { return object->key; }
const void *object_meta(const struct object *object, size_t *length) {
  *length = object->meta_length;
  return object->meta;
}
uint64_t object_length(const struct object *object) { return object->length; }
uint64_t object_available(const struct object *object) { return object->available; }
int object_state(const struct object *object) { return object->state; }

int object_set_meta(struct object *object, const void *meta, size_t length) {
  unsigned order = arena_order(length);
  if (length > STORE_META_BYTES) return STORE_TOO_LONG;
  if (order != object->meta_order) {
    void *copy = ram_alloc(object->store, order);
    if (copy == NULL) return STORE_FULL;
    arena_free(&object->store->arena, object->meta, object->meta_order);
    object->meta = copy;
    object->meta_order = (uint8_t)order;
  }
  memcpy(object->meta, meta, length);
  object->meta_length = (uint16_t)length;
  return 0;
}

/* ---- filling ---- */

/* A place for one more pointer; the last node grows by doubling until it is full. */
static bool make_place(struct object *object) {
  struct node *last = object->last;
  struct store *store = object->store;
  uint32_t room = last == NULL ? 0 : (uint32_t)((((size_t)ARENA_UNIT_BYTES << last->order) - sizeof *last) / sizeof *last->chunks);
  if (object->last_count < room) return true;
  bool full = last == NULL || last->order == ARENA_ORDERS - 1;
  struct node *node = ram_alloc(store, full ? 0 : (unsigned)last->order + 1);
  if (node == NULL) return false;
  node->order = full ? 0 : last->order + 1;
  node->next = NULL;
  if (full) {
    if (last == NULL) object->first = node;
    else last->next = node;
    object->last_count = 0;
  } else {
    memcpy(node->chunks, last->chunks, object->last_count * sizeof *last->chunks);
    struct node **at = &object->first;
    while (*at != last) at = &(*at)->next;
    *at = node;
    arena_free(&store->arena, last, (unsigned)last->order);
  }
  object->last = node;
  return true;
}

int64_t object_append(struct object *object, const void *data, size_t length) {
  const uint8_t *bytes = data;
  size_t left = length;
  if (object->state != 0) return STORE_ABANDONED;
  if (object->length != STORE_UNKNOWN && length > object->length - object->available) return STORE_TOO_LONG;
  while (left > 0) {
    uint32_t used = (uint32_t)(object->available % STORE_CHUNK_BYTES);
    if (used == 0) {
      uint64_t expected = object->length == STORE_UNKNOWN ? STORE_CHUNK_BYTES : object->length - object->available;
      unsigned order = expected >= STORE_CHUNK_BYTES ? ARENA_ORDERS - 1 : arena_order((size_t)expected);
      if (object->available > object->store->arena.units * (uint64_t)ARENA_UNIT_BYTES / 2) return STORE_TOO_LONG;
      void *chunk = make_place(object) ? ram_alloc(object->store, order) : NULL;
      if (chunk == NULL) return STORE_FULL;
      object->last->chunks[object->last_count++] = chunk;
      use_reserved(object, (uint64_t)ARENA_UNIT_BYTES << order);
      object->tail_order = (uint8_t)order;
    }
    size_t count = STORE_CHUNK_BYTES - used < left ? STORE_CHUNK_BYTES - used : left;
    memcpy(object->last->chunks[object->last_count - 1] + used, bytes, count);
    object->available += count;
    bytes += count, left -= count;
  }
  ram_tell_later(object);
  return (int64_t)length;
}

int object_complete(struct object *object, const uint8_t digest[32]) {
  (void)digest; /* memory does not tear */
  if (object->state != 0) return STORE_ABANDONED;
  if (object->length != STORE_UNKNOWN && object->length != object->available) return STORE_CORRUPT;
  object->length = object->available;
  use_reserved(object, object->reserved);
  object->state = 1;
  uint32_t tail = (uint32_t)(object->length % STORE_CHUNK_BYTES);
  if (tail != 0) {
    unsigned order = arena_order(tail);
    arena_shrink(&object->store->arena, object->last->chunks[object->last_count - 1], object->tail_order, order);
    object->tail_order = (uint8_t)order;
  }
  ram_tell_later(object);
  return 0;
}

void object_abandon(struct object *object, int reason) {
  if (object->state != 0) return;
  use_reserved(object, object->reserved);
  object->state = reason < 0 ? reason : STORE_ABANDONED;
  object_hold(object);
  ram_unlist(object);
  ram_tell_later(object);
  object_release(object);
}

/* ---- watching and reading ---- */

void ram_tell_later(struct object *object) {
  struct store *store = object->store;
  if (object->dirty) return;
  object->dirty = true;
  object->next_dirty = store->dirty;
  store->dirty = object;
  if (!store->timer.armed) shoal_timer_set(&store->timer, 0);
}

static void tell(void *context) {
  struct store *store = context;
  while (store->dirty != NULL) {
    struct object *object = store->dirty;
    store->dirty = object->next_dirty;
    object->dirty = false;
    object->holders++;
    /* A watcher may take itself off, and others; each is called once, the list is walked from the mark on. */
    struct watcher mark = {.changed = NULL};
    object_watch(object, &mark);
    while (mark.next != NULL) {
      struct watcher *watcher = mark.next;
      object_unwatch(object, &mark);
      mark.previous = watcher, mark.next = watcher->next;
      if (watcher->next != NULL) watcher->next->previous = &mark;
      watcher->next = &mark;
      if (watcher->changed != NULL) watcher->changed(watcher->arg, object);
    }
    object_unwatch(object, &mark);
    object_release(object);
  }
  while (store->waiting != NULL && store->free_handles != NULL) {
    struct reading *reading = store->waiting;
    store->waiting = reading->private[0];
    struct chunk *chunk = NULL;
    int status = object_read(reading->private[1], (uint64_t)(uintptr_t)reading->private[2], &chunk, reading);
    if (status != 0) reading->ready(reading->arg, status, chunk);
  }
}

void object_watch(struct object *object, struct watcher *watcher) {
  watcher->previous = NULL;
  watcher->next = object->watchers;
  if (object->watchers != NULL) object->watchers->previous = watcher;
  object->watchers = watcher;
}

void object_unwatch(struct object *object, struct watcher *watcher) {
  if (watcher->previous != NULL) watcher->previous->next = watcher->next;
  else object->watchers = watcher->next;
  if (watcher->next != NULL) watcher->next->previous = watcher->previous;
  watcher->next = watcher->previous = NULL;
}

int object_read(struct object *object, uint64_t offset, struct chunk **out, struct reading *reading) {
  struct store *store = object->store;
  if (offset >= object->available) return STORE_TOO_LONG;
  struct handle *handle = store->free_handles;
  if (handle == NULL) {
    reading->private[0] = NULL;
    reading->private[1] = object;
    reading->private[2] = (void *)(uintptr_t)offset;
    struct reading **at = &store->waiting;
    while (*at != NULL) at = (struct reading **)&(*at)->private[0];
    *at = reading;
    return 0;
  }
  uint64_t index = offset / STORE_CHUNK_BYTES;
  struct node *node = object->first;
  for (; index >= NODE_CHUNKS; index -= NODE_CHUNKS) node = node->next;
  uint32_t skip = (uint32_t)(offset % STORE_CHUNK_BYTES);
  uint64_t rest = object->available - (offset - skip);
  store->free_handles = handle->next;
  handle->chunk = (struct chunk){node->chunks[index] + skip, (uint32_t)(rest < STORE_CHUNK_BYTES ? rest : STORE_CHUNK_BYTES) - skip};
  handle->object = object;
  object->holders++;
  *out = &handle->chunk;
  return 1;
}

void object_unread(struct object *object, struct reading *reading) {
  for (struct reading **at = &object->store->waiting; *at != NULL; at = (struct reading **)&(*at)->private[0]) {
    if (*at != reading) continue;
    *at = reading->private[0];
    return;
  }
}

void chunk_release(struct chunk *chunk) {
  struct handle *handle = (struct handle *)(void *)chunk;
  struct store *store = handle->object->store;
  object_release(handle->object);
  handle->next = store->free_handles;
  store->free_handles = handle;
  if (store->waiting != NULL && !store->timer.armed) shoal_timer_set(&store->timer, 0);
}

STORE_DEFINE_TABLE(store_in_ram)
