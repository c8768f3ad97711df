/* A token bucket: so many units (packets, bytes) a second, with what 10 ms bring saved up at most, and never less than one packet's worth. It may
 * be overdrawn by the last packet, so that the mean is exact whatever lengths come. Pure. */
#ifndef CLICK_BUCKET_H
#define CLICK_BUCKET_H

#include "shoal.h"

#define BUCKET_UNIT 1000000000ll /* tokens are counted in billionths: rate times nanoseconds */
#define BUCKET_RATE_MAX 100000000000ull
#define BUCKET_SAVED_NS 10000000ull

struct bucket {
  uint64_t rate, seen_ns;
  int64_t tokens, most;
};

static inline void bucket_set(struct bucket *bucket, uint64_t rate, uint64_t least_units) {
  uint64_t most = rate * BUCKET_SAVED_NS;
  bucket->rate = rate;
  bucket->most = (int64_t)(most > least_units * BUCKET_UNIT ? most : least_units * BUCKET_UNIT);
  if (bucket->tokens > bucket->most) bucket->tokens = bucket->most;
}

/* Begins with one packet's worth, unless nothing ever comes. */
static inline void bucket_begin(struct bucket *bucket, uint64_t now_ns, uint64_t least_units) {
  bucket->seen_ns = now_ns;
  bucket->tokens = bucket->rate == 0 ? 0 : (int64_t)least_units * BUCKET_UNIT;
}

static inline void bucket_fill(struct bucket *bucket, uint64_t now_ns) {
  uint64_t passed = now_ns - bucket->seen_ns;
  if (now_ns <= bucket->seen_ns) return;
  bucket->seen_ns = now_ns;
  if (bucket->rate == 0) return;
  uint64_t room = (uint64_t)(bucket->most - bucket->tokens);
  if (passed > room / bucket->rate) bucket->tokens = bucket->most;
  else bucket->tokens += (int64_t)(passed * bucket->rate);
}

/* Packets of one unit that may go now. */
static inline uint64_t bucket_count(const struct bucket *bucket) { return bucket->tokens <= 0 ? 0 : (uint64_t)((bucket->tokens + BUCKET_UNIT - 1) / BUCKET_UNIT); }
static inline void bucket_spend(struct bucket *bucket, uint64_t units) { bucket->tokens -= (int64_t)units * BUCKET_UNIT; }

/* When there is something to spend again; UINT64_MAX: never. */
static inline uint64_t bucket_due_ns(const struct bucket *bucket) {
  if (bucket->tokens > 0) return bucket->seen_ns;
  return bucket->rate == 0 ? UINT64_MAX : bucket->seen_ns + (uint64_t)-bucket->tokens / bucket->rate + 1;
}

#endif
