/*
 * An element's arguments, read as Click reads them: separated by commas, positional ones first, keywords as `NAME value` anywhere behind them,
 * each at most once. An element asks for each by name, with its default already in place, and ends with arguments_end:
 *
 *   uint32_t capacity = 1000;
 *   arguments_u32(a, "CAPACITY", ARGUMENT_POSITION, 1, 1000000, &capacity);
 *   arguments_bool(a, "VERBOSE", 0, &verbose);
 *   return arguments_end(a);
 *
 * What begins with a word in capitals and goes on behind a blank is a keyword and never taken by position. A call returns true when the argument was given and is well-formed. Mistakes are kept with line and column and make arguments_end
 * false; the value is left alone then. Calls that read by position come in the order of the positions.
 */
#ifndef CLICK_ARGUMENTS_H
#define CLICK_ARGUMENTS_H

#include "shoal.h"
#include "output.h"

struct element;

#define ARGUMENT_POSITION 1u /* may stand without its name */
#define ARGUMENT_REQUIRED 2u
#define ARGUMENTS_MAX 4096u  /* of one element */

struct argument {
  struct slice text; /* without blanks at its ends and comments */
  struct place place;
  bool used;
};

struct arguments {
  struct element *element;
  struct errors *errors;
  struct argument *all;
  uint32_t count;
  uint32_t next;      /* by position */
  uint32_t current;   /* the last one that was read */
  bool failed;
};

/* The whole text of the argument (a keyword's: what stands behind it). */
bool arguments_text(struct arguments *arguments, const char *name, unsigned flags, struct slice *text);
/* One word or quoted string, unquoted; its bytes live as long as the element, with a NUL behind them. */
bool arguments_string(struct arguments *arguments, const char *name, unsigned flags, struct slice *text);
bool arguments_bool(struct arguments *arguments, const char *name, unsigned flags, bool *value);
/* Decimal, 0x hexadecimal, or 0 octal, between the two bounds. */
bool arguments_u32(struct arguments *arguments, const char *name, unsigned flags, uint32_t least, uint32_t most, uint32_t *value);
bool arguments_u64(struct arguments *arguments, const char *name, unsigned flags, uint64_t least, uint64_t most, uint64_t *value);
bool arguments_i32(struct arguments *arguments, const char *name, unsigned flags, int32_t least, int32_t most, int32_t *value);
/* A decimal number times 10^digits: "0.25" with 6 digits is 250000. */
bool arguments_fixed(struct arguments *arguments, const char *name, unsigned flags, unsigned digits, uint64_t most, uint64_t *value);
/* A span of time: seconds, with a fraction, or a unit (ns us ms s sec min h). */
bool arguments_ns(struct arguments *arguments, const char *name, unsigned flags, uint64_t *value);
/* Bytes per second; units as Click has them: bps, Bps, with k, M, G (1000), "baud"; without one bytes per second. */
bool arguments_rate(struct arguments *arguments, const char *name, unsigned flags, uint64_t *value);
/* Addresses as they lie in headers. A prefix: ADDRESS/LENGTH, ADDRESS/MASK (IPv4), or an address alone; host bits are kept in *address. */
bool arguments_ip4(struct arguments *arguments, const char *name, unsigned flags, uint32_t *address);
bool arguments_prefix4(struct arguments *arguments, const char *name, unsigned flags, uint32_t *address, uint32_t *mask);
bool arguments_ip6(struct arguments *arguments, const char *name, unsigned flags, uint8_t *address);
bool arguments_prefix6(struct arguments *arguments, const char *name, unsigned flags, uint8_t *address, unsigned *length);
bool arguments_ether(struct arguments *arguments, const char *name, unsigned flags, uint8_t *address);
/* Another element, by name. */
bool arguments_element(struct arguments *arguments, const char *name, unsigned flags, struct element **element);

/* Positional arguments that no call has taken yet, one after the other; false at the end. For lists of patterns, routes, rules. */
bool arguments_rest(struct arguments *arguments, struct slice *text);
/* How many arguments_rest would give. */
uint32_t arguments_rest_count(const struct arguments *arguments);

/* A mistake in the argument that was read last. Returns false. */
bool arguments_error(struct arguments *arguments, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, with the place of `at`, which points into that argument's text. */
bool arguments_error_at(struct arguments *arguments, const char *at, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* True when all was well and nothing is left over. */
bool arguments_end(struct arguments *arguments);

/* ---- the same readers for a text alone (handlers, patterns): the whole of it has to be one ---- */

bool parse_u64(struct slice text, uint64_t most, uint64_t *value);
bool parse_fixed(struct slice text, unsigned digits, uint64_t most, uint64_t *value);
bool parse_bool(struct slice text, bool *value);
bool parse_ns(struct slice text, uint64_t *value);
bool parse_rate(struct slice text, uint64_t *value);
bool parse_ip4(struct slice text, uint32_t *address);
bool parse_prefix4(struct slice text, uint32_t *address, uint32_t *mask);
bool parse_ip6(struct slice text, uint8_t address[16]);
bool parse_prefix6(struct slice text, uint8_t address[16], unsigned *length);
bool parse_ether(struct slice text, uint8_t address[6]);
/* The next word of a text (blanks apart, quotes respected), taken off it; false at its end. */
bool parse_word(struct slice *text, struct slice *word);

#endif
