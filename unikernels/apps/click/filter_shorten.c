/*
 * Shorter programs. What is known on an edge are the outcomes of the tests whose edges every path to it takes: its dominators, in a graph where an edge
 * is a node too. An edge goes past each test that is thereby decided. That gives other dominators, so it is done again, a few times.
 */
#include "filter.h"

#define ROUNDS_MAX 8u
#define STEPS_MAX 256u /* up the dominators, for one question */

enum known { NO, YES, UNKNOWN };

/* What `fact`, that came out so, says about `test`. */
static enum known implied(const struct filter_test *fact, bool outcome, const struct filter_test *test) {
  if (test->bytes == 0) return test->operation == FILTER_EQUAL && (0 & test->mask) == test->value ? YES : NO;
  if (fact->base != test->base || fact->offset != test->offset || fact->bytes != test->bytes) return UNKNOWN;
  bool same = fact->mask == test->mask;
  if (fact->operation == FILTER_EQUAL && outcome) {
    /* Bits that are known differ, or all are known. */
    if (test->operation == FILTER_EQUAL && ((fact->value ^ test->value) & fact->mask & test->mask) != 0) return NO;
    if ((test->mask & ~fact->mask) != 0) return UNKNOWN;
    uint32_t word = fact->value & test->mask;
    return (test->operation == FILTER_EQUAL ? word == test->value : word > test->value) ? YES : NO;
  }
  /* What does not hold may be so because there is no such field: then no test of it holds. */
  if (fact->operation == FILTER_EQUAL) return same && test->operation == FILTER_EQUAL && fact->value == test->value ? NO : UNKNOWN;
  if (!same) return UNKNOWN;
  if (outcome) {
    if (test->operation == FILTER_ABOVE) return test->value <= fact->value ? YES : UNKNOWN;
    return test->value <= fact->value ? NO : UNKNOWN;
  }
  if (test->operation == FILTER_ABOVE) return test->value >= fact->value ? NO : UNKNOWN;
  return test->value > fact->value ? NO : UNKNOWN;
}

/* Nodes: 3 * test, and 3 * test + 1 + outcome for its edges. A node's dominator has a smaller number. */
static uint32_t meet(const uint32_t *dominators, uint32_t a, uint32_t b) {
  while (a != b) {
    if (a > b) a = dominators[a];
    else b = dominators[b];
  }
  return a;
}

static void find_dominators(const struct filter *filter, uint32_t *dominators) {
  for (uint32_t i = 0; i < filter->count; i++) dominators[3 * i] = FILTER_NONE;
  dominators[3 * filter->start] = 3 * filter->start;
  for (uint32_t i = filter->start; i < filter->count; i++) {
    if (dominators[3 * i] == FILTER_NONE) continue; /* not reached */
    for (unsigned outcome = 0; outcome < 2; outcome++) {
      uint32_t edge = 3 * i + 1 + outcome, target = filter->tests[i].targets[outcome];
      dominators[edge] = 3 * i;
      if (target & FILTER_OUTPUT) continue;
      uint32_t *of = &dominators[3 * target];
      *of = *of == FILTER_NONE ? edge : meet(dominators, *of, edge);
    }
  }
}

static enum known decide(const struct filter *filter, const uint32_t *dominators, uint32_t edge, const struct filter_test *test) {
  if (test->bytes == 0) return implied(test, true, test);
  uint32_t node = edge;
  for (unsigned i = 0; i < STEPS_MAX; i++) {
    if (node % 3 != 0) {
      enum known known = implied(&filter->tests[node / 3], node % 3 == 2, test);
      if (known != UNKNOWN) return known;
    }
    if (dominators[node] == node) break;
    node = dominators[node];
  }
  return UNKNOWN;
}

static bool lead_past(struct filter *filter, const uint32_t *dominators) {
  bool changed = false;
  for (uint32_t i = filter->start; i < filter->count; i++) {
    if (dominators[3 * i] == FILTER_NONE) continue;
    for (unsigned outcome = 0; outcome < 2; outcome++) {
      uint32_t *target = &filter->tests[i].targets[outcome];
      while (!(*target & FILTER_OUTPUT)) {
        const struct filter_test *test = &filter->tests[*target];
        enum known known = test->targets[0] == test->targets[1] ? YES : decide(filter, dominators, 3 * i + 1 + outcome, test);
        if (known == UNKNOWN) break;
        *target = test->targets[known];
        changed = true;
      }
    }
  }
  return changed;
}

/* The start itself may be a test that is always the same. */
static bool lead_start(struct filter *filter) {
  while (!(filter->start & FILTER_OUTPUT)) {
    const struct filter_test *test = &filter->tests[filter->start];
    if (test->targets[0] == test->targets[1]) filter->start = test->targets[0];
    else if (test->bytes == 0) filter->start = test->targets[implied(test, true, test)];
    else return true;
  }
  return false;
}

/* Only what is reached stays, in the same order. `places` has room for as many. */
static void compact(struct filter *filter, uint32_t *places) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < filter->count; i++) places[i] = FILTER_NONE;
  if (!(filter->start & FILTER_OUTPUT)) places[filter->start] = 0;
  for (uint32_t i = 0; i < filter->count; i++) {
    if (places[i] == FILTER_NONE) continue;
    places[i] = count++;
    for (unsigned outcome = 0; outcome < 2; outcome++) {
      uint32_t target = filter->tests[i].targets[outcome];
      if (!(target & FILTER_OUTPUT)) places[target] = 0;
    }
  }
  for (uint32_t i = 0; i < filter->count; i++) {
    if (places[i] == FILTER_NONE) continue;
    struct filter_test test = filter->tests[i];
    for (unsigned outcome = 0; outcome < 2; outcome++) {
      if (!(test.targets[outcome] & FILTER_OUTPUT)) test.targets[outcome] = places[test.targets[outcome]];
    }
    filter->tests[places[i]] = test;
  }
  if (!(filter->start & FILTER_OUTPUT)) filter->start = places[filter->start];
  filter->count = count;
}

bool filter_shorten(struct filter *filter) {
  uint32_t *room = shoal_alloc((size_t)filter->count * 3 * sizeof *room);
  if (room == NULL) return false;
  for (unsigned round = 0; round < ROUNDS_MAX && lead_start(filter); round++) {
    find_dominators(filter, room);
    if (!lead_past(filter, room)) break;
  }
  compact(filter, room);
  shoal_free(room);
  return true;
}
