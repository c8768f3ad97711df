/* Numbers, times, rates and addresses as Click writes them. Pure; the whole text has to be one. */
#include "arguments.h"

static int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = slice_lower(c);
  return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

bool parse_u64(struct slice text, uint64_t most, uint64_t *value) {
  uint64_t number = 0, base = 10;
  if (text.length > 2 && text.at[0] == '0' && slice_lower(text.at[1]) == 'x') base = 16, text = slice_from(text, 2);
  else if (text.length > 1 && text.at[0] == '0') base = 8, text = slice_from(text, 1);
  if (text.length == 0) return false;
  for (size_t i = 0; i < text.length; i++) {
    uint64_t digit = (uint64_t)digit_of(text.at[i]);
    if (digit >= base || __builtin_mul_overflow(number, base, &number) || __builtin_add_overflow(number, digit, &number)) return false;
  }
  if (number > most) return false;
  *value = number;
  return true;
}

bool parse_fixed(struct slice text, unsigned digits, uint64_t most, uint64_t *value) {
  uint64_t number = 0;
  bool point = false, any = false;
  unsigned behind = 0;
  for (size_t i = 0; i < text.length; i++) {
    char c = text.at[i];
    if (c == '.' && !point) {
      point = true;
    } else if (slice_is_digit(c)) {
      any = true;
      if (point && behind == digits) continue; /* finer than can be told */
      if (point) behind++;
      if (__builtin_mul_overflow(number, 10ull, &number) || __builtin_add_overflow(number, (uint64_t)(c - '0'), &number)) return false;
    } else {
      return false;
    }
  }
  for (; behind < digits; behind++) {
    if (__builtin_mul_overflow(number, 10ull, &number)) return false;
  }
  if (!any || number > most) return false;
  *value = number;
  return true;
}

bool parse_bool(struct slice text, bool *value) {
  if (slice_same(text, SLICE("true")) || slice_same(text, SLICE("yes")) || slice_equal(text, SLICE("1")) || slice_same(text, SLICE("t")) ||
      slice_same(text, SLICE("y"))) {
    *value = true;
  } else if (slice_same(text, SLICE("false")) || slice_same(text, SLICE("no")) || slice_equal(text, SLICE("0")) || slice_same(text, SLICE("f")) ||
             slice_same(text, SLICE("n"))) {
    *value = false;
  } else {
    return false;
  }
  return true;
}

/* Splits "12.5ms" into number and unit (blanks between them allowed). */
static struct slice take_unit(struct slice *text) {
  size_t end = 0;
  while (end < text->length && (slice_is_digit(text->at[end]) || text->at[end] == '.')) end++;
  struct slice unit = slice_trim(slice_from(*text, end));
  text->length = end;
  return unit;
}

bool parse_ns(struct slice text, uint64_t *value) {
  static const struct {
    struct slice name;
    uint64_t ns;
  } units[] = {{{"", 0}, 1000000000ull},    {{"s", 1}, 1000000000ull},   {{"sec", 3}, 1000000000ull},   {{"ms", 2}, 1000000ull}, {{"msec", 4}, 1000000ull}, {{"us", 2}, 1000ull},
               {{"usec", 4}, 1000ull}, {{"ns", 2}, 1ull}, {{"nsec", 4}, 1ull}, {{"min", 3}, 60000000000ull}, {{"m", 1}, 60000000000ull},
               {{"h", 1}, 3600000000000ull}, {{"hr", 2}, 3600000000000ull}};
  struct slice unit = take_unit(&text);
  uint64_t billionths;
  if (!parse_fixed(text, 9, UINT64_MAX, &billionths)) return false;
  for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
    if (!slice_equal(unit, units[i].name)) continue;
    uint64_t ns = units[i].ns, fraction = billionths % 1000000000ull, whole;
    fraction = ns < 1000000000ull ? fraction * ns / 1000000000ull : fraction * (ns / 1000000000ull);
    if (__builtin_mul_overflow(billionths / 1000000000ull, ns, &whole)) return false;
    return !__builtin_add_overflow(whole, fraction, value);
  }
  return false;
}

bool parse_rate(struct slice text, uint64_t *value) {
  struct slice unit = take_unit(&text);
  uint64_t scale = 1, millionths, whole, fraction;
  if (!parse_fixed(text, 6, UINT64_MAX, &millionths)) return false;
  if (unit.length > 1) {
    char c = unit.at[0];
    scale = c == 'k' || c == 'K' ? 1000 : c == 'M' ? 1000000 : c == 'G' ? 1000000000 : 1;
    if (scale > 1) unit = slice_from(unit, 1);
  }
  bool bits = slice_equal(unit, SLICE("bps")) || slice_equal(unit, SLICE("b/s")) || slice_same(unit, SLICE("baud"));
  if (!bits && unit.length > 0 && !slice_equal(unit, SLICE("Bps")) && !slice_equal(unit, SLICE("B/s"))) return false;
  fraction = millionths % 1000000 * scale / 1000000;
  if (__builtin_mul_overflow(millionths / 1000000, scale, &whole) || __builtin_add_overflow(whole, fraction, &whole)) return false;
  *value = bits ? whole / 8 : whole;
  return true;
}

