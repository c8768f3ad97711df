/* See hls.h. */
#include "hls.h"
#include "fetch.h"

#define TARGET_BYTES 1024u

size_t hls_next(struct slice target, char *next, size_t capacity) {
  static const struct slice kinds[] = {SLICE(".ts"), SLICE(".m4s"), SLICE(".mp4"), SLICE(".aac"), SLICE(".m4v"), SLICE(".m4a")};
  struct slice path = {target.at, slice_find(target, '?')};
  size_t stem = 0;
  for (unsigned i = 0; i < sizeof kinds / sizeof *kinds && stem == 0; i++) {
    if (path.length > kinds[i].length && slice_equal(slice_from(path, path.length - kinds[i].length), kinds[i])) stem = path.length - kinds[i].length;
  }
  if (stem == 0) return 0;
  size_t number = stem;
  while (number > 0 && slice_is_digit(path.at[number - 1])) number--;
  if (number == stem || number == 0 || stem - number > 15 || target.length + 1 > capacity) return 0;
  char digits[16];
  size_t width = stem - number;
  memcpy(digits, path.at + number, width);
  size_t at = width;
  while (at > 0 && digits[at - 1] == '9') digits[--at] = '0';
  bool longer = at == 0;
  if (!longer) digits[at - 1]++;
  memcpy(next, target.at, number);
  size_t length = number;
  if (longer) next[length++] = '1';
  memcpy(next + length, digits, width);
  length += width;
  memcpy(next + length, target.at + stem, target.length - stem);
  return length + target.length - stem;
}

void hls_ahead(const struct viewer *viewer) {
  char next[TARGET_BYTES];
  if (!cache.settings.prefetch || viewer->target.length >= sizeof next) return;
  size_t length = hls_next(viewer->target, next, sizeof next);
  if (length > 0 && fetch_ahead(viewer, (struct slice){next, length})) cache.metrics.prefetched++;
}
