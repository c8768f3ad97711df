/* Chunks in RAM: found by their number, and given up by a second-chance hand when they are clean and nobody has them. */
#include "store_disk_inside.h"

static struct frame **bucket_of(struct store *store, uint32_t chunk) { return &store->by_chunk[chunk * 2654435761u >> 7 & store->by_chunk_mask]; }

struct frame *frame_find(struct store *store, uint32_t chunk) {
  struct frame *frame;
  if (store->device == NULL) {
    frame = &store->frames[chunk];
    return frame->state == FRAME_FREE ? NULL : frame;
  }
  frame = *bucket_of(store, chunk);
  while (frame != NULL && frame->chunk != chunk) frame = frame->hash_next;
  return frame;
}

static void unhash(struct store *store, struct frame *frame) {
  struct frame **at = bucket_of(store, frame->chunk);
  while (*at != frame) at = &(*at)->hash_next;
  *at = frame->hash_next;
  frame->chunk = NO_CHUNK;
  frame->state = FRAME_FREE;
}

static struct frame *give_up_one(struct store *store) {
  for (uint32_t steps = 2 * store->frame_count; steps > 0; steps--) {
    struct frame *frame = &store->frames[store->frame_hand++];
    if (store->frame_hand == store->frame_count) store->frame_hand = 0;
    if (frame->state != FRAME_CLEAN || frame->refs > 0) continue;
    if (!frame->visited) {
      unhash(store, frame);
      return frame;
    }
    frame->visited = false;
  }
  return NULL;
}

struct frame *frame_take(struct store *store, uint32_t chunk) {
  struct frame *frame;
  if (store->device == NULL) {
    frame = &store->frames[chunk];
    frame->chunk = chunk;
  } else {
    frame = store->free_frames;
    if (frame != NULL) store->free_frames = frame->next;
    else frame = give_up_one(store);
    if (frame == NULL) return NULL;
    struct frame **bucket = bucket_of(store, chunk);
    frame->chunk = chunk;
    frame->hash_next = *bucket;
    *bucket = frame;
  }
  frame->visited = false;
  frame->length = 0;
  return frame;
}

void frame_free(struct store *store, struct frame *frame) {
  if (frame->refs > 0) shoal_panic("store: chunk %u is still read", frame->chunk);
  if (store->device == NULL) {
    frame->state = FRAME_FREE;
    return;
  }
  unhash(store, frame);
  frame->next = store->free_frames;
  store->free_frames = frame;
}

void frame_forget(struct store *store, uint32_t chunk) {
  struct frame *frame = frame_find(store, chunk);
  if (frame != NULL) frame_free(store, frame);
}
