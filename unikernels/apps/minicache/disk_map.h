/* Which units of something are taken: a bitmap with runs of units, searched from where the last search ended. */
#ifndef MINICACHE_DISK_MAP_H
#define MINICACHE_DISK_MAP_H

#include "shoal.h"

struct disk_map {
  uint8_t *bits;
  uint32_t count, free, hand;
};

#define DISK_MAP_BYTES(count) (((size_t)(count) + 7) / 8)

/* `bits` has DISK_MAP_BYTES(count); all units are free. */
void disk_map_init(struct disk_map *map, uint8_t *bits, uint32_t count);

/* Takes a run of `want` units or, when there is none, the longest of at least `least`; how many it took, from *first on; 0: none. */
uint32_t disk_map_take(struct disk_map *map, uint32_t want, uint32_t least, uint32_t *first);

/* Takes these very units; false, and takes none, when one is taken. */
bool disk_map_claim(struct disk_map *map, uint32_t first, uint32_t count);

/* Panics on a unit that is free. */
void disk_map_give(struct disk_map *map, uint32_t first, uint32_t count);

#endif
