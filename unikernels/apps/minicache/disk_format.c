/* See disk_format.h. */
#include "disk_format.h"

static const uint8_t volume_magic[8] = {'S', 'H', 'O', 'A', 'L', 'O', 'B', 'J'};
static const uint8_t record_magic[8] = {'S', 'H', 'O', 'A', 'L', 'R', 'E', 'C'};

uint32_t disk_get32(const uint8_t *at) { return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24; }
uint64_t disk_get64(const uint8_t *at) { return disk_get32(at) | (uint64_t)disk_get32(at + 4) << 32; }
static uint32_t get16(const uint8_t *at) { return (uint32_t)at[0] | (uint32_t)at[1] << 8; }

static void put16(uint8_t *at, uint32_t value) { at[0] = (uint8_t)value, at[1] = (uint8_t)(value >> 8); }
static void put32(uint8_t *at, uint32_t value) { put16(at, value), put16(at + 2, value >> 16); }
static void put64(uint8_t *at, uint64_t value) { put32(at, (uint32_t)value), put32(at + 4, (uint32_t)(value >> 32)); }

static bool is_zero(const uint8_t *at, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (at[i] != 0) return false;
  }
  return true;
}

bool disk_plan(struct disk_volume *volume, uint64_t device_bytes, uint32_t objects) {
  memset(volume, 0, sizeof *volume);
  if (device_bytes < 1u << 20) return false;
  uint64_t chunks = device_bytes / STORE_CHUNK_BYTES;
  if (chunks > UINT32_MAX / 2) chunks = UINT32_MAX / 2;
  if (objects == 0) objects = chunks / 4 > DISK_OBJECTS ? DISK_OBJECTS : chunks / 4 < 64 ? 64 : (uint32_t)(chunks / 4);
  if (objects > DISK_OBJECTS) return false;
  /* Four sectors an object: two for the usual record, as much again for one that is being replaced or is longer. At least room for
   * two of the longest. */
  volume->objects = objects;
  volume->record_sectors = objects * 4 < 2 * DISK_RECORD_BYTES / DISK_SECTOR_BYTES ? 2 * DISK_RECORD_BYTES / DISK_SECTOR_BYTES : objects * 4;
  uint64_t records_end = DISK_RECORDS_BYTES + (uint64_t)volume->record_sectors * DISK_SECTOR_BYTES;
  volume->chunks_offset = (records_end + STORE_CHUNK_BYTES - 1) / STORE_CHUNK_BYTES * STORE_CHUNK_BYTES;
  if (volume->chunks_offset + 4 * STORE_CHUNK_BYTES > device_bytes) return false;
  chunks = (device_bytes - volume->chunks_offset) / STORE_CHUNK_BYTES;
  volume->chunk_count = chunks > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)chunks;
  volume->device_bytes = device_bytes;
  return true;
}

void disk_write_volume(const struct disk_volume *volume, uint8_t bytes[DISK_VOLUME_BYTES]) {
  memset(bytes, 0, DISK_VOLUME_BYTES);
  memcpy(bytes, volume_magic, 8);
  put32(bytes + 8, DISK_VERSION);
  put32(bytes + 12, STORE_CHUNK_BYTES);
  put64(bytes + 16, volume->device_bytes);
  put64(bytes + 24, DISK_RECORDS_BYTES);
  put32(bytes + 32, volume->record_sectors);
  put32(bytes + 36, volume->objects);
  put64(bytes + 40, volume->chunks_offset);
  put32(bytes + 48, volume->chunk_count);
  put64(bytes + 56, volume->key[0]);
  put64(bytes + 64, volume->key[1]);
  put64(bytes + DISK_VOLUME_BYTES - 8, shoal_siphash(volume->key, bytes, DISK_VOLUME_BYTES - 8));
}

/* A volume may lie on a device that has grown, not on one that is smaller than it. */
static bool read_copy(struct disk_volume *volume, const uint8_t *bytes, uint64_t device_bytes) {
  uint64_t key[2] = {disk_get64(bytes + 56), disk_get64(bytes + 64)};
  if (memcmp(bytes, volume_magic, 8) != 0 || disk_get32(bytes + 8) != DISK_VERSION ||
      disk_get64(bytes + DISK_VOLUME_BYTES - 8) != shoal_siphash(key, bytes, DISK_VOLUME_BYTES - 8)) {
    return false;
  }
  *volume = (struct disk_volume){.device_bytes = disk_get64(bytes + 16), .record_sectors = disk_get32(bytes + 32),
                                 .objects = disk_get32(bytes + 36), .chunks_offset = disk_get64(bytes + 40),
                                 .chunk_count = disk_get32(bytes + 48), .key = {key[0], key[1]}};
  return disk_get32(bytes + 12) == STORE_CHUNK_BYTES && disk_get64(bytes + 24) == DISK_RECORDS_BYTES && volume->device_bytes <= device_bytes &&
         volume->objects > 0 && volume->objects <= DISK_OBJECTS && volume->record_sectors > 0 &&
         volume->record_sectors <= DISK_RECORD_SECTORS && volume->chunk_count > 0 && volume->chunk_count <= UINT32_MAX / 2 &&
         volume->chunks_offset % STORE_CHUNK_BYTES == 0 && volume->chunks_offset <= volume->device_bytes &&
         volume->chunks_offset >= DISK_RECORDS_BYTES + (uint64_t)volume->record_sectors * DISK_SECTOR_BYTES &&
         volume->chunk_count <= (volume->device_bytes - volume->chunks_offset) / STORE_CHUNK_BYTES;
}

