/*
 * Primitives of patterns: `src host 1.2.3.4`, `tcp dst port 80-90`, `icmp type echo`, `ip ttl < 2`, `ip[9:1] & 0xf == 6`. One that begins with its value
 * takes its qualifiers from the one before (`src port 80 or 443`).
 */
#include "filter_reader.h"
#include "ip.h"

typedef struct filter_expression expression;

static bool is_boundary(const struct pattern_reader *reader) {
  return reader->token.length == 0 || pattern_is(reader, ")") || pattern_is(reader, "and") || pattern_is(reader, "or") || pattern_is(reader, "&&") || pattern_is(reader, "||");
}

/* ---- tests ---- */

static expression test(struct pattern_reader *reader, struct filter_field field, enum filter_operation operation, uint32_t value) {
  expression result;
  filter_test_add(reader->filter, (struct filter_test){.base = field.base, .offset = field.offset, .bytes = field.bytes, .mask = field.mask, .operation = operation, .value = value << field.shift}, &result);
  return result;
}

/* The field is there. */
static expression test_present(struct pattern_reader *reader, struct filter_field field) {
  field.mask = 0;
  return test(reader, field, FILTER_EQUAL, 0);
}

static expression test_constant(struct pattern_reader *reader, bool value) { return test(reader, (struct filter_field){0}, FILTER_EQUAL, value ? 0 : 1); }

static expression test_protocol(struct pattern_reader *reader, uint8_t protocol) {
  return test(reader, (struct filter_field){.base = FILTER_IP, .bytes = 1, .offset = FILTER_PROTOCOL, .mask = 0xff}, FILTER_EQUAL, protocol);
}

/* least <= field <= most; of a field that is not there never. */
static expression test_range(struct pattern_reader *reader, struct filter_field field, uint32_t least, uint32_t most) {
  struct filter *filter = reader->filter;
  if (least > most) return test_constant(reader, false);
  if (least == most) return test(reader, field, FILTER_EQUAL, least);
  expression low = least > 0 ? test(reader, field, FILTER_ABOVE, least - 1) : test_present(reader, field);
  return most == field.mask >> field.shift ? low : filter_and(filter, low, filter_not(test(reader, field, FILTER_ABOVE, most)));
}

/* What stands before a value; "=" when nothing does. */
enum relation { EQUAL, UNEQUAL, LESS, MORE, AT_MOST, AT_LEAST };

static enum relation read_relation(struct pattern_reader *reader) {
  static const char *const signs[] = {"==", "!=", "<", ">", "<=", ">="};
  if (pattern_skip(reader, "=")) return EQUAL;
  for (unsigned i = 0; i < 6; i++) {
    if (pattern_skip(reader, signs[i])) return (enum relation)i;
  }
  return EQUAL;
}

static expression test_relation(struct pattern_reader *reader, struct filter_field field, enum relation relation, uint32_t least, uint32_t most) {
  uint32_t all = field.mask >> field.shift;
  switch (relation) {
    case UNEQUAL: {
      expression present = test_present(reader, field);
      return filter_and(reader->filter, present, filter_not(test_range(reader, field, least, most)));
    }
    case LESS: return least == 0 ? test_constant(reader, false) : test_range(reader, field, 0, least - 1);
    case AT_MOST: return test_range(reader, field, 0, most);
    case MORE: return most >= all ? test_constant(reader, false) : test_range(reader, field, most + 1, all);
    case AT_LEAST: return test_range(reader, field, least, all);
    default: return test_range(reader, field, least, most);
  }
}

/* ---- values ---- */

static bool read_word_range(struct pattern_reader *reader, bool (*one)(const struct pattern_reader *, struct slice, uint32_t *), const char *what, uint32_t *least, uint32_t *most) {
  struct slice word = reader->token;
  if (one(reader, word, least)) {
    *most = *least;
  } else {
    /* "a-b", though names may have dashes. */
    size_t dash = slice_find(word, '-');
    if (dash == word.length || !one(reader, (struct slice){word.at, dash}, least) || !one(reader, slice_from(word, dash + 1), most) || *least > *most) return pattern_fail(reader, what);
  }
  pattern_next(reader);
  return true;
}

static bool one_number(const struct pattern_reader *reader, struct slice word, uint32_t *value) {
  uint64_t number;
  (void)reader;
  if (!parse_u64(word, UINT32_MAX, &number)) return false;
  *value = (uint32_t)number;
  return true;
}
static bool one_port(const struct pattern_reader *reader, struct slice word, uint32_t *value) { return (void)reader, filter_word_port(word, value); }
static bool one_icmp(const struct pattern_reader *reader, struct slice word, uint32_t *value) { return filter_word_icmp(word, reader->filter->family, value); }

