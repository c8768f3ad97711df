/* Patterns of translators: read, and applied to a new flow. */
#include "rewriter.h"

/* A port is looked for this often; more would let one new flow of a full range hold up the others. */
#define PORT_TRIES 256u

static bool bad_word(struct arguments *arguments, struct slice word, const char *wanted) {
  return arguments_error_at(arguments, word.at, "'%.*s' where %s should be", (int)(word.length < 40 ? word.length : 40), word.at, wanted);
}

bool rewrite_output_read(struct slice *text, uint16_t *output, struct arguments *arguments) {
  struct slice word = *text;
  uint64_t number;
  if (!parse_word(text, &word)) return arguments_error_at(arguments, text->at, "an output is missing");
  if (!parse_u64(word, 65535, &number) || number >= arguments->element->output_count) {
    /* A mapper has no outputs of its own: the translator looks at what it has. */
    if (arguments->element->output_count > 0 || !parse_u64(word, 65535, &number)) return bad_word(arguments, word, "an output that is connected");
  }
  *output = (uint16_t)number;
  return true;
}

/* "-", "A", "A-B", "A/LENGTH". */
static bool read_addresses(struct slice word, struct rewrite_pattern *pattern) {
  uint32_t least, most, mask;
  size_t dash = slice_find(word, '-');
  if (slice_equal(word, SLICE("-"))) return true;
  pattern->has_source = true;
  if (dash < word.length) {
    if (!parse_ip4((struct slice){word.at, dash}, &least) || !parse_ip4(slice_from(word, dash + 1), &most)) return false;
    pattern->source_least = swap32(least);
    pattern->source_most = swap32(most);
    return pattern->source_least <= pattern->source_most;
  }
  if (!parse_prefix4(word, &least, &mask)) return false;
  pattern->source_least = swap32(least);
  pattern->source_most = swap32(least | ~mask);
  return true;
}

/* "-", "P", "P-Q"; how a port is chosen ("#", "?" behind a range) is left to us. */
static bool read_ports(struct slice word, struct rewrite_pattern *pattern) {
  uint64_t least, most;
  if (slice_equal(word, SLICE("-"))) return true;
  if (word.length > 0 && (word.at[word.length - 1] == '#' || word.at[word.length - 1] == '?')) word.length--;
  size_t dash = slice_find(word, '-');
  if (!parse_u64((struct slice){word.at, dash}, 65535, &least)) return false;
  most = least;
  if (dash < word.length && !parse_u64(slice_from(word, dash + 1), 65535, &most)) return false;
  pattern->has_port = true;
  pattern->port_least = (uint16_t)least;
  pattern->port_most = (uint16_t)most;
  return least <= most && least > 0;
}

bool rewrite_pattern_read(struct slice *text, struct rewrite_pattern *pattern, struct arguments *arguments) {
  struct slice word = *text;
  uint32_t address;
  uint64_t port;
  memset(pattern, 0, sizeof *pattern);
  if (!parse_word(text, &word) || !read_addresses(word, pattern)) return bad_word(arguments, word, "a source address (or -, FIRST-LAST, ADDRESS/LENGTH)");
  if (!parse_word(text, &word) || !read_ports(word, pattern)) return bad_word(arguments, word, "a source port (or -, FIRST-LAST)");
  if (!parse_word(text, &word) || !(slice_equal(word, SLICE("-")) || parse_ip4(word, &address))) return bad_word(arguments, word, "a destination address (or -)");
  pattern->has_destination = !slice_equal(word, SLICE("-"));
  if (pattern->has_destination) pattern->destination = swap32(address);
  if (!parse_word(text, &word) || !(slice_equal(word, SLICE("-")) || parse_u64(word, 65535, &port))) return bad_word(arguments, word, "a destination port (or -)");
  pattern->has_destination_port = !slice_equal(word, SLICE("-"));
  if (pattern->has_destination_port) pattern->destination_port = (uint16_t)port;
  return rewrite_output_read(text, &pattern->forward_output, arguments) && rewrite_output_read(text, &pattern->reply_output, arguments);
}

static bool is_free(struct flow_table *table, uint8_t protocol, const struct flow_tuple *to, uint64_t now_ns) {
  struct flow_tuple reply = flow_reverse(*to);
  enum flow_direction direction;
  return flow_find(table, protocol, &reply, now_ns, &direction) == FLOW_NONE;
}

bool rewrite_pattern_apply(const struct rewrite_pattern *pattern, struct flow_table *table, uint8_t protocol, const struct flow_tuple *from, uint64_t now_ns, struct flow_tuple *to) {
  *to = *from;
  if (pattern->has_source) {
    /* A source keeps one of the addresses for all its flows (RFC 6888, REQ-2). */
    uint64_t addresses = (uint64_t)pattern->source_most - pattern->source_least + 1;
    uint64_t place = addresses == 1 ? 0 : ((from->source ^ (uint32_t)table->key[1]) * 0x9e3779b97f4a7c15ull >> 20) % addresses;
    to->source = swap32(pattern->source_least + (uint32_t)place);
  }
  if (pattern->has_destination) to->destination = swap32(pattern->destination);
  if (pattern->has_destination_port) to->destination_port = __builtin_bswap16(pattern->destination_port);
  if (!pattern->has_port) return is_free(table, protocol, to, now_ns);
  uint32_t count = (uint32_t)pattern->port_most - pattern->port_least + 1, wanted = __builtin_bswap16(from->source_port), step;
  if (wanted >= pattern->port_least && wanted <= pattern->port_most && is_free(table, protocol, to, now_ns)) return true;
  shoal_random(&step, sizeof step);
  uint32_t place = step % count, tries = count < PORT_TRIES ? count : PORT_TRIES;
  for (uint32_t i = 0; i < tries; i++, place = place + 1 == count ? 0 : place + 1) {
    to->source_port = __builtin_bswap16((uint16_t)(pattern->port_least + place));
    if (is_free(table, protocol, to, now_ns)) return true;
  }
  return false;
}
