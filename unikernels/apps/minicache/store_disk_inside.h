/*
 * The store's own structures, shared by its files: store_disk.c (objects, keys, eviction), store_disk_open.c
 * (memory), store_disk_frames.c (chunks in RAM),
 * store_disk_read.c, store_disk_fill.c, store_disk_write.c (the order of what is written), store_disk_mount.c (what is found).
 *
 * A chunk of the volume is in RAM in at most one frame. Without a device chunk N is frame N for good, and nothing is written.
 * Whoever needs an object to stay holds it: callers, chunks that were handed out, frames on their way to or from the device, records that
 * are being written or erased. An object that is not listed any more and held by nobody gives its chunks back: they cannot be
 * given to another while a record on the device still names them.
 */
#ifndef MINICACHE_STORE_DISK_INSIDE_H
#define MINICACHE_STORE_DISK_INSIDE_H

#define STORE_PREFIX disk_
#include "store_own.h" /* first: it changes names */
#include "disk_format.h"
#include "disk_map.h"
#include "shoal.h"
#include "store_disk.h"

#define NO_CHUNK UINT32_MAX
#define META_CELL_BYTES 128u
#define READ_AHEAD 4u
/* Requests under way at once. */
#define DATA_WRITES 16u
#define DATA_READS 24u
#define RECORD_REQUESTS 32u
#define RETRY_NS 1000000000ull

enum frame_state { FRAME_FREE, FRAME_CLEAN, FRAME_READING, FRAME_FILLING, FRAME_DIRTY, FRAME_WRITING };

struct frame {
  uint8_t *data;
  struct object *object; /* of all but FREE and CLEAN: whose it is */
  uint32_t chunk, length, refs;
  uint8_t state;
  bool visited;
  struct frame *hash_next, *next; /* next: free list, or queue of dirty ones */
  struct shoal_block_request request;
};

struct handle {
  struct chunk chunk;
  struct frame *frame;
  struct object *object;
  struct handle *next;
};

struct extent {
  struct disk_extent run;
  struct extent *next;
};

struct place {
  uint32_t sector, count; /* of the record area; count 0: none */
};

enum record_work { WORK_NONE, WORK_QUEUED, WORK_BUSY };

struct object {
  struct store *store;
  uint8_t key[STORE_KEY_BYTES], digest[32];
  uint8_t *meta;
  uint16_t meta_length, meta_cells;
  bool listed, visited, wants_record, noted, blocked, erasing;
  uint8_t work;
  int state;
  uint32_t refs, holders; /* holders: those of the callers */
  uint32_t unwritten; /* frames that are dirty or being written */
  uint64_t length, filled, sequence;
  struct extent *extents, *last_extent, *near;
  uint32_t extent_count, chunk_count, near_index; /* near_index: the object's chunk that `near` begins with */
  struct frame *tail;                             /* the chunk that is being filled */
  struct place record, old;                       /* `old`: on the device still, to be erased */
  struct object *hash_next, *newer, *older, *work_next, *noted_next, *blocked_next, *waiting_next, *waiting_previous;
  struct watcher *watchers;
  struct reading *readings, *last_reading;
};

struct object_list {
  struct object *first, *last;
};

struct store {
  struct block_device *device; /* NULL: RAM only */
  struct disk_volume volume;
  int mounted;
  bool closing;
  void (*when_mounted)(void *arg, int status);
  void *when_mounted_arg;
  void *memory;
  uint8_t *free_from, *memory_end; /* what was not handed out of it yet */
  uint64_t ram_bytes;

  struct object *objects, *free_objects, **by_key;
  uint32_t object_count, free_object_count, by_key_mask;
  struct object *newest, *oldest, *hand; /* SIEVE: newest first */
  struct extent *free_extents;
  struct disk_map chunks, cells, records;
  uint8_t *cell_bytes;
  uint32_t *checks; /* of every chunk of the volume */
  uint32_t coming;  /* chunks of objects that are not listed any more: free soon */

  struct frame *frames, *free_frames, **by_chunk;
  uint32_t frame_count, frame_hand, by_chunk_mask, dirty_count, dirty_most;
  struct handle *handles, *free_handles;
  struct frame *first_dirty, *last_dirty;
  uint32_t writes_under_way, reads_under_way;

  struct object_list erase, ready, erasing, recording, recorded;
  uint8_t step;
  bool cycle, step_failed, unflushed, resting;
  uint32_t requests_left;
  uint8_t *record_buffer, *zeros;
  struct shoal_block_request requests[RECORD_REQUESTS];
  uint64_t sequence;

  struct object *noted, *blocked, *waiting;
  struct watcher *next_watcher;
  bool room, starving;
  struct shoal_timer tick, retry;
  struct shoal_block_request mount_request;
  uint32_t mount_sector, mount_from, mount_to; /* next sector to look at; sectors that lie in the record buffer */
  struct store_counts counts;
};

/* ---- memory (store_disk_open.c) ---- */

/* Aligned room out of what store_open took; NULL when there is none left. */
void *store_carve(struct store *store, size_t size_bytes, size_t alignment);

/* All tables and frames for store->volume; false when ram_bytes is too little. */
bool store_lay_out(struct store *store);

/* ---- objects (store_disk.c) ---- */

struct object *object_take(struct store *store, const uint8_t key[STORE_KEY_BYTES], const void *meta, size_t meta_length);
/* object_hold and object_release of the store itself. */
void object_keep(struct object *object);
void object_let_go(struct object *object);
void object_list(struct object *object);
void object_unlist(struct object *object);
/* The chunk of the volume; NO_CHUNK past what it has. */
uint32_t object_chunk(struct object *object, uint32_t index);
bool object_extend(struct object *object, uint32_t first, uint32_t count);
/* Removes the next victim; false when there is none that would bring room. */
bool store_evict(struct store *store);
/* The tick comes in the next turn: room is made, writes go out, watchers and those who wait for a chunk are told. */
void store_soon(struct store *store);
void store_tick(void *store);
void store_retry(void *store);
void object_note(struct object *object);

/* ---- frames (store_disk_frames.c) ---- */

struct frame *frame_find(struct store *store, uint32_t chunk);
/* A frame for this chunk, in no state yet; NULL when all are in use. */
struct frame *frame_take(struct store *store, uint32_t chunk);
/* The chunk is nobody's any more. */
void frame_forget(struct store *store, uint32_t chunk);
void frame_free(struct store *store, struct frame *frame);

/* ---- reading ---- */

void read_serve(struct object *object);
void read_serve_all(struct store *store);

/* ---- filling and writing ---- */

/* Gives up what of it was not written yet. */
void fill_drop(struct object *object);
void write_queue(struct frame *frame);
void write_pump(struct store *store);
/* What has to happen to its records on the device now? Queues it. */
void write_settle(struct object *object);

/* ---- mount ---- */

void mount_start(struct store *store);

#endif