/* An address and mask, as 32-bit words. */
struct net {
  uint32_t value[4], mask[4];
};

static bool parse_net(unsigned family, struct slice word, struct net *net, bool *is_host) {
  memset(net, 0, sizeof *net);
  *is_host = slice_find(word, '/') == word.length;
  if (family == 4) {
    uint32_t address, mask;
    if (!parse_prefix4(word, &address, &mask)) return false;
    net->value[0] = swap32(address & mask);
    net->mask[0] = swap32(mask);
    return true;
  }
  uint8_t address[16];
  unsigned length;
  if (!parse_prefix6(word, address, &length)) return false;
  for (unsigned i = 0; i < 4; i++) {
    unsigned bits = length >= 32 * i + 32 ? 32 : length <= 32 * i ? 0 : length - 32 * i;
    net->mask[i] = bits == 0 ? 0 : UINT32_MAX << (32 - bits);
    net->value[i] = get32(address + 4 * i) & net->mask[i];
  }
  return true;
}

/* ---- primitives ---- */

static expression test_address(struct pattern_reader *reader, const struct net *net, bool is_source) {
  bool is_6 = reader->filter->family == 6;
  unsigned words = is_6 ? 4 : 1, first = is_6 ? (is_source ? 8 : 24) : (is_source ? 12 : 16);
  expression all = {.start = FILTER_NONE};
  for (unsigned i = 0; i < words; i++) {
    if (i > 0 && net->mask[i] == 0) break;
    expression one = test(reader, (struct filter_field){.base = FILTER_IP, .bytes = 4, .offset = (uint16_t)(first + 4 * i), .mask = net->mask[i]}, FILTER_EQUAL, net->value[i]);
    all = i == 0 ? one : filter_and(reader->filter, all, one);
  }
  return all;
}

static expression test_port(struct pattern_reader *reader, bool is_source, enum relation relation, uint32_t least, uint32_t most) {
  return test_relation(reader, (struct filter_field){.base = FILTER_TRANSPORT, .bytes = 2, .offset = is_source ? 0 : 2, .mask = 0xffff}, relation, least, most);
}

/* An address or port, at the ends that are meant. */
struct ends {
  const struct net *net; /* NULL: a port */
  enum relation relation;
  uint32_t least, most;
};

static expression test_end(struct pattern_reader *reader, const struct ends *ends, bool is_source) {
  return ends->net != NULL ? test_address(reader, ends->net, is_source) : test_port(reader, is_source, ends->relation, ends->least, ends->most);
}

static expression test_ends(struct pattern_reader *reader, const struct ends *ends, enum direction direction) {
  if (direction == DIRECTION_SOURCE || direction == DIRECTION_DESTINATION) return test_end(reader, ends, direction == DIRECTION_SOURCE);
  expression source = test_end(reader, ends, true), destination = test_end(reader, ends, false);
  return direction == DIRECTION_BOTH ? filter_and(reader->filter, source, destination) : filter_or(reader->filter, source, destination);
}

static bool read_net(struct pattern_reader *reader, const struct qualifiers *of, expression *result) {
  enum relation relation = read_relation(reader);
  struct net net;
  bool is_host;
  struct slice word = reader->token;
  if (relation > UNEQUAL || !parse_net(reader->filter->family, word, &net, &is_host) || (of->type == TYPE_HOST && !is_host)) return pattern_fail(reader, "an address");
  pattern_next(reader);
  if (reader->filter->family == 4 && is_host && of->type == TYPE_NET && pattern_skip(reader, "mask")) {
    uint32_t mask;
    if (!parse_ip4(reader->token, &mask)) return pattern_fail(reader, "a mask");
    net.mask[0] = swap32(mask);
    net.value[0] &= net.mask[0];
    pattern_next(reader);
  }
  struct ends ends = {.net = &net};
  *result = test_ends(reader, &ends, of->direction);
  if (relation == UNEQUAL) *result = filter_not(*result);
  return true;
}

static bool read_port(struct pattern_reader *reader, const struct qualifiers *of, expression *result) {
  struct ends ends = {.relation = read_relation(reader)};
  if (!read_word_range(reader, one_port, "a port", &ends.least, &ends.most)) return false;
  if (of->has_protocol) {
    *result = test_ends(reader, &ends, of->direction);
    return true;
  }
  expression tcp = test_protocol(reader, PROTOCOL_TCP), udp = test_protocol(reader, PROTOCOL_UDP), either = filter_or(reader->filter, tcp, udp);
  *result = filter_and(reader->filter, either, test_ends(reader, &ends, of->direction));
  return true;
}

