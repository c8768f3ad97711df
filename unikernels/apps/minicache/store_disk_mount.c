/*
 * Finding a volume and what is whole in it: the description, then every record, in the order of the device and through one buffer. What is not
 * sound is passed over; its room is free. A blank device is made a volume, its second description first.
 */
#include "store_disk_inside.h"

#define BUFFER_SECTORS (2 * DISK_RECORD_BYTES / DISK_SECTOR_BYTES)
#define RECORD_SECTORS (DISK_RECORD_BYTES / DISK_SECTOR_BYTES)

static void read_records(struct store *store);

static void end(struct store *store, int status) {
  store->mounted = status;
  store_soon(store); /* tells whoever waits */
}

static void submit(struct store *store, enum shoal_block_operation operation, uint64_t offset, void *bytes, uint32_t length,
                   void (*done)(struct shoal_block_request *request, int status)) {
  store->mount_request = (struct shoal_block_request){
    .operation = operation, .length_bytes = length, .offset_bytes = offset, .bytes = bytes, .done = done, .context = store};
  shoal_block_submit(store->device, &store->mount_request);
}

/* False when it was closed meanwhile or the device failed; nothing more is to be done then. */
static bool goes_on(struct store *store, int status) {
  if (store->closing) {
    store->mounted = STORE_IO;
    store_close(store);
    return false;
  }
  if (status == SHOAL_BLOCK_OK) return true;
  store->counts.io_errors++;
  end(store, STORE_IO);
  return false;
}

/* ---- records ---- */

static bool has_extents(const struct object *object, const struct disk_record *record) {
  const struct extent *extent = object->extents;
  for (uint32_t i = 0; i < record->extent_count; i++, extent = extent->next) {
    struct disk_extent run = disk_record_extent(record, i);
    if (extent == NULL || extent->run.first != run.first || extent->run.count != run.count) return false;
  }
  return extent == NULL && object->length == record->length;
}

static bool claim(struct object *object, const struct disk_record *record) {
  struct store *store = object->store;
  uint32_t index = 0;
  for (uint32_t i = 0; i < record->extent_count; i++) {
    struct disk_extent run = disk_record_extent(record, i);
    if (!disk_map_claim(&store->chunks, run.first, run.count)) return false;
    if (!object_extend(object, run.first, run.count)) {
      disk_map_give(&store->chunks, run.first, run.count);
      return false;
    }
    for (uint32_t j = 0; j < run.count; j++) store->checks[run.first + j] = disk_record_check(record, index++);
  }
  return true;
}

/* Makes an object of it; one that cannot be (no room in RAM, chunks that another has) is erased where it can be. */
static void adopt(struct store *store, const struct disk_record *record, struct place place) {
  struct object *object = object_take(store, record->key, record->meta, record->meta_length);
  if (object == NULL) return;
  disk_map_claim(&store->records, place.sector, place.count);
  object_keep(object);
  object->record = place;
  object->sequence = record->sequence;
  object->length = object->filled = record->length;
  object->state = 1;
  memcpy(object->digest, record->digest, sizeof object->digest);
  object_list(object);
  store->counts.bytes += object->filled;
  if (!claim(object, record)) {
    store->counts.torn++;
    object->state = STORE_CORRUPT;
    object_unlist(object);
  }
  object_let_go(object);
}

static struct object *find(struct store *store, const uint8_t *key) {
  store->mounted = 1; /* for store_find only */
  struct object *object = store_find(store, key);
  store->mounted = 0;
  return object;
}

static void take_in(struct store *store, const struct disk_record *record, uint32_t sector) {
  struct place place = {sector, (record->bytes + DISK_SECTOR_BYTES - 1) / DISK_SECTOR_BYTES};
  struct object *known = find(store, record->key);
  if (record->sequence > store->sequence) store->sequence = record->sequence;
  if (known == NULL) {
    adopt(store, record, place);
    return;
  }
  bool is_newer = record->sequence > known->sequence;
  if (has_extents(known, record) && known->old.count == 0) {
    /* The same body with another meta: the kill came before the older record was erased. */
    disk_map_claim(&store->records, place.sector, place.count);
    known->old = is_newer ? known->record : place;
    if (is_newer) {
      known->record = place;
      known->sequence = record->sequence;
      known->state = 0; /* the record is there already */
      object_set_meta(known, record->meta, record->meta_length);
      known->state = 1;
    }
    write_settle(known);
  } else if (is_newer) {
    store_remove(store, known);
    adopt(store, record, place);
  }
  object_release(known);
}

