/* Filling: bytes are copied once, into the frame that goes to the device; who fills faster than it writes is told to wait. */
#include "store_disk_inside.h"

/* Chunks taken at once for an object of unknown length. */
#define RUN_CHUNKS 16u

static bool take_chunks(struct object *object) {
  struct store *store = object->store;
  uint32_t want = RUN_CHUNKS, first, got;
  if (object->length != STORE_UNKNOWN) {
    uint64_t chunks = (object->length + STORE_CHUNK_BYTES - 1) / STORE_CHUNK_BYTES;
    want = (uint32_t)(chunks - object->chunk_count);
  } else if (store->device == NULL) {
    want = 1;
  }
  /* Half of the extents may be of any size; then they have to be long enough for the rest to fit. */
  uint32_t spare = DISK_EXTENTS - object->extent_count, least = 1;
  if (spare == 0 && object->last_extent != NULL) {
    got = 1, first = object->last_extent->run.first + object->last_extent->run.count;
    if (!disk_map_claim(&store->chunks, first, 1)) return false;
  } else {
    if (object->length != STORE_UNKNOWN && spare < DISK_EXTENTS / 2) least = (want + spare - 1) / spare;
    got = disk_map_take(&store->chunks, want, least, &first);
    if (got == 0) return false;
  }
  if (object_extend(object, first, got)) return true;
  disk_map_give(&store->chunks, first, got);
  return false;
}

static bool has_chunk(struct object *object, uint32_t index) {
  struct store *store = object->store;
  if (index < object->chunk_count) return true;
  if (take_chunks(object)) return true;
  if (store->device != NULL) {
    if (store->erase.first == NULL && store->erasing.first == NULL) store_evict(store);
    return false;
  }
  while (store_evict(store)) {
    if (take_chunks(object)) return true;
  }
  return false;
}

static void block(struct object *object) {
  struct store *store = object->store;
  if (!object->blocked) {
    object->blocked = true;
    object_keep(object);
    object->blocked_next = store->blocked;
    store->blocked = object;
  }
}

/* The frame that takes the next byte; NULL when there is none now. */
static struct frame *next_frame(struct object *object) {
  struct store *store = object->store;
  if (object->tail != NULL) return object->tail;
  uint32_t index = (uint32_t)(object->filled / STORE_CHUNK_BYTES);
  if (!has_chunk(object, index)) return NULL;
  if (store->device != NULL && store->dirty_count >= store->dirty_most) return NULL;
  struct frame *frame = frame_take(store, object_chunk(object, index));
  if (frame == NULL) return NULL;
  frame->state = FRAME_FILLING;
  frame->object = object;
  store->dirty_count++;
  object->tail = frame;
  return frame;
}

static void end_tail(struct object *object) {
  struct store *store = object->store;
  struct frame *frame = object->tail;
  object->tail = NULL;
  if (store->device != NULL) {
    store->checks[frame->chunk] = disk_check_chunk(&store->volume, frame->data, frame->length);
    write_queue(frame);
    return;
  }
  frame->state = FRAME_CLEAN;
  frame->object = NULL;
  store->dirty_count--;
}

int64_t object_append(struct object *object, const void *data, size_t length) {
  struct store *store = object->store;
  const uint8_t *at = data;
  if (object->state != 0) return object->state < 0 ? object->state : STORE_EXISTS;
  uint64_t most = object->length != STORE_UNKNOWN ? object->length : (uint64_t)DISK_OBJECT_CHUNKS * STORE_CHUNK_BYTES;
  if (most > store->counts.capacity) most = store->counts.capacity;
  if (length > most - object->filled) return STORE_TOO_LONG;
  size_t left = length;
  while (left > 0) {
    struct frame *frame = next_frame(object);
    if (frame == NULL) break;
    size_t room = STORE_CHUNK_BYTES - frame->length, take = left < room ? left : room;
    memcpy(frame->data + frame->length, at, take);
    frame->length += (uint32_t)take;
    object->filled += take;
    at += take, left -= take;
    if (frame->length == STORE_CHUNK_BYTES) end_tail(object);
  }
  if (object->listed) store->counts.bytes += length - left;
  if (left > 0) block(object);
  if (left < length) object_note(object);
  store_soon(store);
  /* A device with nothing under way and nothing to evict will never have room. */
  if (left == length && length > 0 && store->coming == 0 && object->filled / STORE_CHUNK_BYTES >= object->chunk_count) {
    return STORE_FULL;
  }
  return (int64_t)(length - left);
}

int object_complete(struct object *object, const uint8_t digest[32]) {
  struct store *store = object->store;
  if (object->state != 0) return object->state < 0 ? object->state : STORE_EXISTS;
  if (object->length != STORE_UNKNOWN && object->length != object->filled) {
    object_abandon(object, STORE_CORRUPT);
    return STORE_CORRUPT;
  }
  memcpy(object->digest, digest, sizeof object->digest);
  object->length = object->filled;
  if (object->tail != NULL) end_tail(object);
  object->state = 1;
  /* A run that was taken in advance gives back what it did not need. */
  uint32_t need = (uint32_t)((object->length + STORE_CHUNK_BYTES - 1) / STORE_CHUNK_BYTES);
  if (object->chunk_count > need) {
    struct extent *last = object->last_extent;
    uint32_t spare = object->chunk_count - need;
    if (spare >= last->run.count) shoal_panic("store: %u chunks too many", spare);
    last->run.count -= spare;
    object->chunk_count = need;
    if (!object->listed) store->coming -= spare;
    disk_map_give(&store->chunks, last->run.first + last->run.count, spare);
  }
  if (store->device != NULL) {
    object->wants_record = true;
    write_settle(object);
  }
  object_note(object);
  return 0;
}

void object_abandon(struct object *object, int reason) {
  if (object->state != 0) return;
  object_keep(object);
  object->state = reason < 0 ? reason : STORE_ABANDONED;
  fill_drop(object);
  object_unlist(object);
  object_note(object);
  object_let_go(object);
}
