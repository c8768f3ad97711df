/* Whole pages of guest memory: a bitmap over all of them, so that it does not matter where the builder put its own. */
#ifndef KERNEL_PAGES_H
#define KERNEL_PAGES_H

#include "shoal.h"

#define PAGE_BYTES 4096ul

/* `count` pages from `base` on are managed, all taken at first. `bitmap` has count/8 bytes, rounded up, and is the caller's. */
void pages_init(void *base, size_t count, uint8_t *bitmap);

/* Marks pages free or taken. Marking what is so already is allowed while the memory map is set up. */
void pages_mark_free(size_t index, size_t count);
void pages_mark_taken(size_t index, size_t count);

/* Takes these very pages if all of them are free. */
bool pages_take(size_t index, size_t count);

/* `count` pages in a row, contents undefined; NULL when there are none. */
void *pages_alloc(size_t count);

/* Gives back what pages_alloc gave, in whole or in part. Panics on pages that are free. */
void pages_free(void *pages, size_t count);

/* Zeroes in all free pages: what was in them need not be kept, or sent, by whoever saves the guest. */
void pages_clear_free(void);

size_t pages_free_count(void);
size_t pages_total_count(void);

#endif
