/*
 * One stretch of memory cut in halves (a buddy allocator): 512 bytes to 16 KiB, constant time, no header in what is given out, so
 * that small objects do not cost a whole chunk and chunks stay aligned.
 */
#ifndef MINICACHE_ARENA_H
#define MINICACHE_ARENA_H

#include "shoal.h"

#define ARENA_UNIT_BYTES 512u
#define ARENA_ORDERS 6u /* 512 << 5 is 16 KiB */

struct arena {
  uint8_t *base;
  uint8_t *orders; /* per unit: 1 + order at the first unit of a free piece, 0 elsewhere */
  size_t units, free_bytes;
  struct arena_piece { struct arena_piece *next, *previous; } free[ARENA_ORDERS]; /* heads of rings */
};

/* Takes the memory, once. False when there is not so much. */
bool arena_open(struct arena *arena, uint64_t bytes);
void arena_close(struct arena *arena);
/* The order whose pieces hold so many bytes, ARENA_ORDERS when none does. */
unsigned arena_order(size_t bytes);
void *arena_alloc(struct arena *arena, unsigned order); /* NULL: full */
void arena_free(struct arena *arena, void *memory, unsigned order);
/* Gives the end of a piece back; the start stays where it is. */
void arena_shrink(struct arena *arena, void *memory, unsigned from, unsigned to);

#endif
