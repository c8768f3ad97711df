/* Pieces of text that end where they say, as HTTP has them: no terminator, no copy. Pure. */
#ifndef MINICACHE_SLICE_H
#define MINICACHE_SLICE_H

#include "shoal.h"

struct slice {
  const char *at;
  size_t length;
};

#define SLICE(literal) ((struct slice){literal, sizeof literal - 1})
#define NO_SLICE ((struct slice){NULL, 0})

static inline char slice_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }
static inline bool slice_is_digit(char c) { return c >= '0' && c <= '9'; }

static inline bool slice_equal(struct slice a, struct slice b) { return a.length == b.length && memcmp(a.at, b.at, a.length) == 0; }

/* ASCII letters without their case. */
static inline bool slice_same(struct slice a, struct slice b) {
  if (a.length != b.length) return false;
  for (size_t i = 0; i < a.length; i++) {
    if (slice_lower(a.at[i]) != slice_lower(b.at[i])) return false;
  }
  return true;
}

static inline bool slice_starts(struct slice text, struct slice with) {
  return text.length >= with.length && memcmp(text.at, with.at, with.length) == 0;
}

static inline struct slice slice_from(struct slice text, size_t offset) {
  if (text.length == 0) return text; /* perhaps of nothing at all */
  return offset >= text.length ? (struct slice){text.at + text.length, 0} : (struct slice){text.at + offset, text.length - offset};
}

/* Without blanks (SP, HTAB) at both ends. */
static inline struct slice slice_trim(struct slice text) {
  while (text.length > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) text.at++, text.length--;
  while (text.length > 0 && (text.at[text.length - 1] == ' ' || text.at[text.length - 1] == '\t')) text.length--;
  return text;
}

/* The place of `c`, or the length. */
static inline size_t slice_find(struct slice text, char c) {
  size_t at = 0;
  while (at < text.length && text.at[at] != c) at++;
  return at;
}

/* Digits only, at least one; false when there is anything else or the number is over `most` (then *value is `most`; it is 0 when
 * there is anything else). */
static inline bool slice_number(struct slice text, uint64_t most, uint64_t *value) {
  uint64_t number = 0;
  bool fits = true;
  *value = 0;
  if (text.length == 0) return false;
  for (size_t i = 0; i < text.length; i++) {
    if (!slice_is_digit(text.at[i])) return false;
    uint64_t digit = (uint64_t)(text.at[i] - '0');
    if (digit > most || number > (most - digit) / 10) number = most, fits = false;
    else if (fits) number = number * 10 + digit;
  }
  *value = number;
  return fits;
}

/* Takes the next element of a comma-separated list (RFC 9110 5.6.1), quoted strings respected, empty ones skipped; false at the end. */
bool slice_next(struct slice *list, struct slice *element);

/* True when the list has the token, whatever its case. */
bool slice_list_has(struct slice list, struct slice token);

#endif
