/*
 * First-fit page allocator over a bitmap (1 = taken). Guests have 256 to a few thousand pages and allocate pages rarely (the heap
 * keeps its own), so a scan is fast enough and the bitmap costs 32 bytes a MiB.
 */
#include "pages.h"

static uint8_t *base;
static uint8_t *taken;
static size_t total, free_count, hint;

static bool is_taken(size_t index) { return taken[index / 8] >> (index % 8) & 1; }

static void mark(size_t index, bool as_taken) {
  if (is_taken(index) == as_taken) return;
  taken[index / 8] ^= (uint8_t)(1u << (index % 8));
  free_count = as_taken ? free_count - 1 : free_count + 1;
}

void pages_init(void *first, size_t count, uint8_t *bitmap) {
  base = first;
  taken = bitmap;
  total = count;
  free_count = 0;
  hint = 0;
  memset(bitmap, 0xff, (count + 7) / 8);
}

/* Eight at a time where a whole byte changes: at the start nearly all do. */
static void mark_range(size_t index, size_t count, bool as_taken) {
  if (index > total) index = total;
  size_t end = count < total - index ? index + count : total;
  while (index < end) {
    if (index % 8 == 0 && end - index >= 8 && taken[index / 8] == (as_taken ? 0x00 : 0xff)) {
      taken[index / 8] = as_taken ? 0xff : 0x00;
      free_count = as_taken ? free_count - 8 : free_count + 8;
      index += 8;
    } else {
      mark(index++, as_taken);
    }
  }
}

void pages_mark_free(size_t index, size_t count) {
  mark_range(index, count, false);
  hint = 0;
}

void pages_mark_taken(size_t index, size_t count) { mark_range(index, count, true); }

bool pages_take(size_t index, size_t count) {
  if (index > total || count > total - index) return false;
  for (size_t i = index; i < index + count; i++) {
    if (is_taken(i)) return false;
  }
  pages_mark_taken(index, count);
  return true;
}

void *pages_alloc(size_t count) {
  if (count == 0 || count > free_count) return NULL;
  size_t run = 0;
  for (size_t i = hint; i < total; i++) {
    if (is_taken(i)) {
      run = 0;
      continue;
    }
    if (++run < count) continue;
    size_t start = i + 1 - count;
    pages_mark_taken(start, count);
    if (start == hint) hint = i + 1;
    return base + start * PAGE_BYTES;
  }
  return NULL;
}

void pages_free(void *pages, size_t count) {
  size_t index = (size_t)((uint8_t *)pages - base) / PAGE_BYTES;
  if ((uintptr_t)pages % PAGE_BYTES != 0 || index >= total || count > total - index) shoal_panic("pages: %p is not ours", pages);
  for (size_t i = 0; i < count; i++) {
    if (!is_taken(index + i)) shoal_panic("pages: %p freed twice", pages);
    mark(index + i, false);
  }
  if (index < hint) hint = index;
}

static bool is_zero(const uint64_t *words) {
  uint64_t any = 0;
  for (size_t i = 0; i < PAGE_BYTES / sizeof *words && any == 0; i += 8)
    any = words[i] | words[i + 1] | words[i + 2] | words[i + 3] | words[i + 4] | words[i + 5] | words[i + 6] | words[i + 7];
  return any == 0;
}

void pages_clear_free(void) {
  for (size_t i = 0; i < total; i++) {
    if (taken[i / 8] == 0xff) i |= 7;
    else if (!is_taken(i) && !is_zero((const uint64_t *)(base + i * PAGE_BYTES))) memset(base + i * PAGE_BYTES, 0, PAGE_BYTES);
  }
}

size_t pages_free_count(void) { return free_count; }
size_t pages_total_count(void) { return total; }
