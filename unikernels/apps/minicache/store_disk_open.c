/* The store's memory: taken once, laid out for the volume, and never more. */
#include "store_disk_inside.h"

#define LEAST_FRAMES 8u

void *store_carve(struct store *store, size_t size_bytes, size_t alignment) {
  uintptr_t at = ((uintptr_t)store->free_from + alignment - 1) / alignment * alignment;
  if (at > (uintptr_t)store->memory_end || size_bytes > (uintptr_t)store->memory_end - at) return NULL;
  store->free_from = (uint8_t *)(at + size_bytes);
  return (void *)at;
}

static uint32_t power_of_two(uint32_t least) {
  uint32_t power = 16;
  while (power < least) power *= 2;
  return power;
}

static bool lay_out_objects(struct store *store, uint32_t count, uint32_t cells) {
  uint32_t buckets = power_of_two(count), extents = count * 2 + DISK_EXTENTS;
  store->objects = store_carve(store, count * sizeof *store->objects, 16);
  store->by_key = store_carve(store, buckets * sizeof *store->by_key, 16);
  struct extent *extent = store_carve(store, extents * sizeof *extent, 16);
  uint8_t *cell_bits = store_carve(store, DISK_MAP_BYTES(cells), 1);
  store->cell_bytes = store_carve(store, (size_t)cells * META_CELL_BYTES, 16);
  if (store->objects == NULL || store->by_key == NULL || extent == NULL || cell_bits == NULL || store->cell_bytes == NULL) return false;
  memset(store->by_key, 0, buckets * sizeof *store->by_key);
  store->by_key_mask = buckets - 1;
  store->object_count = store->free_object_count = count;
  for (uint32_t i = 0; i < count; i++) {
    store->objects[i].hash_next = store->free_objects;
    store->free_objects = &store->objects[i];
  }
  for (uint32_t i = 0; i < extents; i++) {
    extent[i].next = store->free_extents;
    store->free_extents = &extent[i];
  }
  disk_map_init(&store->cells, cell_bits, cells);
  return true;
}

static bool lay_out_chunks(struct store *store, uint32_t chunks, uint32_t record_sectors) {
  uint8_t *chunk_bits = store_carve(store, DISK_MAP_BYTES(chunks), 1);
  uint8_t *record_bits = store_carve(store, DISK_MAP_BYTES(record_sectors), 1);
  store->checks = store_carve(store, (size_t)chunks * sizeof *store->checks, 16);
  if (chunk_bits == NULL || record_bits == NULL || store->checks == NULL) return false;
  disk_map_init(&store->chunks, chunk_bits, chunks);
  disk_map_init(&store->records, record_bits, record_sectors);
  return true;
}

static bool lay_out_frames(struct store *store, uint32_t count) {
  uint32_t buckets = power_of_two(count), handles = count * 2 + 64;
  store->frames = store_carve(store, count * sizeof *store->frames, 16);
  store->by_chunk = store_carve(store, buckets * sizeof *store->by_chunk, 16);
  store->handles = store_carve(store, handles * sizeof *store->handles, 16);
  uint8_t *data = store_carve(store, (size_t)count * STORE_CHUNK_BYTES, 4096);
  if (store->frames == NULL || store->by_chunk == NULL || store->handles == NULL || data == NULL) return false;
  memset(store->frames, 0, count * sizeof *store->frames);
  memset(store->by_chunk, 0, buckets * sizeof *store->by_chunk);
  store->by_chunk_mask = buckets - 1;
  store->frame_count = count;
  store->dirty_most = count - (count / 4 < 4 ? 4 : count / 4);
  for (uint32_t i = count; i > 0; i--) {
    struct frame *frame = &store->frames[i - 1];
    frame->data = data + (size_t)(i - 1) * STORE_CHUNK_BYTES;
    frame->chunk = NO_CHUNK;
    frame->next = store->free_frames;
    store->free_frames = frame;
  }
  for (uint32_t i = 0; i < handles; i++) {
    store->handles[i].next = store->free_handles;
    store->free_handles = &store->handles[i];
  }
  return true;
}

/* What a frame costs beside its data: its own structure, its part of the table, two handles. */
#define FRAME_BYTES (STORE_CHUNK_BYTES + sizeof(struct frame) + 4 * sizeof(struct frame *) + 2 * sizeof(struct handle))

bool store_lay_out(struct store *store) {
  bool on_device = store->device != NULL;
  size_t left = (size_t)(store->memory_end - store->free_from);
  /* RAM only: an object for each chunk, as if all were small; each costs about a thirtieth of its chunk. */
  uint32_t ram_chunks = (uint32_t)(left / (FRAME_BYTES + sizeof(struct object) + 4 * META_CELL_BYTES + 64));
  uint32_t objects = on_device ? store->volume.objects : ram_chunks;
  size_t metas = left / 8 < (size_t)objects * 4 * META_CELL_BYTES ? left / 8 : (size_t)objects * 4 * META_CELL_BYTES;
  if (metas < STORE_META_BYTES) metas = STORE_META_BYTES;
  if (!lay_out_objects(store, objects, (uint32_t)(metas / META_CELL_BYTES))) return false;
  if (on_device && !lay_out_chunks(store, store->volume.chunk_count, store->volume.record_sectors)) return false;
  left = (size_t)(store->memory_end - store->free_from);
  if (left < 16384) return false;
  uint32_t frames = (uint32_t)((left - 16384) / (FRAME_BYTES + (on_device ? 0 : 8)));
  while (frames >= LEAST_FRAMES) {
    uint8_t *before = store->free_from;
    store->free_frames = NULL, store->free_handles = NULL;
    if ((on_device || lay_out_chunks(store, frames, 0)) && lay_out_frames(store, frames)) break;
    store->free_from = before;
    frames -= frames / 64 + 1;
  }
  if (frames < LEAST_FRAMES) return false;
  store->counts.capacity = (uint64_t)store->chunks.count * STORE_CHUNK_BYTES;
  return true;
}

int store_open(struct store **out, const struct store_config *config) {
  *out = NULL;
  if (config->device != NULL && shoal_block_info(config->device).size_bytes == 0) return STORE_IO;
  struct store *store = shoal_alloc(sizeof *store);
  if (store == NULL) return STORE_FULL;
  memset(store, 0, sizeof *store);
  store->device = config->device;
  store->ram_bytes = config->ram_bytes;
  store->memory = shoal_alloc(config->ram_bytes);
  store->tick = (struct shoal_timer){.fire = store_tick, .context = store};
  store->retry = (struct shoal_timer){.fire = store_retry, .context = store};
  if (store->memory == NULL) {
    shoal_free(store);
    return STORE_FULL;
  }
  store->free_from = store->memory;
  store->memory_end = store->free_from + config->ram_bytes;
  if (store->device != NULL) {
    store->record_buffer = store_carve(store, DISK_RECORD_BYTES * 2, 4096);
    store->zeros = store_carve(store, 4096, 4096);
  }
  if (store->device != NULL ? store->zeros == NULL : !store_lay_out(store)) {
    shoal_free(store->memory);
    shoal_free(store);
    return STORE_FULL;
  }
  *out = store;
  if (store->device == NULL) {
    store->mounted = 1;
    return 0;
  }
  memset(store->zeros, 0, 4096);
  mount_start(store);
  return 0;
}

int store_mounted(const struct store *store) { return store->mounted; }

void store_count(const struct store *store, struct store_counts *counts) { *counts = store->counts; }

STORE_DEFINE_TABLE(store_on_disk)
