/* See arena.h. */
#include "arena.h"

unsigned arena_order(size_t bytes) {
  unsigned order = 0;
  while (order < ARENA_ORDERS && (size_t)ARENA_UNIT_BYTES << order < bytes) order++;
  return order;
}

static void put(struct arena *arena, size_t unit, unsigned order) {
  struct arena_piece *piece = (void *)(arena->base + unit * ARENA_UNIT_BYTES), *head = &arena->free[order];
  piece->next = head->next;
  piece->previous = head;
  head->next->previous = piece;
  head->next = piece;
  arena->orders[unit] = (uint8_t)(order + 1);
}

static void take(struct arena *arena, size_t unit) {
  struct arena_piece *piece = (void *)(arena->base + unit * ARENA_UNIT_BYTES);
  piece->next->previous = piece->previous;
  piece->previous->next = piece->next;
  arena->orders[unit] = 0;
}

bool arena_open(struct arena *arena, uint64_t bytes) {
  size_t whole = (size_t)(bytes / (ARENA_UNIT_BYTES << (ARENA_ORDERS - 1)));
  arena->units = whole << (ARENA_ORDERS - 1);
  arena->base = shoal_alloc(arena->units * ARENA_UNIT_BYTES);
  arena->orders = shoal_alloc(arena->units + 1);
  if (whole == 0 || arena->base == NULL || arena->orders == NULL) {
    arena_close(arena);
    return false;
  }
  memset(arena->orders, 0, arena->units);
  for (unsigned i = 0; i < ARENA_ORDERS; i++) arena->free[i].next = arena->free[i].previous = &arena->free[i];
  for (size_t i = whole; i > 0; i--) put(arena, (i - 1) << (ARENA_ORDERS - 1), ARENA_ORDERS - 1);
  arena->free_bytes = arena->units * ARENA_UNIT_BYTES;
  return true;
}

void arena_close(struct arena *arena) {
  shoal_free(arena->base);
  shoal_free(arena->orders);
  arena->base = arena->orders = NULL;
}

void *arena_alloc(struct arena *arena, unsigned order) {
  unsigned from = order;
  while (from < ARENA_ORDERS && arena->free[from].next == &arena->free[from]) from++;
  if (from >= ARENA_ORDERS) return NULL;
  uint8_t *piece = (void *)arena->free[from].next;
  size_t unit = (size_t)(piece - arena->base) / ARENA_UNIT_BYTES;
  take(arena, unit);
  while (from > order) from--, put(arena, unit + ((size_t)1 << from), from);
  arena->free_bytes -= (size_t)ARENA_UNIT_BYTES << order;
  return piece;
}

void arena_free(struct arena *arena, void *memory, unsigned order) {
  size_t unit = (size_t)((uint8_t *)memory - arena->base) / ARENA_UNIT_BYTES;
  if (unit >= arena->units || arena->orders[unit] != 0) shoal_panic("arena: %p is not an allocation", memory);
  arena->free_bytes += (size_t)ARENA_UNIT_BYTES << order;
  for (; order + 1 < ARENA_ORDERS; order++) {
    size_t other = unit ^ (size_t)1 << order;
    if (arena->orders[other] != order + 1) break;
    take(arena, other);
    unit &= ~((size_t)1 << order);
  }
  put(arena, unit, order);
}

void arena_shrink(struct arena *arena, void *memory, unsigned from, unsigned to) {
  size_t unit = (size_t)((uint8_t *)memory - arena->base) / ARENA_UNIT_BYTES;
  while (from > to) {
    from--;
    put(arena, unit + ((size_t)1 << from), from);
    arena->free_bytes += (size_t)ARENA_UNIT_BYTES << from;
  }
}