bool parse_ip4(struct slice text, uint32_t *address) {
  uint8_t bytes[4];
  for (unsigned i = 0; i < 4; i++) {
    size_t end = i < 3 ? slice_find(text, '.') : text.length;
    uint64_t byte;
    if ((i < 3 && end == text.length) || end > 3 || !slice_number((struct slice){text.at, end}, 255, &byte)) return false;
    bytes[i] = (uint8_t)byte;
    text = slice_from(text, end + 1);
  }
  memcpy(address, bytes, 4);
  return true;
}

bool parse_prefix4(struct slice text, uint32_t *address, uint32_t *mask) {
  size_t slash = slice_find(text, '/');
  uint32_t read, read_mask = 0xffffffff;
  uint64_t length;
  if (!parse_ip4((struct slice){text.at, slash}, &read)) return false;
  if (slash < text.length) {
    struct slice behind = slice_from(text, slash + 1);
    if (slice_number(behind, 32, &length)) read_mask = __builtin_bswap32(length == 0 ? 0 : 0xffffffffu << (32 - length));
    else if (!parse_ip4(behind, &read_mask)) return false;
  }
  *address = read;
  *mask = read_mask;
  return true;
}

bool parse_ip6(struct slice text, uint8_t address[16]) {
  uint8_t bytes[16];
  unsigned at = 0, gap = 17;
  size_t i = 0;
  if (text.length >= 2 && text.at[0] == ':' && text.at[1] == ':') gap = 0, i = 2;
  while (i < text.length) {
    unsigned value = 0, digits = 0;
    struct slice rest = slice_from(text, i);
    uint32_t tail;
    if (at <= 12 && (at > 0 || gap == 0) && slice_find(rest, ':') == rest.length && parse_ip4(rest, &tail)) {
      memcpy(bytes + at, &tail, 4);
      at += 4;
      i = text.length;
      break;
    }
    for (; i < text.length && digit_of(text.at[i]) < 16 && digits < 4; i++, digits++) value = value * 16 + (unsigned)digit_of(text.at[i]);
    if (digits == 0 || at > 14) return false;
    bytes[at++] = (uint8_t)(value >> 8);
    bytes[at++] = (uint8_t)value;
    if (i == text.length) break;
    if (text.at[i++] != ':' || i == text.length) return false;
    if (text.at[i] == ':') {
      if (gap <= 16) return false;
      gap = at;
      i++;
    }
  }
  if (gap > 16 ? at != 16 : at > 14) return false;
  if (gap <= 16) {
    memmove(bytes + 16 - (at - gap), bytes + gap, at - gap);
    memset(bytes + gap, 0, 16 - at);
  }
  memcpy(address, bytes, 16);
  return true;
}

bool parse_prefix6(struct slice text, uint8_t address[16], unsigned *length) {
  size_t slash = slice_find(text, '/');
  uint64_t bits = 128;
  if (slash < text.length && !slice_number(slice_from(text, slash + 1), 128, &bits)) return false;
  if (!parse_ip6((struct slice){text.at, slash}, address)) return false;
  *length = (unsigned)bits;
  return true;
}

bool parse_ether(struct slice text, uint8_t address[6]) {
  uint8_t bytes[6];
  for (unsigned i = 0; i < 6; i++) {
    unsigned value = 0, digits = 0;
    for (; digits < 2 && text.length > 0 && digit_of(text.at[0]) < 16; digits++, text = slice_from(text, 1)) value = value * 16 + (unsigned)digit_of(text.at[0]);
    if (digits == 0) return false;
    bytes[i] = (uint8_t)value;
    if (i == 5) break;
    if (text.length == 0 || (text.at[0] != ':' && text.at[0] != '-')) return false;
    text = slice_from(text, 1);
  }
  if (text.length > 0) return false;
  memcpy(address, bytes, 6);
  return true;
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }

bool parse_word(struct slice *text, struct slice *word) {
  while (text->length > 0 && is_blank(text->at[0])) *text = slice_from(*text, 1);
  if (text->length == 0) return false;
  size_t end = 0;
  char quote = '\0';
  for (; end < text->length && (quote != '\0' || !is_blank(text->at[end])); end++) {
    char c = text->at[end];
    if (quote == '\0' && (c == '"' || c == '\'')) quote = c;
    else if (quote == '"' && c == '\\' && end + 1 < text->length) end++;
    else if (c == quote) quote = '\0';
  }
  *word = (struct slice){text->at, end};
  *text = slice_from(*text, end);
  return true;
}
