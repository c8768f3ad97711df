/* Mappers choose a pattern for each new flow of a translator: RoundRobinIPMapper(PATTERN...), SourceIPHashMapper(NODES SEED, PATTERN ID...). */
#include "rewriter.h"

#define PATTERNS_MAX 1024u

struct mapper {
  struct element element;
  struct rewrite_pattern *patterns;
  uint32_t *ids;
  uint32_t count, next, seed;
  bool by_source;
};

static bool read_patterns(struct mapper *mapper, struct arguments *arguments) {
  uint32_t count = arguments_rest_count(arguments);
  struct slice text, word;
  if (count == 0 || count > PATTERNS_MAX) return arguments_error(arguments, "1 to %u patterns", PATTERNS_MAX);
  mapper->patterns = element_alloc(&mapper->element, count * sizeof *mapper->patterns);
  mapper->ids = element_alloc(&mapper->element, count * sizeof *mapper->ids);
  if (mapper->patterns == NULL || mapper->ids == NULL) return arguments_error(arguments, "no memory");
  while (mapper->count < count && arguments_rest(arguments, &text)) {
    uint64_t id = mapper->count;
    if (!rewrite_pattern_read(&text, &mapper->patterns[mapper->count], arguments)) return false;
    if (mapper->by_source && (!parse_word(&text, &word) || !parse_u64(word, UINT32_MAX, &id))) return arguments_error(arguments, "a pattern's number is missing");
    if (parse_word(&text, &word)) return arguments_error_at(arguments, word.at, "more than a pattern");
    mapper->ids[mapper->count++] = (uint32_t)id;
  }
  return arguments_end(arguments);
}

static bool round_configure(struct element *element, struct arguments *arguments) { return read_patterns((struct mapper *)element, arguments); }

static bool hash_configure(struct element *element, struct arguments *arguments) {
  struct mapper *mapper = (struct mapper *)element;
  struct slice text, word;
  uint64_t nodes, seed = 0;
  mapper->by_source = true;
  if (!arguments_rest(arguments, &text) || !parse_word(&text, &word) || !parse_u64(word, UINT32_MAX, &nodes)) return arguments_error(arguments, "the number of nodes is missing");
  if (parse_word(&text, &word) && !parse_u64(word, UINT32_MAX, &seed)) return arguments_error_at(arguments, word.at, "a seed, a number");
  mapper->seed = (uint32_t)seed;
  return read_patterns(mapper, arguments);
}

static uint64_t weight(const struct mapper *mapper, uint32_t id, uint32_t source) {
  uint64_t word = ((uint64_t)source << 32 | id) ^ ((uint64_t)mapper->seed << 16);
  word = (word ^ word >> 33) * 0xff51afd7ed558ccdull;
  word = (word ^ word >> 33) * 0xc4ceb9fe1a85ec53ull;
  return word ^ word >> 33;
}

const struct rewrite_pattern *mapper_choose(struct element *element, const struct flow_tuple *from) {
  struct mapper *mapper = (struct mapper *)element;
  if (!mapper->by_source) {
    const struct rewrite_pattern *pattern = &mapper->patterns[mapper->next];
    mapper->next = mapper->next + 1 == mapper->count ? 0 : mapper->next + 1;
    return pattern;
  }
  /* The highest of all weighs: a source stays where it is when another pattern goes. */
  uint32_t best = 0;
  uint64_t most = 0;
  for (uint32_t i = 0; i < mapper->count; i++) {
    uint64_t now = weight(mapper, mapper->ids[i], from->source);
    if (now >= most) best = i, most = now;
  }
  return &mapper->patterns[best];
}

uint16_t mapper_output_most(const struct element *element) {
  const struct mapper *mapper = (const struct mapper *)element;
  uint16_t most = 0;
  for (uint32_t i = 0; i < mapper->count; i++) {
    const struct rewrite_pattern *pattern = &mapper->patterns[i];
    if (pattern->forward_output > most) most = pattern->forward_output;
    if (pattern->reply_output > most) most = pattern->reply_output;
  }
  return most;
}

const struct element_class class_round_robin_ip_mapper, class_source_ip_hash_mapper;
bool is_mapper(const struct element *element) { return element->class == &class_round_robin_ip_mapper || element->class == &class_source_ip_hash_mapper; }

const struct element_class class_round_robin_ip_mapper = {.name = "RoundRobinIPMapper", .size_bytes = sizeof(struct mapper), .ports = "0/0", .processing = "a/a", .configure = round_configure};
const struct element_class class_source_ip_hash_mapper = {.name = "SourceIPHashMapper", .size_bytes = sizeof(struct mapper), .ports = "0/0", .processing = "a/a", .configure = hash_configure};
