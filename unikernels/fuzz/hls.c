/*
 * The name of the segment after a segment, out of a target as a viewer sends it: nothing may be read or written outside of what was given, a name
 * that is made differs from the old in its digits only, is the next number, and leads on again.
 */
#include "world.h"
#include <stdlib.h>
#include "../apps/minicache/hls.h"
#include "../apps/minicache/fetch.h"

struct cache cache; /* hls.c's */
bool fetch_ahead(const struct viewer *like, struct slice target) {
  (void)like, (void)target;
  return false;
}

/* Digits from `at` on, behind leading zeros; how many there are. */
static size_t digits_from(const char *text, size_t length, size_t at) {
  size_t end = at;
  while (end < length && text[end] >= '0' && text[end] <= '9') end++;
  return end - at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2) return 0;
  size_t capacity = data[0] | (size_t)(data[1] & 7) << 8;
  data += 2, size -= 2;
  char *target = malloc(size + (size == 0)), *next = malloc(capacity + (capacity == 0)); /* exactly so long: a byte too far is found */
  memcpy(target, data, size);
  size_t length = hls_next((struct slice){target, size}, next, capacity);
  if (length > capacity) abort();
  if (length > 0) {
    if (length != size && length != size + 1) abort();
    size_t same = 0;
    while (same < size && target[same] == next[same]) same++;
    /* From where they differ: digits in both, as many or, in the new one, one more; the rest is the same. */
    size_t was = digits_from(target, size, same), is = digits_from(next, length, same);
    if (was == 0 || is == 0 || is != was + (length - size)) abort();
    if (memcmp(target + same + was, next + same + is, size - same - was) != 0) abort();
    unsigned __int128 before = 0, after = 0;
    for (size_t i = 0; i < was; i++) before = before * 10 + (unsigned)(target[same + i] - '0');
    for (size_t i = 0; i < is; i++) after = after * 10 + (unsigned)(next[same + i] - '0');
    /* A number that got longer begins where the old one began to differ: with its leading nines' place. */
    if (length == size && after != before + 1) abort();
    if (length != size && is <= 16 && after % 10 != 0) abort();
  }
  free(next);
  free(target);
  return 0;
}
