/* See memory.h. */
#include "memory.h"

#define BLOCK_BYTES 3968u /* a page, with what the heap and the block add */

struct memory_block {
  struct memory_block *next;
  uint64_t unused;
  uint8_t bytes[];
};

static struct memory_block *add_block(struct memory *memory, size_t bytes) {
  struct memory_block *block = shoal_alloc(sizeof *block + bytes);
  if (block != NULL) memory->bytes += sizeof *block + bytes;
  return block;
}

void *memory_take(struct memory *memory, size_t bytes) {
  size_t whole = (bytes + 15) & ~(size_t)15;
  if (whole < bytes) return NULL;
  if (whole > BLOCK_BYTES / 4 && whole > memory->left) {
    /* A block of its own, behind the one being filled. */
    struct memory_block *block = add_block(memory, whole);
    if (block == NULL) return NULL;
    if (memory->blocks == NULL) {
      block->next = NULL;
      memory->blocks = block;
      memory->left = 0;
    } else {
      block->next = memory->blocks->next;
      memory->blocks->next = block;
    }
    memset(block->bytes, 0, whole);
    return block->bytes;
  }
  if (whole > memory->left) {
    struct memory_block *block = add_block(memory, BLOCK_BYTES);
    if (block == NULL) return NULL;
    block->next = memory->blocks;
    memory->blocks = block;
    memory->left = BLOCK_BYTES;
  }
  uint8_t *at = memory->blocks->bytes + (BLOCK_BYTES - memory->left);
  memory->left -= whole;
  memset(at, 0, whole);
  return at;
}

char *memory_text(struct memory *memory, const char *text, size_t length) {
  char *copy = memory_take(memory, length + 1);
  if (copy != NULL && length > 0) memcpy(copy, text, length);
  return copy;
}

void memory_free(struct memory *memory) {
  while (memory->blocks != NULL) {
    struct memory_block *block = memory->blocks;
    memory->blocks = block->next;
    shoal_free(block);
  }
  memory->left = memory->bytes = 0;
}
