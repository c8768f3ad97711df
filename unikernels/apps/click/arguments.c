/* See arguments.h. */
#include "arguments_split.h"
#include "element.h"

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }

static struct slice trim(struct slice text) {
  while (text.length > 0 && is_blank(text.at[0])) text.at++, text.length--;
  while (text.length > 0 && is_blank(text.at[text.length - 1])) text.length--;
  return text;
}

size_t arguments_find_comma(struct slice text) {
  char quote = '\0';
  for (size_t i = 0; i < text.length; i++) {
    char c = text.at[i];
    if (quote == '\0' && c == ',') return i;
    if (quote != '\'' && c == '\\') i++;
    else if (quote == '\0' && (c == '"' || c == '\'')) quote = c;
    else if (c == quote) quote = '\0';
  }
  return text.length;
}

struct place place_in(struct place place, const char *from, const char *to) {
  for (; from < to; from++) {
    if (*from == '\n') place.line++, place.column = 1;
    else place.column++;
  }
  return place;
}

int arguments_split(struct slice text, struct place place, struct argument *all, uint32_t most) {
  uint32_t count = 0;
  const char *start = text.at;
  for (bool more = true; more;) {
    size_t comma = arguments_find_comma(text);
    more = comma < text.length;
    struct slice one = trim((struct slice){text.at, comma});
    /* An empty list has no argument, an empty last one does not count. */
    if (more || one.length > 0) {
      if (count == most) return -1;
      if (all != NULL) {
        place = place_in(place, start, one.at);
        start = one.at;
        all[count] = (struct argument){.text = one, .place = place};
      }
      count++;
    }
    text = slice_from(text, comma + 1);
  }
  return (int)count;
}

/* ---- which argument ---- */

static struct slice first_word(struct slice text) {
  size_t end = 0;
  while (end < text.length && !is_blank(text.at[end])) end++;
  return (struct slice){text.at, end};
}

/* "KEYWORD value", in capitals: never one that is meant by its position, whoever asks for it, and when. */
static bool is_keyword(struct slice text) {
  struct slice word = first_word(text);
  if (word.length == 0 || word.length == text.length || word.at[0] < 'A' || word.at[0] > 'Z') return false;
  for (size_t i = 0; i < word.length; i++) {
    char c = word.at[i];
    if (!(c >= 'A' && c <= 'Z') && !slice_is_digit(c) && c != '_') return false;
  }
  return true;
}

/* The argument of that name; false when it was not given (and told, when it has to be). */
static bool find(struct arguments *arguments, const char *name, unsigned flags, struct slice *value) {
  struct slice wanted = {name, strlen(name)};
  if (arguments->failed && arguments->count == 0) return false;
  for (uint32_t i = 0; i < arguments->count; i++) {
    struct argument *argument = &arguments->all[i];
    struct slice word = first_word(argument->text);
    if (argument->used || wanted.length == 0 || !slice_equal(word, wanted)) continue;
    argument->used = true;
    arguments->current = i;
    *value = trim(slice_from(argument->text, word.length));
    return true;
  }
  if (flags & ARGUMENT_POSITION) {
    while (arguments->next < arguments->count && (arguments->all[arguments->next].used || is_keyword(arguments->all[arguments->next].text))) arguments->next++;
    if (arguments->next < arguments->count && (arguments->all[arguments->next].text.length > 0 || (flags & ARGUMENT_REQUIRED))) {
      arguments->current = arguments->next;
      arguments->all[arguments->next].used = true;
      *value = arguments->all[arguments->next++].text;
      return true;
    }
    /* Empty: left to its default. */
    if (arguments->next < arguments->count) arguments->all[arguments->next++].used = true;
  }
  if (flags & ARGUMENT_REQUIRED) {
    arguments->failed = true;
    errors_add(arguments->errors, arguments->element->place, "%s: missing argument %s", arguments->element->name, name);
  }
  return false;
}

