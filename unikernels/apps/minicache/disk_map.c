/* See disk_map.h. */
#include "disk_map.h"

static bool taken(const struct disk_map *map, uint32_t unit) { return map->bits[unit / 8] >> unit % 8 & 1; }

void disk_map_init(struct disk_map *map, uint8_t *bits, uint32_t count) {
  *map = (struct disk_map){.bits = bits, .count = count, .free = count};
  memset(bits, 0, DISK_MAP_BYTES(count));
}

static void mark(struct disk_map *map, uint32_t first, uint32_t count) {
  for (uint32_t unit = first; unit < first + count; unit++) map->bits[unit / 8] |= (uint8_t)(1u << unit % 8);
  map->free -= count;
}

uint32_t disk_map_take(struct disk_map *map, uint32_t want, uint32_t least, uint32_t *first) {
  uint32_t best = 0, best_first = 0, run = 0;
  if (want == 0 || map->free == 0) return 0;
  if (map->hand >= map->count) map->hand = 0;
  /* Once round, and on through the run that the start may have cut in two; a run does not cross the end. */
  uint32_t unit = map->hand, steps = map->count + (want < map->count ? want : map->count);
  for (; steps > 0 && best < want; steps--, unit++) {
    if (unit == map->count) unit = 0, run = 0;
    if (unit % 8 == 0 && map->bits[unit / 8] == 0xff && steps >= 8 && unit + 8 <= map->count) {
      run = 0;
      unit += 7, steps -= 7;
      continue;
    }
    run = taken(map, unit) ? 0 : run + 1;
    if (run > best) best = run, best_first = unit + 1 - run;
  }
  if (best < least || best == 0) return 0;
  if (best > want) best = want;
  mark(map, best_first, best);
  map->hand = best_first + best;
  *first = best_first;
  return best;
}

bool disk_map_claim(struct disk_map *map, uint32_t first, uint32_t count) {
  if (count > map->count || first > map->count - count) return false;
  for (uint32_t unit = first; unit < first + count; unit++) {
    if (taken(map, unit)) return false;
  }
  mark(map, first, count);
  return true;
}

void disk_map_give(struct disk_map *map, uint32_t first, uint32_t count) {
  if (count > map->count || first > map->count - count) shoal_panic("store: units %u+%u of %u", first, count, map->count);
  for (uint32_t unit = first; unit < first + count; unit++) {
    if (!taken(map, unit)) shoal_panic("store: unit %u was free", unit);
    map->bits[unit / 8] &= (uint8_t)~(1u << unit % 8);
  }
  map->free += count;
}
