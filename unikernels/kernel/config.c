/*
 * Reads the command line at boot, and once more when the guest goes on as a clone. It comes from the toolstack but carries words of
 * users, so it is parsed strictly: bounded, no quoting, the first word of a name wins (the toolstack's own words stand in front and
 * cannot be overridden from behind).
 */
#include "config.h"

static char line[CONFIG_LINE_BYTES];
static const char *words[CONFIG_WORDS];
static size_t word_count, line_length;

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

void config_init(const char *text, size_t size) {
  size_t length = 0;
  word_count = 0;
  while (length < size && length < sizeof line - 1 && text[length] != '\0') {
    line[length] = text[length];
    length++;
  }
  line[length] = '\0';
  line_length = length;
  for (size_t i = 0; i < length && word_count < CONFIG_WORDS;) {
    while (is_blank(line[i])) i++;
    if (line[i] == '\0') break;
    words[word_count++] = &line[i];
    while (line[i] != '\0' && !is_blank(line[i])) i++;
    if (i < length) line[i++] = '\0';
  }
}

bool config_is(const char *text, size_t size) {
  for (size_t i = 0; i < line_length; i++) {
    /* The end of a word in our copy was some blank. */
    if (i >= size || (line[i] == '\0' ? !is_blank(text[i]) : line[i] != text[i])) return false;
  }
  return line_length == sizeof line - 1 || line_length >= size || text[line_length] == '\0';
}

const char *shoal_config(const char *key) {
  size_t length = strlen(key);
  for (size_t i = 0; i < word_count; i++) {
    if (strncmp(words[i], key, length) != 0) continue;
    if (words[i][length] == '=') return words[i] + length + 1;
    if (words[i][length] == '\0') return words[i] + length;
  }
  return NULL;
}

/* A decimal number up to `most` without leading zeros; returns what follows it, or NULL. */
static const char *parse_number(const char *text, uint32_t most, uint32_t *value) {
  uint32_t number = 0;
  const char *start = text;
  for (; *text >= '0' && *text <= '9'; text++) {
    number = number * 10 + (uint32_t)(*text - '0');
    if (number > most) return NULL;
  }
  if (text == start || (*start == '0' && text != start + 1)) return NULL;
  *value = number;
  return text;
}

static const char *parse_dotted(const char *text, uint32_t *address) {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++) {
    uint32_t byte;
    if (i > 0 && *text++ != '.') return NULL;
    text = parse_number(text, 255, &byte);
    if (text == NULL) return NULL;
    value = value << 8 | byte;
  }
  *address = value;
  return text;
}

bool config_parse_ipv4(const char *text, uint32_t *address) {
  uint32_t value;
  const char *end = parse_dotted(text, &value);
  if (end == NULL || *end != '\0') return false;
  *address = value;
  return true;
}

bool config_parse_host(const char *text, uint32_t *address, uint32_t *mask) {
  uint32_t value, length;
  const char *end = parse_dotted(text, &value);
  if (end == NULL || *end != '/') return false;
  end = parse_number(end + 1, 32, &length);
  if (end == NULL || *end != '\0' || length == 0) return false;
  uint32_t bits = 0xffffffffu << (32 - length);
  uint32_t first = value >> 24;
  if (first == 0 || first == 127 || first >= 224) return false;
  /* Network and broadcast address are no host's, but in networks of one or two addresses (RFC 3021). */
  if (length < 31 && ((value & ~bits) == 0 || (value & ~bits) == ~bits)) return false;
  *address = value;
  *mask = bits;
  return true;
}

bool config_parse_mac(const char *text, uint8_t mac[6]) {
  uint8_t parsed[6];
  for (int i = 0; i < 6; i++) {
    unsigned value = 0;
    for (int digit = 0; digit < 2; digit++, text++) {
      char c = *text;
      if (c >= '0' && c <= '9') value = value * 16 + (unsigned)(c - '0');
      else if (c >= 'a' && c <= 'f') value = value * 16 + (unsigned)(c - 'a') + 10;
      else if (c >= 'A' && c <= 'F') value = value * 16 + (unsigned)(c - 'A') + 10;
      else return false;
    }
    parsed[i] = (uint8_t)value;
    if (*text++ != (i < 5 ? ':' : '\0')) return false;
  }
  if (parsed[0] & 1) return false; /* a group address is no device's */
  memcpy(mac, parsed, sizeof parsed);
  return true;
}

static bool (*listener)(const uint32_t *addresses, size_t count);

void config_listen(bool (*change)(const uint32_t *addresses, size_t count)) { listener = change; }

bool config_readdress(const uint32_t *addresses, size_t count) { return listener != NULL && listener(addresses, count); }