static bool read_field(struct pattern_reader *reader, struct filter_field field, expression *result) {
  enum relation relation = read_relation(reader);
  uint32_t least, most, all = field.mask >> field.shift;
  bool is_icmp_type = field.base == FILTER_TRANSPORT && field.bytes == 1 && field.offset == 0;
  const char *at = reader->token.at;
  if (!read_word_range(reader, is_icmp_type ? one_icmp : one_number, "a number", &least, &most)) return false;
  if (most > all) return arguments_error_at(reader->arguments, at, "at most %u", all);
  *result = test_relation(reader, field, relation, least, most);
  return true;
}

static bool read_option(struct pattern_reader *reader, expression *result) {
  uint32_t flag;
  enum relation relation = read_relation(reader);
  if (relation > UNEQUAL || !filter_word_option(reader->token, &flag)) return pattern_fail(reader, "a TCP flag");
  pattern_next(reader);
  *result = test(reader, (struct filter_field){.base = FILTER_TRANSPORT, .bytes = 1, .offset = 13, .mask = flag}, FILTER_EQUAL, flag);
  if (relation == UNEQUAL) *result = filter_not(*result);
  return true;
}

static bool read_protocol(struct pattern_reader *reader, expression *result) {
  uint8_t protocol;
  enum relation relation = read_relation(reader);
  if (relation > UNEQUAL || !filter_word_protocol(reader->token, reader->filter->family, &protocol)) return pattern_fail(reader, "a protocol");
  pattern_next(reader);
  *result = test_protocol(reader, protocol);
  if (relation == UNEQUAL) *result = filter_not(*result);
  return true;
}

/* "ip[AT:BYTES] [& MASK] RELATION VALUE", of ip, transp or a protocol's name. */
static bool read_bytes(struct pattern_reader *reader, expression *result) {
  struct slice token = reader->token;
  size_t open = slice_find(token, '['), close = token.length - 1;
  struct slice name = {token.at, open}, inside = {token.at + open + 1, close > open ? close - open - 1 : 0};
  size_t colon = slice_find(inside, ':');
  uint64_t at, bytes = 1;
  uint8_t protocol = 0;
  bool is_ip = slice_equal(name, SLICE("ip")) || slice_equal(name, SLICE("ip6"));
  if (!is_ip && !slice_equal(name, SLICE("transp")) && !filter_name_protocol(name, reader->filter->family, &protocol)) return pattern_fail(reader, "'ip[' or 'transp['");
  if (token.at[close] != ']' || !parse_u64((struct slice){inside.at, colon}, 255, &at) || (colon < inside.length && !parse_u64(slice_from(inside, colon + 1), 4, &bytes)) || bytes == 0 || bytes == 3) {
    return pattern_fail(reader, "[AT:BYTES], 1, 2 or 4 of them,");
  }
  pattern_next(reader);
  struct filter_field field = {.base = is_ip ? FILTER_IP : FILTER_TRANSPORT, .bytes = (uint8_t)bytes, .offset = (uint16_t)at, .mask = bytes == 4 ? UINT32_MAX : (1u << 8 * bytes) - 1};
  if (pattern_skip(reader, "&")) {
    uint32_t mask;
    if (!one_number(reader, reader->token, &mask) || mask > field.mask) return pattern_fail(reader, "a mask of as many bytes");
    field.mask = mask;
    pattern_next(reader);
  }
  /* The mask is no field of its own: what is above it cannot be. */
  enum relation relation = read_relation(reader);
  uint32_t least, most;
  if (!read_word_range(reader, one_number, "a number", &least, &most)) return false;
  if (protocol == 0) {
    *result = test_relation(reader, field, relation, least, most);
    return true;
  }
  /* In the order in which they are made: tests lead forward. */
  expression first = test_protocol(reader, protocol);
  *result = filter_and(reader->filter, first, test_relation(reader, field, relation, least, most));
  return true;
}

static void read_direction(struct pattern_reader *reader, struct qualifiers *of, bool is_source) {
  struct pattern_reader before = *reader;
  of->direction = is_source ? DIRECTION_SOURCE : DIRECTION_DESTINATION;
  bool both = pattern_is(reader, "and") || pattern_is(reader, "&&"), either = pattern_is(reader, "or") || pattern_is(reader, "||");
  if (!both && !either) return;
  pattern_next(reader);
  if (pattern_skip(reader, is_source ? "dst" : "src")) of->direction = both ? DIRECTION_BOTH : DIRECTION_EITHER;
  else reader->rest = before.rest, reader->token = before.token;
}

