/*
 * Reads a pattern: primitives with and, or, not and parentheses. Beside each other they mean `and`.
 */
#include "filter_reader.h"

typedef struct filter_expression expression;

/* ---- tokens ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
static bool is_sign(char c) { return c == '(' || c == ')' || c == '!' || c == '=' || c == '<' || c == '>' || c == '&' || c == '|'; }

void pattern_next(struct pattern_reader *reader) {
  struct slice rest = reader->rest;
  while (rest.length > 0 && is_blank(rest.at[0])) rest = slice_from(rest, 1);
  size_t length = 0;
  if (rest.length > 0 && is_sign(rest.at[0])) {
    char second = rest.length > 1 ? rest.at[1] : '\0';
    char first = rest.at[0];
    length = (second == '=' && (first == '!' || first == '=' || first == '<' || first == '>')) || (second == first && (first == '&' || first == '|')) ? 2 : 1;
  } else {
    bool inside = false;
    for (; length < rest.length && (inside || (!is_blank(rest.at[length]) && !is_sign(rest.at[length]))); length++) inside = rest.at[length] == '[' || (inside && rest.at[length] != ']');
  }
  reader->token = (struct slice){rest.at, length};
  reader->rest = slice_from(rest, length);
}

bool pattern_is(const struct pattern_reader *reader, const char *word) { return slice_equal(reader->token, (struct slice){word, strlen(word)}); }

bool pattern_skip(struct pattern_reader *reader, const char *word) {
  if (!pattern_is(reader, word)) return false;
  pattern_next(reader);
  return true;
}

bool pattern_fail(struct pattern_reader *reader, const char *what) {
  struct slice token = reader->token;
  if (token.length == 0) return arguments_error_at(reader->arguments, token.at, "%s is missing", what);
  return arguments_error_at(reader->arguments, token.at, "'%.*s' where %s should be", (int)(token.length < 40 ? token.length : 40), token.at, what);
}

/* ---- and, or, not ---- */

static bool read_or(struct pattern_reader *reader, expression *result);

static bool read_factor(struct pattern_reader *reader, expression *result) {
  bool negated = false;
  while (pattern_is(reader, "!") || pattern_is(reader, "not")) pattern_next(reader), negated = !negated;
  if (pattern_skip(reader, "(")) {
    if (++reader->depth > FILTER_DEPTH_MAX) return arguments_error_at(reader->arguments, reader->token.at, "parentheses deeper than %u", FILTER_DEPTH_MAX);
    if (!read_or(reader, result)) return false;
    if (!pattern_skip(reader, ")")) return pattern_fail(reader, "')'");
    reader->depth--;
  } else {
    const char *at = reader->token.at;
    if (!pattern_primitive(reader, result)) return false;
    /* What is repeated of the one before may need no word at all: "ip frag x" has none for x. */
    if (reader->token.at == at) return pattern_fail(reader, "a primitive");
  }
  if (negated) *result = filter_not(*result);
  return true;
}

static bool read_and(struct pattern_reader *reader, expression *result) {
  if (!read_factor(reader, result)) return false;
  for (;;) {
    expression more;
    if (pattern_is(reader, "or") || pattern_is(reader, "||") || pattern_is(reader, ")") || reader->token.length == 0) return true;
    if (!pattern_skip(reader, "and")) pattern_skip(reader, "&&");
    if (!read_factor(reader, &more)) return false;
    *result = filter_and(reader->filter, *result, more);
  }
}

static bool read_or(struct pattern_reader *reader, expression *result) {
  if (!read_and(reader, result)) return false;
  while (pattern_is(reader, "or") || pattern_is(reader, "||")) {
    expression more;
    pattern_next(reader);
    if (!read_and(reader, &more)) return false;
    *result = filter_or(reader->filter, *result, more);
  }
  return true;
}

bool filter_read(struct filter *filter, struct slice text, struct filter_expression *result, struct arguments *arguments) {
  struct pattern_reader reader = {.filter = filter, .arguments = arguments, .rest = text};
  pattern_next(&reader);
  if (!read_or(&reader, result)) return false;
  return reader.token.length == 0 || pattern_fail(&reader, "the end of the pattern");
}
