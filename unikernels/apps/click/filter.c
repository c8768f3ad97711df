/* Programs of filters: how they are put together and run. */
#include "filter.h"
#include "ip.h"

#define EXTENSIONS_MAX 8u

void filter_begin(struct filter *filter, unsigned family) {
  memset(filter, 0, sizeof *filter);
  filter->family = family;
  filter->start = FILTER_NONE;
}

void filter_end(struct filter *filter) {
  shoal_free(filter->tests);
  filter->tests = NULL;
  filter->count = filter->capacity = 0;
}

static bool grow(struct filter *filter) {
  uint32_t capacity = filter->capacity == 0 ? 32 : filter->capacity * 2;
  struct filter_test *tests = capacity > FILTER_TESTS_MAX ? NULL : shoal_alloc(capacity * sizeof *tests);
  if (tests == NULL) return false;
  if (filter->count > 0) memcpy(tests, filter->tests, filter->count * sizeof *tests);
  shoal_free(filter->tests);
  filter->tests = tests;
  filter->capacity = capacity;
  return true;
}

/* ---- putting together ---- */

uint32_t filter_test_add(struct filter *filter, struct filter_test test, struct filter_expression *expression) {
  if (filter->count == filter->capacity && !grow(filter)) {
    filter->no_memory = true;
    /* Never run: the pattern is refused. */
    *expression = (struct filter_expression){0, {{FILTER_NONE, FILTER_NONE}, {FILTER_NONE, FILTER_NONE}}};
    return 0;
  }
  uint32_t index = filter->count++;
  test.targets[0] = test.targets[1] = FILTER_NONE;
  filter->tests[index] = test;
  *expression = (struct filter_expression){index, {{2 * index, 2 * index}, {2 * index + 1, 2 * index + 1}}};
  return index;
}

void filter_patch(struct filter *filter, struct filter_exits exits, uint32_t target) {
  for (uint32_t edge = exits.first; edge != FILTER_NONE;) {
    uint32_t *at = &filter->tests[edge / 2].targets[edge % 2];
    edge = *at;
    *at = target;
  }
}

static struct filter_exits join(struct filter *filter, struct filter_exits a, struct filter_exits b) {
  if (a.first == FILTER_NONE) return b;
  if (b.first == FILTER_NONE) return a;
  filter->tests[a.last / 2].targets[a.last % 2] = b.first;
  return (struct filter_exits){a.first, b.last};
}

/* `b` follows where `a` came out so. */
static struct filter_expression follow(struct filter *filter, struct filter_expression a, struct filter_expression b, unsigned outcome) {
  struct filter_expression result = {.start = a.start};
  filter_patch(filter, a.out[outcome], b.start);
  result.out[outcome] = b.out[outcome];
  result.out[!outcome] = join(filter, a.out[!outcome], b.out[!outcome]);
  return result;
}

struct filter_expression filter_and(struct filter *filter, struct filter_expression a, struct filter_expression b) { return follow(filter, a, b, 1); }
struct filter_expression filter_or(struct filter *filter, struct filter_expression a, struct filter_expression b) { return follow(filter, a, b, 0); }
struct filter_expression filter_not(struct filter_expression a) { return (struct filter_expression){a.start, {a.out[1], a.out[0]}}; }

bool filter_add(struct filter *filter, struct slice pattern, uint32_t output, struct arguments *arguments) {
  struct filter_expression expression;
  if (!filter_read(filter, pattern, &expression, arguments)) return false;
  if (filter->no_memory) return arguments_error(arguments, "no memory, or more than %u tests", FILTER_TESTS_MAX);
  /* What falls through a pattern goes on at the first test of the next one, which is the next test: patterns are put down in order. */
  filter_patch(filter, expression.out[1], output);
  filter_patch(filter, expression.out[0], filter->count);
  if (filter->start == FILTER_NONE) filter->start = expression.start;
  return true;
}

bool filter_finish(struct filter *filter) {
  struct filter_expression last;
  filter_test_add(filter, (struct filter_test){.operation = FILTER_EQUAL}, &last);
  if (filter->no_memory) return false;
  filter_patch(filter, last.out[0], FILTER_DROP);
  filter_patch(filter, last.out[1], FILTER_DROP);
  if (filter->start == FILTER_NONE) filter->start = last.start;
  /* Small or not, it says the same. */
  filter_shorten(filter);
  return true;
}

