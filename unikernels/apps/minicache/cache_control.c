/* See cache_control.h. */
#include "cache_control.h"

#define NUMBER(field) offsetof(struct cache_control, field)
static const struct {
  struct slice name;
  uint32_t bit;
  size_t number; /* offset of the seconds, 0: none */
} table[] = {
    {SLICE("no-store"), CC_NO_STORE, 0},
    {SLICE("no-cache"), CC_NO_CACHE, 0},
    {SLICE("private"), CC_PRIVATE, 0},
    {SLICE("public"), CC_PUBLIC, 0},
    {SLICE("must-revalidate"), CC_MUST_REVALIDATE, 0},
    {SLICE("proxy-revalidate"), CC_PROXY_REVALIDATE, 0},
    {SLICE("must-understand"), CC_MUST_UNDERSTAND, 0},
    {SLICE("only-if-cached"), CC_ONLY_IF_CACHED, 0},
    {SLICE("no-transform"), CC_NO_TRANSFORM, 0},
    {SLICE("immutable"), CC_IMMUTABLE, 0},
    {SLICE("max-age"), CC_MAX_AGE, NUMBER(max_age)},
    {SLICE("s-maxage"), CC_S_MAXAGE, NUMBER(s_maxage)},
    {SLICE("stale-while-revalidate"), CC_STALE_WHILE_REVALIDATE, NUMBER(stale_while_revalidate)},
    {SLICE("stale-if-error"), CC_STALE_IF_ERROR, NUMBER(stale_if_error)},
    {SLICE("min-fresh"), CC_MIN_FRESH, NUMBER(min_fresh)},
    {SLICE("max-stale"), CC_MAX_STALE, NUMBER(max_stale)},
};

static uint32_t *number_at(struct cache_control *control, size_t offset) { return (uint32_t *)(void *)((char *)control + offset); }

/* `argument.at` is NULL for a bare directive. */
static void add(struct cache_control *control, struct slice name, struct slice argument) {
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    if (!slice_same(name, table[i].name)) continue;
    uint64_t seconds = 0;
    if (table[i].number != 0) {
      bool fits = slice_number(argument, CC_MOST_SECONDS, &seconds);
      if (!fits && seconds != CC_MOST_SECONDS) {
        /* A bare max-stale is any staleness (5.2.1.2). Other numbers that cannot be read allow nothing. */
        seconds = table[i].bit == CC_MAX_STALE && argument.at == NULL ? CC_MOST_SECONDS : 0;
      }
      uint32_t *number = number_at(control, table[i].number);
      if (!(control->set & table[i].bit) || seconds < *number) *number = (uint32_t)seconds;
    }
    control->set |= table[i].bit;
    return;
  }
}

void cache_control_read(struct cache_control *control, struct slice value) {
  struct slice element;
  while (slice_next(&value, &element)) {
    size_t at = slice_find(element, '=');
    struct slice argument = NO_SLICE;
    if (at < element.length) {
      argument = slice_from(element, at + 1);
      if (argument.length >= 2 && argument.at[0] == '"' && argument.at[argument.length - 1] == '"') argument.at++, argument.length -= 2;
    }
    add(control, (struct slice){element.at, at}, argument);
  }
}

/* ---- RFC 8941, as much as directives need ---- */

static bool is_key(char c, bool first) {
  return (c >= 'a' && c <= 'z') || c == '*' || (!first && (slice_is_digit(c) || c == '_' || c == '-' || c == '.'));
}

/* Takes a bare item; *integer is -1 unless it is a non-negative integer. *truth: what it says as a boolean. */
static bool take_item(struct slice *text, int64_t *integer, bool *truth) {
  *integer = -1;
  *truth = true;
  if (text->length == 0) return false;
  char c = text->at[0];
  size_t end = 1;
  if (c == '?') {
    if (text->length < 2 || (text->at[1] != '0' && text->at[1] != '1')) return false;
    *truth = text->at[1] == '1';
    end = 2;
  } else if (c == '"') {
    while (end < text->length && text->at[end] != '"') end += text->at[end] == '\\' ? 2 : 1;
    if (end >= text->length) return false;
    end++;
  } else if (c == ':') {
    while (end < text->length && text->at[end] != ':') end++;
    if (end == text->length) return false;
    end++;
  } else if (slice_is_digit(c) || c == '-') {
    if (c == '-' && (text->length < 2 || !slice_is_digit(text->at[1]))) return false;
    while (end < text->length && slice_is_digit(text->at[end])) end++;
    bool decimal = end < text->length && text->at[end] == '.';
    if (end > 16 || (decimal && (end + 1 == text->length || !slice_is_digit(text->at[end + 1])))) return false;
    uint64_t number;
    if (c != '-' && !decimal && slice_number((struct slice){text->at, end}, INT64_MAX, &number)) *integer = (int64_t)number;
    if (decimal) {
      end++;
      while (end < text->length && slice_is_digit(text->at[end])) end++;
    }
  } else if (slice_lower(c) >= 'a' && slice_lower(c) <= 'z') {
    while (end < text->length && text->at[end] > ' ' && text->at[end] != ',' && text->at[end] != ';' && text->at[end] != '"' && text->at[end] != '=') end++;
  } else {
    return false;
  }
  *text = slice_from(*text, end);
  return true;
}

static struct slice skip_blanks(struct slice text) {
  while (text.length > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) text = slice_from(text, 1);
  return text;
}

static bool take_key(struct slice *text, struct slice *key) {
  size_t end = 0;
  while (end < text->length && is_key(text->at[end], end == 0)) end++;
  *key = (struct slice){text->at, end};
  *text = slice_from(*text, end);
  return end > 0;
}

bool cache_control_read_targeted(struct cache_control *control, struct slice value, bool devices) {
  struct cache_control read = *control;
  struct slice text = slice_trim(value), key, parameter;
  int64_t integer, ignored;
  bool truth, unused;
  while (text.length > 0) {
    if (!take_key(&text, &key)) return false;
    integer = -1, truth = true;
    bool bare = text.length == 0 || text.at[0] != '=', other = false;
    if (!bare) {
      text = slice_from(text, 1);
      if (!take_item(&text, &integer, &truth)) return false;
    }
    while (text.length > 0 && text.at[0] == ';') {
      other = devices;
      text = skip_blanks(slice_from(text, 1));
      if (!take_key(&text, &parameter)) return false;
      if (text.length > 0 && text.at[0] == '=') {
        text = slice_from(text, 1);
        if (!take_item(&text, &ignored, &unused)) return false;
      }
    }
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
      if (other || !slice_equal(key, table[i].name)) continue;
      /* The last of a key counts; a value of the wrong type is as if the key were not there. */
      bool sound = table[i].number != 0 ? integer >= 0 : bare || integer < 0;
      if (sound && truth) read.set |= table[i].bit;
      else read.set &= ~table[i].bit;
      if (sound && table[i].number != 0) *number_at(&read, table[i].number) = integer > (int64_t)CC_MOST_SECONDS ? CC_MOST_SECONDS : (uint32_t)integer;
    }
    text = skip_blanks(text);
    if (text.length == 0) break;
    if (text.at[0] != ',') return false;
    text = skip_blanks(slice_from(text, 1));
    if (text.length == 0) return false;
  }
  *control = read;
  return true;
}
