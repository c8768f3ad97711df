/*
 * What is written, and in which order, so that a kill at any instant leaves only whole objects to be found:
 *
 *   chunks of an object -> flush -> its record                     (a record never names chunks that are not there)
 *   record erased -> flush -> its chunks and sectors are free      (nor chunks that are another's)
 *   new record -> flush -> the old one erased                      (of two records of a key the later one counts)
 *
 * Chunks go out as they are filled. Records go round in cycles, for many objects at once: erase, flush, record.
 */
#include "store_disk_inside.h"

static void put_on(struct object_list *list, struct object *object) {
  object->work_next = NULL;
  *(list->first != NULL ? &list->last->work_next : &list->first) = object;
  list->last = object;
}

static struct object *take_off(struct object_list *list) {
  struct object *object = list->first;
  if (object != NULL) list->first = object->work_next;
  return object;
}

void write_settle(struct object *object) {
  struct store *store = object->store;
  if (store->device == NULL || object->work != WORK_NONE) return;
  bool erase = object->old.count > 0 || (!object->listed && object->record.count > 0);
  bool record = object->listed && object->wants_record && object->state == 1 && object->unwritten == 0;
  if (!erase && !record) return;
  object->work = WORK_QUEUED;
  object_keep(object);
  put_on(erase ? &store->erase : &store->ready, object);
  store_soon(store);
}

static void end_work(struct object *object) {
  object->work = WORK_NONE;
  write_settle(object);
  object_let_go(object);
}

/* ---- chunks ---- */

void write_queue(struct frame *frame) {
  struct store *store = frame->object->store;
  frame->state = FRAME_DIRTY;
  frame->next = NULL;
  object_keep(frame->object);
  frame->object->unwritten++;
  *(store->first_dirty != NULL ? &store->last_dirty->next : &store->first_dirty) = frame;
  store->last_dirty = frame;
}

/* It stays in RAM, as a chunk of an object that nobody finds. */
static void end_write(struct frame *frame) {
  struct object *object = frame->object;
  struct store *store = object->store;
  frame->state = FRAME_CLEAN;
  frame->object = NULL;
  store->dirty_count--;
  object->unwritten--;
  store->room = true;
  if (object->unwritten == 0) write_settle(object);
  object_let_go(object);
  store_soon(store);
}

void fill_drop(struct object *object) {
  struct store *store = object->store;
  if (object->tail != NULL) {
    object->tail->state = FRAME_CLEAN;
    object->tail->object = NULL;
    object->tail = NULL;
    store->dirty_count--;
    store->room = true;
  }
  struct frame *kept = NULL;
  for (struct frame *frame = store->first_dirty, *next; frame != NULL; frame = next) {
    next = frame->next;
    if (frame->object != object) {
      kept = frame;
      continue;
    }
    *(kept != NULL ? &kept->next : &store->first_dirty) = next;
    if (store->last_dirty == frame) store->last_dirty = kept;
    end_write(frame);
  }
}

static void on_written(struct shoal_block_request *request, int status) {
  struct frame *frame = request->context;
  struct object *object = frame->object;
  struct store *store = object->store;
  store->writes_under_way--;
  object_keep(object);
  if (status != SHOAL_BLOCK_OK) {
    store->counts.io_errors++;
    if (object->state >= 0) {
      object->state = STORE_IO;
      fill_drop(object);
      object_unlist(object);
      object_note(object);
    }
  }
  end_write(frame);
  object_let_go(object);
  if (store->closing) store_close(store);
  else write_pump(store);
}

static void write_chunks(struct store *store) {
  while (store->first_dirty != NULL && store->writes_under_way < DATA_WRITES) {
    struct frame *frame = store->first_dirty;
    store->first_dirty = frame->next;
    uint32_t padded = (frame->length + DISK_SECTOR_BYTES - 1) / DISK_SECTOR_BYTES * DISK_SECTOR_BYTES;
    memset(frame->data + frame->length, 0, padded - frame->length);
    frame->state = FRAME_WRITING;
    frame->request = (struct shoal_block_request){
      .operation = SHOAL_BLOCK_WRITE,
      .length_bytes = padded,
      .offset_bytes = store->volume.chunks_offset + (uint64_t)frame->chunk * STORE_CHUNK_BYTES,
      .bytes = frame->data,
      .done = on_written,
      .context = frame,
    };
    store->writes_under_way++;
    store->counts.device_writes++;
    shoal_block_submit(store->device, &frame->request);
  }
}

