/*
 * Patterns over IP headers, in the language of IPClassifier and IPFilter, and the program they become: tests of a field each, that lead to
 * another test or to an output. Tests lead forward only, so a program ends. All patterns of an element are one program: an edge on which the outcome of
 * the next test is known from tests before it leads past that test, so that checks that patterns have in common are made once.
 */
#ifndef CLICK_FILTER_H
#define CLICK_FILTER_H

#include "arguments.h"
#include "packet.h"

#define FILTER_TESTS_MAX 16384u
#define FILTER_DEPTH_MAX 32u /* of parentheses */

/* Targets: a test by its index, or an output. */
#define FILTER_OUTPUT 0x80000000u
#define FILTER_DROP (FILTER_OUTPUT | 0x7fffffffu)

/* Where a field begins. `ip` for version 4 and 6 alike; `transport` only in packets that begin one (no later fragments). */
enum filter_base { FILTER_IP, FILTER_TRANSPORT };
enum filter_operation { FILTER_EQUAL, FILTER_ABOVE };

/* The offset that stands for the protocol; in IPv6 it lies behind the extension headers. Only with FILTER_EQUAL. */
#define FILTER_PROTOCOL 0xffffu

/* (field & mask) OPERATION value, the field big-endian. It does not hold when the packet has no such field. */
struct filter_test {
  uint16_t offset;
  uint8_t bytes; /* 1, 2 or 4; 0: the field is 0 */
  uint8_t base, operation;
  uint32_t mask, value;
  uint32_t targets[2]; /* when it does not hold, when it does */
};

struct filter {
  struct filter_test *tests;
  uint32_t count, capacity;
  uint32_t start;
  unsigned family; /* 4 or 6 */
  bool no_memory;
};

void filter_begin(struct filter *filter, unsigned family);
/* Frees it. */
void filter_end(struct filter *filter);
/* One more pattern: what matches it and none before goes to `output` (FILTER_OUTPUT | number, or FILTER_DROP). Mistakes are told in the argument read last. */
bool filter_add(struct filter *filter, struct slice pattern, uint32_t output, struct arguments *arguments);
/* All patterns are there: what matches none is dropped; the program is made small. */
bool filter_finish(struct filter *filter);

/* Where the packet goes: an output's number, or FILTER_DROP without its highest bit. Packets without a marked, whole IP header of the
 * family are dropped. */
uint32_t filter_run(const struct filter *filter, const struct packet *packet);

/* The program, a line a test. */
struct output;
void filter_write(const struct filter *filter, struct output *out);

/* ---- between the files of the filter ---- */

/* An expression while it is read: its first test, and the edges that lead out of it, chained through their targets. An edge is 2 * test + outcome. */
#define FILTER_NONE 0xffffffffu
struct filter_exits {
  uint32_t first, last;
};
struct filter_expression {
  uint32_t start;
  struct filter_exits out[2];
};
uint32_t filter_test_add(struct filter *filter, struct filter_test test, struct filter_expression *expression);
void filter_patch(struct filter *filter, struct filter_exits exits, uint32_t target);
struct filter_expression filter_and(struct filter *filter, struct filter_expression a, struct filter_expression b);
struct filter_expression filter_or(struct filter *filter, struct filter_expression a, struct filter_expression b);
struct filter_expression filter_not(struct filter_expression a);

/* Reads a pattern; false: told. */
bool filter_read(struct filter *filter, struct slice text, struct filter_expression *expression, struct arguments *arguments);
/* Leads edges past tests whose outcome is known, and leaves out what is not reached. False: no memory, the program is as it was. */
bool filter_shorten(struct filter *filter);

#endif
