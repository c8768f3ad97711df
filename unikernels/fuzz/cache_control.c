/*
 * Field values as a cache reads them: Cache-Control and its targeted kin, lists, ranges, dates, signed URLs. Nothing may be read outside
 * of the value; a targeted field that is refused changes nothing; ranges lie inside of the body; a date that is written reads the same.
 */
#include "world.h"
#include <stdlib.h>
#include "../apps/minicache/cache_control.h"
#include "../apps/minicache/date.h"
#include "../apps/minicache/range.h"
#include "../apps/minicache/signed_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct cache_control plain = {0}, targeted = {.set = CC_PUBLIC};
  struct range ranges[RANGES_MOST];
  int64_t seconds, again;
  if (size < 3) return 0;
  uint64_t length = data[0] | (uint64_t)data[1] << 8;
  data += 2, size -= 2;
  char *copy = malloc(size); /* exactly so long: a byte too far is found */
  memcpy(copy, data, size);
  struct slice value = {copy, size};
  cache_control_read(&plain, value);
  if (plain.max_age > CC_MOST_SECONDS || plain.s_maxage > CC_MOST_SECONDS) abort();
  if (!cache_control_read_targeted(&targeted, value, length & 1) && targeted.set != CC_PUBLIC) abort();
  int count = ranges_read(value, length, ranges);
  if (count > (int)RANGES_MOST) abort();
  uint64_t total = 0;
  for (int i = 0; i < count; i++) {
    if (ranges[i].from >= ranges[i].to || ranges[i].to > length) abort();
    total += ranges[i].to - ranges[i].from;
  }
  if (count > 1 && total > length) abort();
  if (date_read(value, &seconds) && seconds >= 0) {
    char text[DATE_BYTES];
    date_write(text, seconds);
    if (!date_read((struct slice){text, DATE_BYTES}, &again) || again != seconds) abort();
  }
  struct slice target = value;
  if (signed_url_check(&target, SLICE("a key that nobody guesses"), 0)) abort();
  free(copy);
  return 0;
}