/* ---- records ---- */

enum step { STEP_FLUSH_RECORDS, STEP_ERASE, STEP_FLUSH, STEP_RECORD, STEP_FLUSH_LAST };

static void end_step(struct store *store);

static void on_step(struct shoal_block_request *request, int status) {
  struct store *store = request->context;
  if (status != SHOAL_BLOCK_OK) store->step_failed = true;
  if (--store->requests_left > 0) return;
  if (!store->closing) {
    end_step(store);
    return;
  }
  store->cycle = false;
  store_close(store);
}

static void submit(struct store *store, enum shoal_block_operation operation, uint32_t sector, void *bytes, uint32_t length) {
  struct shoal_block_request *request = &store->requests[store->requests_left++];
  *request = (struct shoal_block_request){
    .operation = operation,
    .length_bytes = length,
    .offset_bytes = operation == SHOAL_BLOCK_FLUSH ? 0 : DISK_RECORDS_BYTES + (uint64_t)sector * DISK_SECTOR_BYTES,
    .bytes = bytes,
    .done = on_step,
    .context = store,
  };
  if (operation == SHOAL_BLOCK_WRITE) store->counts.device_writes++;
  shoal_block_submit(store->device, request);
}

/* A step without a request ends at once. */
static void begin_step(struct store *store, enum step step) {
  store->step = (uint8_t)step;
  store->step_failed = false;
  store->requests_left = 0;
}

static void begin_flush(struct store *store, enum step step, bool is_needed) {
  begin_step(store, step);
  if (is_needed && shoal_block_info(store->device).flushes) submit(store, SHOAL_BLOCK_FLUSH, 0, NULL, 0);
  else end_step(store);
}

static void begin_cycle(struct store *store) {
  bool has_old = false;
  store->cycle = true;
  store->recording = store->ready;
  store->ready = (struct object_list){0};
  for (unsigned i = 0; store->erase.first != NULL && i < RECORD_REQUESTS / 2; i++) {
    struct object *object = take_off(&store->erase);
    object->work = WORK_BUSY;
    has_old |= object->old.count > 0;
    put_on(&store->erasing, object);
  }
  begin_flush(store, STEP_FLUSH_RECORDS, has_old);
}

static void erase_records(struct store *store) {
  begin_step(store, STEP_ERASE);
  for (struct object *object = store->erasing.first; object != NULL; object = object->work_next) {
    object->erasing = !object->listed && object->record.count > 0;
    if (object->old.count > 0) submit(store, SHOAL_BLOCK_WRITE, object->old.sector, store->zeros, DISK_SECTOR_BYTES);
    if (object->erasing) submit(store, SHOAL_BLOCK_WRITE, object->record.sector, store->zeros, DISK_SECTOR_BYTES);
  }
  if (store->requests_left == 0) end_step(store);
}

static void give_back(struct store *store, struct place *place) {
  if (place->count > 0) disk_map_give(&store->records, place->sector, place->count);
  place->count = 0;
}

static void end_erasures(struct store *store) {
  struct object *object;
  while ((object = take_off(&store->erasing)) != NULL) {
    give_back(store, &object->old);
    if (object->erasing) give_back(store, &object->record);
    end_work(object); /* one that was removed in between comes round again */
  }
}

/* All that was to be done waits for another try. */
static void rest(struct store *store) {
  struct object *object;
  while ((object = take_off(&store->recorded)) != NULL) {
    object->wants_record = true; /* it may be there or not: written anew, then erased */
    end_work(object);
  }
  while ((object = take_off(&store->erasing)) != NULL) object->work = WORK_QUEUED, put_on(&store->erase, object);
  while ((object = take_off(&store->recording)) != NULL) put_on(&store->ready, object);
  store->counts.io_errors++;
  store->cycle = false;
  store->resting = true;
  shoal_timer_set(&store->retry, shoal_now_ns() + RETRY_NS);
}

