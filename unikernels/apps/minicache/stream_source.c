/* Where the bytes of a stream come from: memory, the object store, a block device. None of them copies. */
#include "stream.h"

/* ---- memory ---- */

static int take_memory(struct stream *stream, unsigned slot, uint64_t offset, uint32_t most, struct stream_block *block) {
  (void)slot;
  *block = (struct stream_block){.data = (const uint8_t *)stream->context + offset, .length = most};
  return 1;
}

static void give_memory(struct stream *stream, unsigned slot, struct stream_block *block) { (void)stream, (void)slot, (void)block; }

struct stream_source stream_from_memory(uint64_t length) {
  return (struct stream_source){.take = take_memory, .give = give_memory, .length = length};
}

/* ---- the object store: a chunk is a block, whatever size was asked for ---- */

static void on_chunk(void *arg, int status, struct chunk *chunk) {
  struct stream_wish *wish = arg;
  struct stream_block block = {0};
  if (status == 1) block = (struct stream_block){chunk->data, chunk->length, chunk};
  stream_arrived(wish->stream, wish->slot, status, &block);
}

static int take_object(struct stream *stream, unsigned slot, uint64_t offset, uint32_t most, struct stream_block *block) {
  struct stream_object *from = stream->context;
  struct stream_wish *wish = &from->wishes[slot];
  struct chunk *chunk;
  (void)most;
  *wish = (struct stream_wish){.reading = {.ready = on_chunk, .arg = wish}, .stream = stream, .slot = slot};
  int status = object_read(from->object, offset, &chunk, &wish->reading);
  if (status == 1) *block = (struct stream_block){chunk->data, chunk->length, chunk};
  return status;
}

static void give_object(struct stream *stream, unsigned slot, struct stream_block *block) {
  struct stream_object *from = stream->context;
  if (block->lent != NULL) chunk_release(block->lent);
  else object_unread(from->object, &from->wishes[slot].reading);
}

struct stream_source stream_from_object(struct stream_object *from) {
  return (struct stream_source){.take = take_object, .give = give_object, .length = object_length(from->object), .in_order = true};
}

/* ---- a device ---- */

static void on_block(struct shoal_block_request *request, int status) {
  struct stream_request *mine = request->context;
  struct stream_block block = {request->bytes, request->length_bytes, mine};
  struct stream *stream = mine->stream;
  mine->stream = NULL;
  if (!mine->dropped) stream_arrived(stream, mine->slot, status == SHOAL_BLOCK_OK ? 1 : STREAM_READ_FAILED, &block);
}

static int take_device(struct stream *stream, unsigned slot, uint64_t offset, uint32_t most, struct stream_block *block) {
  struct stream_device *from = stream->context;
  struct stream_request *mine = &from->requests[slot];
  (void)block;
  if (mine->stream != NULL) return STREAM_READ_FAILED; /* one that was given back is not ended yet */
  *mine = (struct stream_request){.stream = stream, .slot = slot};
  mine->request = (struct shoal_block_request){
    .operation = SHOAL_BLOCK_READ,
    .offset_bytes = from->offset + offset,
    .length_bytes = (most + SHOAL_BLOCK_SECTOR_BYTES - 1) / SHOAL_BLOCK_SECTOR_BYTES * SHOAL_BLOCK_SECTOR_BYTES,
    .bytes = from->buffers + (size_t)slot * stream->block_bytes,
    .done = on_block,
    .context = mine,
  };
  shoal_block_submit(from->device, &mine->request);
  return 0;
}

static void give_device(struct stream *stream, unsigned slot, struct stream_block *block) {
  struct stream_device *from = stream->context;
  if (block->lent == NULL) from->requests[slot].dropped = true;
}

struct stream_source stream_from_device(uint64_t length) {
  return (struct stream_source){.take = take_device, .give = give_device, .length = length};
}
