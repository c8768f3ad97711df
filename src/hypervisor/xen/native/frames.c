/* See frames.h. */
#include "frames.h"

#include <stdlib.h>
#include <string.h>

#include "memory_stream.h"

struct number {
  uint64_t mfn, at;
};

struct frames {
  uint64_t count, first, latest;
  uint64_t *list;
  struct number numbers[];
};

static int by_mfn(const void *a, const void *b)
{
  uint64_t x = ((const struct number *)a)->mfn, y = ((const struct number *)b)->mfn;

  return x < y ? -1 : x > y;
}

struct frames *frames_of(const uint64_t *mfns, uint64_t count, uint64_t first)
{
  struct frames *frames = malloc(sizeof *frames + count * sizeof *frames->numbers);
  int sorted = 1;

  if (!frames) return NULL;
  *frames = (struct frames){ .count = count, .first = first, .list = malloc((count + 1) * sizeof *mfns) };
  if (!frames->list) {
    free(frames);
    return NULL;
  }
  memcpy(frames->list, mfns, count * sizeof *mfns);
  for (uint64_t i = 0; i < count; i++) {
    frames->numbers[i] = (struct number){ mfns[i], i };
    if (i > 0 && mfns[i - 1] > mfns[i]) sorted = 0;
  }
  if (!sorted) qsort(frames->numbers, count, sizeof *frames->numbers, by_mfn);
  return frames;
}

void frames_free(struct frames *frames)
{
  if (!frames) return;
  free(frames->list);
  free(frames);
}

uint64_t frames_find(struct frames *frames, uint64_t mfn)
{
  const struct number key = { .mfn = mfn }, *found;
  uint64_t next = frames->latest + 1;

  if (next < frames->count && frames->list[next] == mfn) {
    frames->latest = next;
    return frames->first + next;
  }
  found = frames->count ? bsearch(&key, frames->numbers, frames->count, sizeof *frames->numbers, by_mfn) : NULL;
  if (!found) return NO_FRAME;
  frames->latest = found->at;
  return frames->first + found->at;
}

const uint64_t *frames_list(const struct frames *frames) { return frames->list; }