static void write_record(struct store *store, struct object *object, uint32_t sector, uint8_t *bytes) {
  struct disk_extent extents[DISK_EXTENTS];
  uint32_t count = 0;
  for (struct extent *extent = object->extents; extent != NULL; extent = extent->next) extents[count++] = extent->run;
  object->sequence = ++store->sequence;
  struct disk_write write = {.sector = sector, .sequence = object->sequence, .length = object->length, .key = object->key,
                             .digest = object->digest, .meta = object->meta, .meta_length = object->meta_length,
                             .extent_count = count, .extents = extents, .checks = store->checks};
  submit(store, SHOAL_BLOCK_WRITE, sector, bytes, disk_write_record(&store->volume, &write, bytes));
}

static void write_records(struct store *store) {
  uint32_t used = 0;
  begin_step(store, STEP_RECORD);
  while (store->recording.first != NULL && store->requests_left < RECORD_REQUESTS) {
    struct object *object = store->recording.first;
    uint32_t bytes = disk_record_bytes(object->extent_count, object->chunk_count, object->meta_length);
    uint32_t sectors = (bytes + DISK_SECTOR_BYTES - 1) / DISK_SECTOR_BYTES, sector;
    if (used + sectors * DISK_SECTOR_BYTES > 2 * DISK_RECORD_BYTES) break;
    take_off(&store->recording);
    if (!object->listed) {
      end_work(object);
    } else if (disk_map_take(&store->records, sectors, sectors, &sector) == 0) {
      /* Another gives way, and this one's turn comes again; where none can, it is not found after a restart. */
      bool soon = store_evict(store) || store->erase.first != NULL;
      if (!soon) object->wants_record = false;
      end_work(object);
    } else {
      object->work = WORK_BUSY;
      object->wants_record = false; /* who changes the meta from now on wants another */
      object->old = object->record;
      object->record = (struct place){sector, sectors};
      store->unflushed = true;
      put_on(&store->recorded, object);
      write_record(store, object, sector, store->record_buffer + used);
      used += sectors * DISK_SECTOR_BYTES;
    }
  }
  if (store->requests_left > 0) return;
  if (store->unflushed && store->erase.first == NULL && store->ready.first == NULL) {
    begin_flush(store, STEP_FLUSH_LAST, true); /* nothing else would flush them */
    return;
  }
  store->cycle = false;
  if (store->erase.first != NULL || store->ready.first != NULL) store_soon(store);
}

static void end_step(struct store *store) {
  struct object *object;
  if (store->step_failed) {
    rest(store);
    return;
  }
  switch ((enum step)store->step) {
    case STEP_FLUSH_RECORDS: erase_records(store); break;
    case STEP_ERASE: begin_flush(store, STEP_FLUSH, true); break;
    case STEP_FLUSH:
      store->unflushed = false;
      end_erasures(store);
      write_records(store);
      break;
    case STEP_RECORD:
      while ((object = take_off(&store->recorded)) != NULL) end_work(object);
      write_records(store);
      break;
    case STEP_FLUSH_LAST:
      store->unflushed = store->cycle = false;
      if (store->erase.first != NULL || store->ready.first != NULL) store_soon(store);
      break;
  }
}

void write_pump(struct store *store) {
  if (store->device == NULL || store->closing || store->mounted != 1) return;
  write_chunks(store);
  if (!store->cycle && !store->resting && (store->erase.first != NULL || store->ready.first != NULL || store->unflushed)) begin_cycle(store);
}

int store_settled(const struct store *store) {
  return !store->cycle && !store->unflushed && store->erase.first == NULL && store->ready.first == NULL && store->first_dirty == NULL && store->writes_under_way == 0;
}

void store_close(struct store *store) {
  store->closing = true;
  shoal_timer_cancel(&store->tick);
  shoal_timer_cancel(&store->retry);
  if (store->reads_under_way > 0 || store->writes_under_way > 0 || store->cycle || store->mounted == 0) return; /* the last one to end comes back */
  shoal_free(store->memory);
  shoal_free(store);
}
