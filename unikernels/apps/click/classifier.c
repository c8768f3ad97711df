/*
 * Classifier(PATTERN...): packets by their bytes. A pattern is a list of clauses OFFSET/VALUE[%MASK], in hexadecimal, `?` any half byte, `!` before
 * one for its contrary; `-` is everything. A packet goes out of the output of the first pattern of which all clauses hold; a clause that
 * reaches past a packet's end does not hold.
 */
#include "element.h"

#define CLAUSE_BYTES_MAX 64u
#define OFFSET_MAX 2047u

/* A clause is one or more of these, each up to 8 bytes: (bytes at offset) & mask == value. All but the last of a clause say `more`. */
struct test {
  uint64_t mask, value;
  uint16_t offset;
  uint8_t length;
  bool negated, more;
};

struct pattern {
  uint32_t first, count;
};

struct classifier {
  struct element element;
  struct pattern *patterns;
  struct test *tests;
  uint32_t pattern_count, test_count;
};

static int digit_of(char c) {
  c = slice_lower(c);
  return slice_is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c == '?' ? 16 : -1;
}

/* Hexadecimal to bytes and the mask of what is not `?`; returns how many, 0 when malformed. */
static unsigned read_hex(struct slice text, uint8_t *value, uint8_t *mask) {
  if (text.length == 0 || text.length % 2 != 0 || text.length / 2 > CLAUSE_BYTES_MAX) return 0;
  for (size_t i = 0; i < text.length; i++) {
    int digit = digit_of(text.at[i]);
    if (digit < 0) return 0;
    uint8_t half = (uint8_t)(digit & 15), is_known = digit < 16 ? 15 : 0;
    value[i / 2] = i % 2 == 0 ? (uint8_t)(half << 4) : value[i / 2] | half;
    mask[i / 2] = i % 2 == 0 ? (uint8_t)(is_known << 4) : mask[i / 2] | is_known;
  }
  return (unsigned)(text.length / 2);
}

/* The tests of a clause, added to `tests` unless NULL; returns how many, 0 when malformed. */
static unsigned read_clause(struct slice text, struct test *tests) {
  uint8_t value[CLAUSE_BYTES_MAX], mask[CLAUSE_BYTES_MAX], given[CLAUSE_BYTES_MAX], ignored[CLAUSE_BYTES_MAX];
  bool negated = text.length > 0 && text.at[0] == '!';
  uint64_t offset;
  if (negated) text = slice_from(text, 1);
  size_t slash = slice_find(text, '/');
  struct slice rest = slice_from(text, slash + 1);
  size_t percent = slice_find(rest, '%');
  if (!slice_number((struct slice){text.at, slash}, OFFSET_MAX, &offset)) return 0;
  unsigned length = read_hex((struct slice){rest.at, percent}, value, mask);
  if (length == 0) return 0;
  if (percent < rest.length) {
    if (read_hex(slice_from(rest, percent + 1), given, ignored) != length) return 0;
    for (unsigned i = 0; i < length; i++) mask[i] &= given[i];
  }
  unsigned count = 0;
  for (unsigned at = 0; at < length; at += 8, count++) {
    if (tests == NULL) continue;
    unsigned part = length - at < 8 ? length - at : 8;
    struct test *test = &tests[count];
    *test = (struct test){.offset = (uint16_t)(offset + at), .length = (uint8_t)part, .negated = negated, .more = at + 8 < length};
    for (unsigned i = 0; i < part; i++) value[at + i] &= mask[at + i];
    memcpy(&test->mask, mask + at, part);
    memcpy(&test->value, value + at, part);
  }
  return count;
}

/* Counts the tests of all patterns, or fills them in. */
static bool read_all(struct classifier *classifier, struct arguments *arguments) {
  struct slice text, word;
  uint32_t pattern = 0, test = 0;
  bool fill = classifier->tests != NULL;
  for (; arguments_rest(arguments, &text); pattern++) {
    const char *start = text.at;
    uint32_t first = test;
    while (parse_word(&text, &word)) {
      if (slice_equal(word, SLICE("-"))) continue;
      unsigned count = read_clause(word, fill ? &classifier->tests[test] : NULL);
      if (count == 0) return arguments_error_at(arguments, word.at, "'%.*s' is no clause (OFFSET/VALUE or OFFSET/VALUE%%MASK)", (int)(word.length < 40 ? word.length : 40), word.at);
      test += count;
    }
    if (text.at == start) return arguments_error(arguments, "an empty pattern");
    if (fill) classifier->patterns[pattern] = (struct pattern){first, test - first};
  }
  classifier->pattern_count = pattern;
  classifier->test_count = test;
  return true;
}

static bool configure(struct element *element, struct arguments *arguments) {
  struct classifier *classifier = (struct classifier *)element;
  struct arguments again = *arguments;
  if (!read_all(classifier, &again)) return arguments->failed = true, false;
  if (classifier->pattern_count != element->output_count) return arguments_error(arguments, "%u patterns are for as many outputs, %u are connected", classifier->pattern_count, element->output_count);
  classifier->patterns = element_alloc(element, classifier->pattern_count * sizeof *classifier->patterns + 1);
  classifier->tests = element_alloc(element, classifier->test_count * sizeof *classifier->tests + 1);
  if (classifier->patterns == NULL || classifier->tests == NULL) return arguments_error(arguments, "no memory");
  for (uint32_t i = 0; i < arguments->count; i++) arguments->all[i].used = false;
  read_all(classifier, arguments);
  return arguments_end(arguments);
}

static bool holds(const struct test *test, const struct packet *packet) {
  uint64_t word = 0;
  if ((uint32_t)test->offset + test->length > packet->length) return false;
  const uint8_t *at = packet->data + test->offset;
  switch (test->length) { /* lengths the compiler knows, each one load */
    case 1: word = *at; break;
    case 2: memcpy(&word, at, 2); break;
    case 4: memcpy(&word, at, 4); break;
    case 8: memcpy(&word, at, 8); break;
    default: memcpy(&word, at, test->length); break;
  }
  return (word & test->mask) == test->value;
}

static bool matches(const struct classifier *classifier, const struct pattern *pattern, const struct packet *packet) {
  const struct test *test = &classifier->tests[pattern->first], *end = test + pattern->count;
  while (test < end) {
    bool all = true, negated = test->negated;
    for (bool more = true; more; test++) {
      more = test->more;
      all = all && holds(test, packet);
    }
    if (all == negated) return false;
  }
  return true;
}

static void push(struct element *element, unsigned input, struct batch *batch) {
  const struct classifier *classifier = (struct classifier *)element;
  struct fanout fanout;
  (void)input;
  fanout_begin(&fanout, element);
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    uint32_t output = 0;
    while (output < classifier->pattern_count && !matches(classifier, &classifier->patterns[output], packet)) output++;
    fanout_add(&fanout, output, packet); /* none: there is no such output, and it is freed */
  }
  fanout_end(&fanout);
}

const struct element_class class_classifier = {.name = "Classifier", .size_bytes = sizeof(struct classifier), .ports = "1/-", .processing = "h/h", .configure = configure, .push = push};