static bool report(struct arguments *arguments, const char *at, const char *format, va_list list) {
  const struct argument *argument = arguments->current < arguments->count ? &arguments->all[arguments->current] : NULL;
  struct place place = argument == NULL ? arguments->element->place : argument->place;
  char text[ERROR_BYTES];
  if (argument != NULL && at >= argument->text.at && at <= argument->text.at + argument->text.length) place = place_in(place, argument->text.at, at);
  shoal_vformat(text, sizeof text, format, list);
  errors_add(arguments->errors, place, "%s: %s", arguments->element->name, text);
  arguments->failed = true;
  return false;
}

bool arguments_error(struct arguments *arguments, const char *format, ...) {
  va_list list;
  va_start(list, format);
  report(arguments, NULL, format, list);
  va_end(list);
  return false;
}

bool arguments_error_at(struct arguments *arguments, const char *at, const char *format, ...) {
  va_list list;
  va_start(list, format);
  report(arguments, at, format, list);
  va_end(list);
  return false;
}

static bool no(struct arguments *arguments, const char *name, struct slice value, const char *what) {
  return arguments_error(arguments, "%s: '%.*s' is not %s", name, (int)(value.length < 60 ? value.length : 60), value.at, what);
}

/* ---- readers ---- */

bool arguments_text(struct arguments *arguments, const char *name, unsigned flags, struct slice *text) {
  return find(arguments, name, flags, text);
}

/* "\<48 65 6C>": bytes in hexadecimal. Returns what is behind it, or the start when malformed. */
static size_t unescape_hex(struct slice text, size_t i, char *to, size_t *length) {
  unsigned digits = 0, value = 0;
  for (size_t j = i + 2; j < text.length; j++) {
    char c = slice_lower(text.at[j]);
    if (c == '>') return digits % 2 == 0 ? j + 1 : i;
    if (is_blank(c)) continue;
    if (!slice_is_digit(c) && (c < 'a' || c > 'f')) return i;
    value = value * 16 + (unsigned)(slice_is_digit(c) ? c - '0' : c - 'a' + 10);
    if (++digits % 2 == 0) to[(*length)++] = (char)value, value = 0;
  }
  return i;
}

static size_t unquote(struct slice text, char *to) {
  char quote = '\0';
  size_t length = 0;
  for (size_t i = 0; i < text.length; i++) {
    char c = text.at[i];
    if (quote == '\0' && (c == '"' || c == '\'')) {
      quote = c;
    } else if (c == quote && quote != '\0') {
      quote = '\0';
    } else if (c == '\\' && quote != '\'' && i + 1 < text.length) {
      if (text.at[i + 1] == '<') {
        size_t end = unescape_hex(text, i, to, &length);
        if (end > i) {
          i = end - 1;
          continue;
        }
      }
      c = text.at[++i];
      to[length++] = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == '0' ? '\0' : c;
    } else {
      to[length++] = c;
    }
  }
  return length;
}

bool arguments_string(struct arguments *arguments, const char *name, unsigned flags, struct slice *text) {
  struct slice value;
  if (!find(arguments, name, flags, &value)) return false;
  char *copy = element_alloc(arguments->element, value.length + 1);
  if (copy == NULL) return arguments_error(arguments, "%s: no memory", name);
  *text = (struct slice){copy, unquote(value, copy)};
  return true;
}

bool arguments_bool(struct arguments *arguments, const char *name, unsigned flags, bool *value) {
  struct slice text;
  if (!find(arguments, name, flags, &text)) return false;
  return parse_bool(text, value) || no(arguments, name, text, "true or false");
}

bool arguments_u64(struct arguments *arguments, const char *name, unsigned flags, uint64_t least, uint64_t most, uint64_t *value) {
  struct slice text;
  uint64_t number;
  if (!find(arguments, name, flags, &text)) return false;
  if (!parse_u64(text, UINT64_MAX, &number)) return no(arguments, name, text, "a whole number");
  if (number < least || number > most) {
    return arguments_error(arguments, "%s: %llu is not between %llu and %llu", name, (unsigned long long)number, (unsigned long long)least, (unsigned long long)most);
  }
  *value = number;
  return true;
}