static void look_at_records(struct store *store) {
  uint32_t total = store->volume.record_sectors;
  while (store->mount_sector < store->mount_to) {
    uint32_t there = store->mount_to - store->mount_sector;
    if (there < RECORD_SECTORS && store->mount_to < total) break;
    const uint8_t *bytes = store->record_buffer + (size_t)(store->mount_sector - store->mount_from) * DISK_SECTOR_BYTES;
    struct disk_record record;
    if (!disk_read_record(&store->volume, store->mount_sector, bytes, (size_t)there * DISK_SECTOR_BYTES, &record)) {
      store->mount_sector++;
      continue;
    }
    take_in(store, &record, store->mount_sector);
    store->mount_sector += (record.bytes + DISK_SECTOR_BYTES - 1) / DISK_SECTOR_BYTES;
  }
}

static void on_records(struct shoal_block_request *request, int status) {
  struct store *store = request->context;
  if (!goes_on(store, status)) return;
  store->mount_to += request->length_bytes / DISK_SECTOR_BYTES;
  look_at_records(store);
  read_records(store);
}

static void read_records(struct store *store) {
  uint32_t total = store->volume.record_sectors, kept = store->mount_to - store->mount_sector;
  if (store->mount_sector >= total) {
    end(store, 1);
    return;
  }
  memmove(store->record_buffer, store->record_buffer + (size_t)(store->mount_sector - store->mount_from) * DISK_SECTOR_BYTES,
          (size_t)kept * DISK_SECTOR_BYTES);
  store->mount_from = store->mount_sector;
  uint32_t take = total - store->mount_to < BUFFER_SECTORS - kept ? total - store->mount_to : BUFFER_SECTORS - kept;
  submit(store, SHOAL_BLOCK_READ, DISK_RECORDS_BYTES + (uint64_t)store->mount_to * DISK_SECTOR_BYTES,
         store->record_buffer + (size_t)kept * DISK_SECTOR_BYTES, take * DISK_SECTOR_BYTES, on_records);
}

/* ---- the volume ---- */

static void on_made(struct shoal_block_request *request, int status) {
  struct store *store = request->context;
  if (!goes_on(store, status)) return;
  end(store, store_lay_out(store) ? 1 : STORE_FULL);
}

static void on_first_written(struct shoal_block_request *request, int status) {
  struct store *store = request->context;
  if (!goes_on(store, status)) return;
  if (shoal_block_info(store->device).flushes) submit(store, SHOAL_BLOCK_FLUSH, 0, NULL, 0, on_made);
  else on_made(request, SHOAL_BLOCK_OK);
}

static void write_first(struct shoal_block_request *request, int status) {
  struct store *store = request->context;
  if (goes_on(store, status)) submit(store, SHOAL_BLOCK_WRITE, DISK_FIRST_COPY_BYTES, store->record_buffer, DISK_VOLUME_BYTES, on_first_written);
}

static void on_second_written(struct shoal_block_request *request, int status) {
  struct store *store = request->context;
  if (!goes_on(store, status)) return;
  if (shoal_block_info(store->device).flushes) submit(store, SHOAL_BLOCK_FLUSH, 0, NULL, 0, write_first);
  else write_first(request, SHOAL_BLOCK_OK);
}

static void make(struct store *store) {
  if (!disk_plan(&store->volume, shoal_block_info(store->device).size_bytes, 0)) {
    end(store, STORE_FULL);
    return;
  }
  shoal_random(store->volume.key, sizeof store->volume.key);
  disk_write_volume(&store->volume, store->record_buffer);
  submit(store, SHOAL_BLOCK_WRITE, DISK_SECOND_COPY_BYTES, store->record_buffer, DISK_VOLUME_BYTES, on_second_written);
}

static void on_volume(struct shoal_block_request *request, int status) {
  struct store *store = request->context;
  if (!goes_on(store, status)) return;
  struct shoal_block_info info = shoal_block_info(store->device);
  switch (disk_read_volume(&store->volume, store->record_buffer, info.size_bytes)) {
    case DISK_VOLUME_VALID:
      if (store_lay_out(store)) read_records(store);
      else end(store, STORE_FULL);
      break;
    case DISK_VOLUME_BLANK:
    case DISK_VOLUME_TORN: make(store); break;
    default: end(store, STORE_CORRUPT); break;
  }
}

void mount_start(struct store *store) {
  if (shoal_block_info(store->device).size_bytes < DISK_RECORDS_BYTES) end(store, STORE_FULL);
  else submit(store, SHOAL_BLOCK_READ, 0, store->record_buffer, DISK_RECORDS_BYTES, on_volume);
}

void store_when_mounted(struct store *store, void (*mounted)(void *arg, int status), void *arg) {
  store->when_mounted = mounted;
  store->when_mounted_arg = arg;
  if (store->mounted != 0) store_soon(store);
}
