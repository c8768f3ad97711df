/*
 * Reading: what is in RAM is handed out at once; misses of one chunk share one read; the next chunks are read ahead. A chunk whose
 * check does not fit is handed to nobody, and its object is dropped.
 */
#include "store_disk_inside.h"

/* reading->private: the object, the offset, the next reading of that object. */
#define READING_OBJECT(it) ((it)->private[0])
#define READING_OFFSET(it) ((uint64_t)(uintptr_t)(it)->private[1])
#define READING_NEXT(it) (*(struct reading **)&(it)->private[2])

static bool has_data(const struct frame *frame) { return frame->state != FRAME_FREE && frame->state != FRAME_READING; }

static void on_read(struct shoal_block_request *request, int status);

static int start_read(struct object *object, uint32_t index, uint32_t chunk) {
  struct store *store = object->store;
  if (store->reads_under_way >= DATA_READS) return 0;
  struct frame *frame = frame_take(store, chunk);
  if (frame == NULL) return 0;
  uint64_t rest = object->filled - (uint64_t)index * STORE_CHUNK_BYTES;
  frame->length = rest < STORE_CHUNK_BYTES ? (uint32_t)rest : STORE_CHUNK_BYTES;
  frame->state = FRAME_READING;
  frame->object = object;
  object_keep(object);
  store->reads_under_way++;
  store->counts.device_reads++;
  frame->request = (struct shoal_block_request){
    .operation = SHOAL_BLOCK_READ,
    .length_bytes = (frame->length + DISK_SECTOR_BYTES - 1) / DISK_SECTOR_BYTES * DISK_SECTOR_BYTES,
    .offset_bytes = store->volume.chunks_offset + (uint64_t)chunk * STORE_CHUNK_BYTES,
    .bytes = frame->data,
    .done = on_read,
    .context = frame,
  };
  shoal_block_submit(store->device, &frame->request);
  return 1;
}

static void read_ahead(struct object *object, uint32_t index) {
  if (object->store->device == NULL || object->state != 1) return;
  for (uint32_t next = index + 1; next <= index + READ_AHEAD && next < object->chunk_count; next++) {
    uint32_t chunk = object_chunk(object, next);
    if (frame_find(object->store, chunk) == NULL && !start_read(object, next, chunk)) return;
  }
}

/* 1: *out is there; 0: not yet, and what can be done for it is under way; negative: never. */
static int look(struct object *object, uint64_t offset, struct chunk **out) {
  struct store *store = object->store;
  if (object->state < 0) return object->state;
  if (offset >= object->filled) return object->state == 1 ? STORE_TOO_LONG : 0;
  uint32_t index = (uint32_t)(offset / STORE_CHUNK_BYTES), chunk = object_chunk(object, index);
  struct frame *frame = frame_find(store, chunk);
  if (frame == NULL) {
    if (!start_read(object, index, chunk)) store->starving = true;
    else read_ahead(object, index);
    return 0;
  }
  if (!has_data(frame)) return 0;
  struct handle *handle = store->free_handles;
  if (handle == NULL) {
    store->starving = true;
    return 0;
  }
  uint32_t within = (uint32_t)(offset % STORE_CHUNK_BYTES);
  store->free_handles = handle->next;
  *handle = (struct handle){.chunk = {frame->data + within, frame->length - within}, .frame = frame, .object = object};
  frame->refs++;
  frame->visited = true;
  object_keep(object);
  *out = &handle->chunk;
  read_ahead(object, index);
  return 1;
}

/* ---- those who wait ---- */

static void wait(struct object *object, struct reading *reading) {
  struct store *store = object->store;
  if (object->readings == NULL) {
    object_keep(object);
    object->waiting_previous = NULL;
    object->waiting_next = store->waiting;
    if (store->waiting != NULL) store->waiting->waiting_previous = object;
    store->waiting = object;
  }
  READING_NEXT(reading) = NULL;
  *(object->readings != NULL ? &READING_NEXT(object->last_reading) : &object->readings) = reading;
  object->last_reading = reading;
}