/* ---- running ---- */

struct fields {
  const uint8_t *at[2];
  uint32_t bytes[2];
};

/* IPv6's extension headers are passed over; what lies behind one that is not known has no fields. */
static bool find_fields6(const struct packet *packet, struct fields *fields, uint8_t *protocol) {
  const uint8_t *header = packet->network;
  uint32_t there = packet_bytes_from(packet, header), at = 40;
  if (there < 40 || header[0] >> 4 != 6) return false;
  uint32_t end = 40u + get16(header + 4);
  if (end > there) end = there;
  uint8_t next = header[6];
  bool is_first = true;
  for (unsigned i = 0; i < EXTENSIONS_MAX && (next == 0 || next == 43 || next == 44 || next == 60) && at + 8 <= end; i++) {
    if (next == 44 && (get16(header + at + 2) & 0xfff8) != 0) is_first = false;
    uint32_t bytes = next == 44 ? 8 : (header[at + 1] + 1u) * 8;
    next = header[at];
    at += bytes;
    if (!is_first) break;
  }
  *protocol = next;
  fields->at[FILTER_IP] = header;
  fields->bytes[FILTER_IP] = 40;
  fields->at[FILTER_TRANSPORT] = header + (at < end ? at : end);
  fields->bytes[FILTER_TRANSPORT] = is_first && at < end ? end - at : 0;
  return true;
}

static bool find_fields(const struct filter *filter, const struct packet *packet, struct fields *fields, uint8_t *protocol) {
  struct ip4_view view;
  if (filter->family == 6) return find_fields6(packet, fields, protocol);
  if (!ip4_view(packet, &view)) return false;
  fields->at[FILTER_IP] = view.header;
  fields->bytes[FILTER_IP] = view.header_bytes;
  fields->at[FILTER_TRANSPORT] = view.transport;
  fields->bytes[FILTER_TRANSPORT] = ip4_is_first(&view) ? view.transport_bytes : 0;
  *protocol = view.protocol;
  return true;
}

static bool holds(const struct filter_test *test, const struct fields *fields, uint8_t protocol) {
  uint32_t word = 0;
  if (test->offset == FILTER_PROTOCOL) return (protocol & test->mask) == test->value;
  if ((uint32_t)test->offset + test->bytes > fields->bytes[test->base]) return false;
  const uint8_t *at = fields->at[test->base] + test->offset;
  switch (test->bytes) {
    case 1: word = *at; break;
    case 2: word = get16(at); break;
    case 4: word = get32(at); break;
    default: break;
  }
  word &= test->mask;
  return test->operation == FILTER_EQUAL ? word == test->value : word > test->value;
}

uint32_t filter_run(const struct filter *filter, const struct packet *packet) {
  struct fields fields;
  uint8_t protocol;
  if (!find_fields(filter, packet, &fields, &protocol)) return FILTER_DROP & ~FILTER_OUTPUT;
  uint32_t at = filter->start;
  while (!(at & FILTER_OUTPUT)) at = filter->tests[at].targets[holds(&filter->tests[at], &fields, protocol)];
  return at & ~FILTER_OUTPUT;
}

static void write_target(struct output *out, uint32_t target) {
  if (target == FILTER_DROP) output_print(out, " drop");
  else if (target & FILTER_OUTPUT) output_print(out, " [%u]", target & ~FILTER_OUTPUT);
  else output_print(out, " %u", target);
}

void filter_write(const struct filter *filter, struct output *out) {
  for (uint32_t i = 0; i < filter->count; i++) {
    const struct filter_test *test = &filter->tests[i];
    output_print(out, "%u: %s[%u:%u] & 0x%x %s 0x%x yes", i, test->base == FILTER_IP ? "ip" : "transp", test->offset, test->bytes, test->mask, test->operation == FILTER_EQUAL ? "==" : ">", test->value);
    write_target(out, test->targets[1]);
    output_print(out, " no");
    write_target(out, test->targets[0]);
    output_print(out, "\n");
  }
}