/* True when there was at least one. */
static bool read_qualifiers(struct pattern_reader *reader, struct qualifiers *of) {
  unsigned family = reader->filter->family;
  bool any = false;
  for (;; any = true) {
    if (pattern_skip(reader, "src")) {
      read_direction(reader, of, true);
    } else if (pattern_skip(reader, "dst")) {
      read_direction(reader, of, false);
    } else if (of->type == TYPE_NONE && filter_word_type(reader->token, family, &of->type, &of->field)) {
      pattern_next(reader);
    } else if (of->type == TYPE_NONE && !of->has_protocol && filter_name_protocol(reader->token, family, &of->protocol)) {
      of->has_protocol = true;
      pattern_next(reader);
    } else if (!any && (pattern_is(reader, "ip") || pattern_is(reader, "ip6"))) {
      pattern_next(reader);
    } else {
      return any;
    }
  }
}

static bool read_typed(struct pattern_reader *reader, const struct qualifiers *of, expression *result) {
  switch (of->type) {
    case TYPE_HOST:
    case TYPE_NET: return read_net(reader, of, result);
    case TYPE_PORT: return read_port(reader, of, result);
    case TYPE_PROTO: return read_protocol(reader, result);
    case TYPE_OPTION: return read_option(reader, result);
    case TYPE_FIELD: return read_field(reader, of->field, result);
    case TYPE_FRAGMENT:
    case TYPE_UNFRAGMENTED:
      *result = test(reader, (struct filter_field){.base = FILTER_IP, .bytes = 2, .offset = 6, .mask = IP_FLAG_MF | IP_OFFSET_MASK}, FILTER_ABOVE, 0);
      if (of->type == TYPE_UNFRAGMENTED) *result = filter_not(*result);
      return true;
    case TYPE_ECT: *result = test(reader, (struct filter_field){.base = FILTER_IP, .bytes = 1, .offset = 1, .mask = 3}, FILTER_ABOVE, 0); return true;
    case TYPE_CE: *result = test(reader, (struct filter_field){.base = FILTER_IP, .bytes = 1, .offset = 1, .mask = 3}, FILTER_EQUAL, 3); return true;
    default: return pattern_fail(reader, "a primitive");
  }
}

bool pattern_primitive(struct pattern_reader *reader, expression *result) {
  struct qualifiers of = {0};
  struct net net;
  bool is_host;
  if (pattern_skip(reader, "-") || pattern_skip(reader, "any") || pattern_skip(reader, "all") || pattern_skip(reader, "true")) return *result = test_constant(reader, true), true;
  if (pattern_skip(reader, "none") || pattern_skip(reader, "false")) return *result = test_constant(reader, false), true;
  if (slice_find(reader->token, '[') < reader->token.length) return read_bytes(reader, result);
  const char *at = reader->token.at;
  if (is_boundary(reader)) return pattern_fail(reader, "a primitive");
  if (!read_qualifiers(reader, &of)) of = reader->last;
  bool has_value = !is_boundary(reader);
  if (of.type == TYPE_NONE && has_value && parse_net(reader->filter->family, reader->token, &net, &is_host)) of.type = is_host ? TYPE_HOST : TYPE_NET;
  if (of.type == TYPE_NONE && reader->last.type != TYPE_NONE && of.direction != DIRECTION_NONE && has_value) of.type = reader->last.type, of.field = reader->last.field;
  if (of.type == TYPE_HOST && has_value && slice_find(reader->token, '/') < reader->token.length) of.type = TYPE_NET;
  uint8_t needs = of.type == TYPE_OPTION ? PROTOCOL_TCP : of.type == TYPE_FIELD ? of.field.protocol : 0;
  if (of.type == TYPE_NONE && of.direction == DIRECTION_NONE) {
    *result = of.has_protocol ? test_protocol(reader, of.protocol) : test_constant(reader, true);
    if (!of.has_protocol && reader->token.at == at) return pattern_fail(reader, "a primitive");
    return true;
  }
  if (needs != 0 && of.has_protocol && of.protocol != needs) return arguments_error_at(reader->arguments, at, "that is no field of this protocol");
  if (of.type == TYPE_PORT && of.has_protocol && of.protocol != PROTOCOL_TCP && of.protocol != PROTOCOL_UDP && of.protocol != 33 && of.protocol != 132 && of.protocol != 136) {
    return arguments_error_at(reader->arguments, at, "that protocol has no ports");
  }
  reader->last = of;
  if (needs == 0 && of.has_protocol) needs = of.protocol;
  if (needs == 0) return read_typed(reader, &of, result);
  expression protocol = test_protocol(reader, needs), typed;
  if (!read_typed(reader, &of, &typed)) return false;
  *result = filter_and(reader->filter, protocol, typed);
  return true;
}