static void wait_no_more(struct object *object, struct reading *reading, struct reading *before) {
  struct store *store = object->store;
  *(before != NULL ? &READING_NEXT(before) : &object->readings) = READING_NEXT(reading);
  if (object->last_reading == reading) object->last_reading = before;
  READING_OBJECT(reading) = NULL;
  if (object->readings != NULL) return;
  *(object->waiting_previous != NULL ? &object->waiting_previous->waiting_next : &store->waiting) = object->waiting_next;
  if (object->waiting_next != NULL) object->waiting_next->waiting_previous = object->waiting_previous;
  object_let_go(object);
}

/* Serves one that can be served; `failed` ends those that wait for chunk `index` with that status. */
static bool serve_one(struct object *object, uint32_t index, int failed) {
  for (struct reading *reading = object->readings, *before = NULL; reading != NULL; before = reading, reading = READING_NEXT(reading)) {
    struct chunk *chunk = NULL;
    bool is_hit = failed != 0 && READING_OFFSET(reading) / STORE_CHUNK_BYTES == index;
    int status = is_hit ? failed : failed != 0 ? 0 : look(object, READING_OFFSET(reading), &chunk);
    if (status == 0) continue;
    wait_no_more(object, reading, before);
    reading->ready(reading->arg, status, chunk);
    return true;
  }
  return false;
}

void read_serve(struct object *object) {
  object_keep(object);
  while (serve_one(object, 0, 0)) continue;
  object_let_go(object);
}

void read_serve_all(struct store *store) {
  store->starving = false;
  for (struct object *object = store->waiting, *next; object != NULL; object = next) {
    object_keep(object);
    next = object->waiting_next;
    read_serve(object);
    /* Whoever was served may have ended other readings too: the rest has its turn when there is room again. */
    bool moved = next != NULL && next->readings == NULL;
    object_let_go(object);
    if (moved) store->starving = true;
    if (store->starving) break;
  }
}

static void on_read(struct shoal_block_request *request, int status) {
  struct frame *frame = request->context;
  struct object *object = frame->object;
  struct store *store = object->store;
  uint32_t chunk = frame->chunk, index = 0;
  store->reads_under_way--;
  frame->state = FRAME_CLEAN;
  if (store->closing) {
    object_let_go(object);
    store_close(store);
    return;
  }
  if (status != SHOAL_BLOCK_OK) {
    store->counts.io_errors++;
    frame_free(store, frame);
    for (struct extent *extent = object->extents; extent != NULL; extent = extent->next) {
      bool within = chunk - extent->run.first < extent->run.count;
      index += within ? chunk - extent->run.first : extent->run.count;
      if (within) break;
    }
    while (serve_one(object, index, STORE_IO)) continue;
  } else if (disk_check_chunk(&store->volume, frame->data, frame->length) != store->checks[chunk]) {
    store->counts.torn++;
    frame_free(store, frame);
    object->state = STORE_CORRUPT;
    object_unlist(object);
    object_note(object);
    read_serve(object);
  } else {
    read_serve(object);
  }
  if (store->starving) store->room = true, store_soon(store);
  object_let_go(object);
}

int object_read(struct object *object, uint64_t offset, struct chunk **out, struct reading *reading) {
  int status = look(object, offset, out);
  if (status != 0) return status;
  READING_OBJECT(reading) = object;
  reading->private[1] = (void *)(uintptr_t)offset;
  wait(object, reading);
  return 0;
}

void object_unread(struct object *object, struct reading *reading) {
  for (struct reading *at = object->readings, *before = NULL; at != NULL; before = at, at = READING_NEXT(at)) {
    if (at != reading) continue;
    wait_no_more(object, reading, before);
    return;
  }
}

void chunk_release(struct chunk *chunk) {
  struct handle *handle = (struct handle *)chunk;
  struct object *object = handle->object;
  struct store *store = object->store;
  if (handle->frame->refs == 0) shoal_panic("store: a chunk released too often");
  handle->frame->refs--;
  handle->next = store->free_handles;
  store->free_handles = handle;
  if (store->starving || store->blocked != NULL) store->room = true, store_soon(store);
  object_let_go(object);
}