bool arguments_u32(struct arguments *arguments, const char *name, unsigned flags, uint32_t least, uint32_t most, uint32_t *value) {
  uint64_t wide;
  if (!arguments_u64(arguments, name, flags, least, most, &wide)) return false;
  *value = (uint32_t)wide;
  return true;
}

bool arguments_i32(struct arguments *arguments, const char *name, unsigned flags, int32_t least, int32_t most, int32_t *value) {
  struct slice text;
  uint64_t size;
  if (!find(arguments, name, flags, &text)) return false;
  bool minus = text.length > 0 && text.at[0] == '-';
  if (!parse_u64(slice_from(text, minus ? 1 : 0), 0x80000000u, &size)) return no(arguments, name, text, "a whole number");
  int64_t number = minus ? -(int64_t)size : (int64_t)size;
  if (number < least || number > most) return arguments_error(arguments, "%s: %lld is not between %d and %d", name, (long long)number, least, most);
  *value = (int32_t)number;
  return true;
}

bool arguments_fixed(struct arguments *arguments, const char *name, unsigned flags, unsigned digits, uint64_t most, uint64_t *value) {
  struct slice text;
  if (!find(arguments, name, flags, &text)) return false;
  return parse_fixed(text, digits, most, value) || no(arguments, name, text, "a decimal number in its range");
}

#define READER(function, type, parse, what)                                                                          \
  bool function(struct arguments *arguments, const char *name, unsigned flags, type value) {                          \
    struct slice text;                                                                                                \
    if (!find(arguments, name, flags, &text)) return false;                                                           \
    return parse(text, value) || no(arguments, name, text, what);                                                     \
  }
#define READER_TWO(function, type, other, parse, what)                                                               \
  bool function(struct arguments *arguments, const char *name, unsigned flags, type value, other more) {              \
    struct slice text;                                                                                                \
    if (!find(arguments, name, flags, &text)) return false;                                                           \
    return parse(text, value, more) || no(arguments, name, text, what);                                               \
  }

READER(arguments_ns, uint64_t *, parse_ns, "a time")
READER(arguments_rate, uint64_t *, parse_rate, "a bandwidth")
READER(arguments_ip4, uint32_t *, parse_ip4, "an IPv4 address")
READER_TWO(arguments_prefix4, uint32_t *, uint32_t *, parse_prefix4, "an IPv4 prefix")
READER(arguments_ip6, uint8_t *, parse_ip6, "an IPv6 address")
READER_TWO(arguments_prefix6, uint8_t *, unsigned *, parse_prefix6, "an IPv6 prefix")
READER(arguments_ether, uint8_t *, parse_ether, "an Ethernet address")

bool arguments_element(struct arguments *arguments, const char *name, unsigned flags, struct element **element) {
  struct slice text;
  if (!find(arguments, name, flags, &text)) return false;
  struct element *found = element_find(arguments->element, text);
  if (found == NULL) return no(arguments, name, text, "the name of an element");
  *element = found;
  return true;
}

bool arguments_rest(struct arguments *arguments, struct slice *text) {
  uint32_t i = arguments->next;
  while (i < arguments->count && (arguments->all[i].used || is_keyword(arguments->all[i].text))) i++;
  arguments->next = i;
  if (i >= arguments->count) return false;
  arguments->current = i;
  arguments->all[i].used = true;
  *text = arguments->all[arguments->next++].text;
  return true;
}

uint32_t arguments_rest_count(const struct arguments *arguments) {
  uint32_t count = 0;
  for (uint32_t i = arguments->next; i < arguments->count; i++) count += !arguments->all[i].used && !is_keyword(arguments->all[i].text);
  return count;
}

bool arguments_end(struct arguments *arguments) {
  for (uint32_t i = 0; i < arguments->count; i++) {
    struct argument *argument = &arguments->all[i];
    if (argument->used || (argument->text.length == 0 && i + 1 == arguments->count)) continue;
    arguments->current = i;
    arguments_error(arguments, "no such argument: '%.*s'", (int)(argument->text.length < 60 ? argument->text.length : 60), argument->text.at);
    break;
  }
  return !arguments->failed;
}