/* As far as it was written before the power went, a description is a prefix of one. */
static bool is_torn(const uint8_t *bytes) {
  size_t length = 0;
  while (length < 8 && bytes[length] == volume_magic[length]) length++;
  return length == 8 || is_zero(bytes + length, DISK_VOLUME_BYTES - length);
}

enum disk_volume_state disk_read_volume(struct disk_volume *volume, const uint8_t bytes[DISK_RECORDS_BYTES], uint64_t device_bytes) {
  const uint8_t *first = bytes + DISK_FIRST_COPY_BYTES, *second = bytes + DISK_SECOND_COPY_BYTES;
  if (read_copy(volume, first, device_bytes) || read_copy(volume, second, device_bytes)) return DISK_VOLUME_VALID;
  if (memcmp(first, volume_magic, 8) == 0 && disk_get32(first + 8) != DISK_VERSION) return DISK_VOLUME_OTHER_VERSION;
  /* The second copy is made first: while it is not whole the first one is blank. */
  if (!is_zero(bytes, DISK_SECOND_COPY_BYTES) || !is_zero(second + DISK_VOLUME_BYTES, DISK_RECORDS_BYTES - DISK_SECOND_COPY_BYTES - DISK_VOLUME_BYTES)) {
    return DISK_VOLUME_FOREIGN;
  }
  if (is_zero(second, DISK_VOLUME_BYTES)) return DISK_VOLUME_BLANK;
  return is_torn(second) ? DISK_VOLUME_TORN : DISK_VOLUME_FOREIGN;
}

uint32_t disk_check_chunk(const struct disk_volume *volume, const void *bytes, size_t length) {
  return (uint32_t)shoal_siphash(volume->key, bytes, length);
}

uint32_t disk_record_bytes(uint32_t extent_count, uint32_t chunk_count, uint32_t meta_length) {
  return DISK_RECORD_HEAD_BYTES + 8 * extent_count + 4 * chunk_count + meta_length + 8;
}

uint32_t disk_write_record(const struct disk_volume *volume, const struct disk_write *write, uint8_t *bytes) {
  uint32_t chunk_count = 0;
  uint8_t *at = bytes + DISK_RECORD_HEAD_BYTES;
  for (uint32_t i = 0; i < write->extent_count; i++, at += 8) {
    put32(at, write->extents[i].first);
    put32(at + 4, write->extents[i].count);
    chunk_count += write->extents[i].count;
  }
  for (uint32_t i = 0; i < write->extent_count; i++) {
    for (uint32_t j = 0; j < write->extents[i].count; j++, at += 4) put32(at, write->checks[write->extents[i].first + j]);
  }
  memcpy(at, write->meta, write->meta_length);
  at += write->meta_length;
  memcpy(bytes, record_magic, 8);
  put32(bytes + 8, disk_record_bytes(write->extent_count, chunk_count, write->meta_length));
  put16(bytes + 12, write->extent_count);
  put16(bytes + 14, write->meta_length);
  put64(bytes + 16, write->sequence);
  put64(bytes + 24, write->length);
  memcpy(bytes + 32, write->key, STORE_KEY_BYTES);
  memcpy(bytes + 64, write->digest, 32);
  put32(bytes + 96, write->sector);
  put32(bytes + 100, 0);
  put64(at, shoal_siphash(volume->key, bytes, (size_t)(at - bytes)));
  at += 8;
  uint32_t padded = ((uint32_t)(at - bytes) + DISK_SECTOR_BYTES - 1) / DISK_SECTOR_BYTES * DISK_SECTOR_BYTES;
  memset(at, 0, padded - (size_t)(at - bytes));
  return padded;
}

struct disk_extent disk_record_extent(const struct disk_record *record, uint32_t index) {
  return (struct disk_extent){disk_get32(record->extents + 8 * index), disk_get32(record->extents + 8 * index + 4)};
}

uint32_t disk_record_check(const struct disk_record *record, uint32_t chunk_index) { return disk_get32(record->checks + 4 * chunk_index); }

bool disk_read_record(const struct disk_volume *volume, uint32_t sector, const uint8_t *bytes, size_t there, struct disk_record *record) {
  if (there < DISK_SECTOR_BYTES || memcmp(bytes, record_magic, 8) != 0) return false;
  uint32_t length = disk_get32(bytes + 8);
  if (length > there || length > DISK_RECORD_BYTES) return false;
  *record = (struct disk_record){.bytes = length, .extent_count = get16(bytes + 12), .meta_length = get16(bytes + 14),
                                 .sequence = disk_get64(bytes + 16), .length = disk_get64(bytes + 24), .key = bytes + 32, .digest = bytes + 64,
                                 .extents = bytes + DISK_RECORD_HEAD_BYTES};
  if (record->extent_count > DISK_EXTENTS || record->meta_length > STORE_META_BYTES ||
      record->length > (uint64_t)DISK_OBJECT_CHUNKS * STORE_CHUNK_BYTES) {
    return false;
  }
  record->chunk_count = (uint32_t)((record->length + STORE_CHUNK_BYTES - 1) / STORE_CHUNK_BYTES);
  if (length != disk_record_bytes(record->extent_count, record->chunk_count, record->meta_length)) return false;
  record->checks = record->extents + 8 * record->extent_count;
  record->meta = record->checks + 4 * record->chunk_count;
  if (disk_get32(bytes + 96) != sector || disk_get64(bytes + length - 8) != shoal_siphash(volume->key, bytes, length - 8)) return false;
  uint64_t chunks = 0;
  for (uint32_t i = 0; i < record->extent_count; i++) {
    struct disk_extent extent = disk_record_extent(record, i);
    if (extent.count == 0 || extent.count > volume->chunk_count || extent.first > volume->chunk_count - extent.count) return false;
    chunks += extent.count;
  }
  return chunks == record->chunk_count;
}
