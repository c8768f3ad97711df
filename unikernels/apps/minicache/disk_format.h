/*
 * The object store's format on a block device: docs/formats/object-store.md. Pure functions over bytes; the same bytes are made and
 * read by src/cache/store, and both are held to test/vectors/object-store. All numbers are little-endian.
 */
#ifndef MINICACHE_DISK_FORMAT_H
#define MINICACHE_DISK_FORMAT_H

#include "shoal.h"
#include "store.h"

#define DISK_VERSION 1u
#define DISK_SECTOR_BYTES 512u
#define DISK_VOLUME_BYTES 512u                 /* a description of the volume, without what pads it */
#define DISK_FIRST_COPY_BYTES 0u               /* where the two descriptions are */
#define DISK_SECOND_COPY_BYTES 4096u
#define DISK_RECORDS_BYTES 8192u               /* where the records begin */
#define DISK_RECORD_BYTES 65536u               /* the longest record */
#define DISK_RECORD_HEAD_BYTES 104u
#define DISK_EXTENTS 64u                       /* of one object */
#define DISK_OBJECTS 65536u                    /* of one volume */
#define DISK_RECORD_SECTORS 1048576u           /* of one volume */
/* The longest object: its checks must fit in the longest record beside the longest meta and all extents. */
#define DISK_OBJECT_CHUNKS \
  ((DISK_RECORD_BYTES - DISK_RECORD_HEAD_BYTES - DISK_EXTENTS * 8u - STORE_META_BYTES - 8u) / 4u)

struct disk_volume {
  uint64_t device_bytes;
  uint32_t record_sectors;
  uint32_t objects; /* most */
  uint64_t chunks_offset;
  uint32_t chunk_count;
  uint64_t key[2]; /* of every check in the volume */
};

struct disk_extent {
  uint32_t first, count; /* chunks of the volume */
};

/* A record as it lies in `bytes`; its parts point into them. */
struct disk_record {
  uint32_t bytes; /* its whole length */
  uint32_t extent_count, meta_length, chunk_count;
  uint64_t sequence, length;
  const uint8_t *key, *digest, *extents, *checks, *meta;
};

enum disk_volume_state { DISK_VOLUME_VALID, DISK_VOLUME_BLANK, DISK_VOLUME_TORN, DISK_VOLUME_FOREIGN, DISK_VOLUME_OTHER_VERSION };

/* Sizes for a device; false when it is too small (under 1 MiB). `objects` 0: one for each four chunks, 64 to 65,536. */
bool disk_plan(struct disk_volume *volume, uint64_t device_bytes, uint32_t objects);

void disk_write_volume(const struct disk_volume *volume, uint8_t bytes[DISK_VOLUME_BYTES]);

/* From the first 8,192 bytes of the device. VALID fills *volume; TORN: a first make was cut short, nothing was ever stored. */
enum disk_volume_state disk_read_volume(struct disk_volume *volume, const uint8_t bytes[DISK_RECORDS_BYTES], uint64_t device_bytes);

/* The check of a chunk's `length` bytes. */
uint32_t disk_check_chunk(const struct disk_volume *volume, const void *bytes, size_t length);

/* Writes a record's head, extents, checks and meta, and pads the last sector; the length in bytes, a multiple of 512. */
struct disk_write {
  uint32_t sector; /* of the record area */
  uint64_t sequence, length;
  const uint8_t *key, *digest, *meta;
  uint32_t meta_length, extent_count;
  const struct disk_extent *extents;
  const uint32_t *checks; /* of all chunks of the volume */
};
uint32_t disk_record_bytes(uint32_t extent_count, uint32_t chunk_count, uint32_t meta_length);
uint32_t disk_write_record(const struct disk_volume *volume, const struct disk_write *write, uint8_t *bytes);

/* The record that begins at `sector`, of which `there` bytes can be seen. False when there is no whole and sound one: extents that
 * leave the volume or do not add up to the length count as unsound, overlapping ones are the caller's to find. */
bool disk_read_record(const struct disk_volume *volume, uint32_t sector, const uint8_t *bytes, size_t there, struct disk_record *record);

struct disk_extent disk_record_extent(const struct disk_record *record, uint32_t index);
uint32_t disk_record_check(const struct disk_record *record, uint32_t chunk_index);

/* Numbers as they lie on the device. */
uint32_t disk_get32(const uint8_t *at);
uint64_t disk_get64(const uint8_t *at);

#endif
