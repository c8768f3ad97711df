/* See range.h. Many small or overlapping ranges are a known way to make a server send much: they are answered with the whole. */
#include "range.h"

int ranges_read(struct slice value, uint64_t length, struct range ranges[RANGES_MOST]) {
  if (value.length < 6 || !slice_same((struct slice){value.at, 6}, SLICE("bytes="))) return -1;
  struct slice list = slice_from(value, 6), element;
  unsigned count = 0, seen = 0;
  uint64_t total = 0;
  while (slice_next(&list, &element)) {
    size_t dash = slice_find(element, '-');
    if (dash == element.length || ++seen > RANGES_MOST) return -1;
    struct slice first = {element.at, dash}, last = slice_from(element, dash + 1);
    uint64_t from = 0, to = length, number;
    if (first.length == 0) {
      if (last.length == 0) return -1;
      if (!slice_number(last, INT64_MAX, &number) && number != INT64_MAX) return -1;
      if (number == 0) continue;
      from = number >= length ? 0 : length - number;
    } else {
      if (!slice_number(first, INT64_MAX, &from) && from != INT64_MAX) return -1;
      if (last.length > 0) {
        if (!slice_number(last, INT64_MAX, &number) && number != INT64_MAX) return -1;
        if (number < from) return -1;
        if (number < length) to = number + 1;
      }
    }
    if (from >= length) continue;
    ranges[count++] = (struct range){from, to};
    total += to - from;
  }
  if (seen == 0) return -1;
  if (count > 1 && total > length) return -1;
  return (int)count;
}
