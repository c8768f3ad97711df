/* Memory that goes as a whole: a list of blocks, all freed together. Small requests share blocks. */
#ifndef CLICK_MEMORY_H
#define CLICK_MEMORY_H

#include "shoal.h"

struct memory {
  struct memory_block *blocks; /* the first one is being filled */
  size_t left, bytes;          /* of the first; of all */
};

/* Zeroed, 16-byte aligned; NULL when there is none. */
void *memory_take(struct memory *memory, size_t bytes);
/* A copy with a NUL behind it; NULL when there is no memory. */
char *memory_text(struct memory *memory, const char *text, size_t length);
void memory_free(struct memory *memory);

#endif
