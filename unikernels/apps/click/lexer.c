/* See lexer.h. */
#include "lexer.h"

void lexer_begin(struct lexer *lexer, struct slice text, struct memory *memory, struct errors *errors) {
  *lexer = (struct lexer){.at = text.at, .end = text.at + text.length, .place = {1, 1}, .errors = errors, .memory = memory};
}

static void step(struct lexer *lexer) {
  if (*lexer->at == '\n') lexer->place.line++, lexer->place.column = 1;
  else lexer->place.column++;
  lexer->at++;
}

static char look(const struct lexer *lexer, size_t ahead) { return (size_t)(lexer->end - lexer->at) > ahead ? lexer->at[ahead] : '\0'; }

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }
static bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '@'; }

/* A comment starts here: passes over it. False when it does not end. */
static bool skip_comment(struct lexer *lexer) {
  if (look(lexer, 1) == '/') {
    while (lexer->at < lexer->end && *lexer->at != '\n') step(lexer);
    return true;
  }
  struct place start = lexer->place;
  step(lexer), step(lexer);
  while (lexer->at < lexer->end && !(*lexer->at == '*' && look(lexer, 1) == '/')) step(lexer);
  if (lexer->at == lexer->end) return errors_add(lexer->errors, start, "a comment that does not end");
  step(lexer), step(lexer);
  return true;
}

static bool at_comment(const struct lexer *lexer) { return look(lexer, 0) == '/' && (look(lexer, 1) == '/' || look(lexer, 1) == '*'); }

/* Blanks, comments, and lines that begin with # (a preprocessor's, an interpreter's). */
static void skip(struct lexer *lexer) {
  while (lexer->at < lexer->end) {
    if (is_blank(*lexer->at)) step(lexer);
    else if (at_comment(lexer)) skip_comment(lexer);
    else if (*lexer->at == '#' && lexer->place.column == 1) while (lexer->at < lexer->end && *lexer->at != '\n') step(lexer);
    else return;
  }
}

static struct slice take_name(struct lexer *lexer) {
  const char *start = lexer->at;
  while (lexer->at < lexer->end && (is_word(*lexer->at) || (*lexer->at == '/' && !at_comment(lexer)))) step(lexer);
  return (struct slice){start, (size_t)(lexer->at - start)};
}

static struct token read(struct lexer *lexer) {
  static const struct {
    char text[4];
    uint8_t length;
    enum token_kind kind;
  } longer[] = {{"::", 2, TOKEN_COLONS}, {"->", 2, TOKEN_ARROW}, {"||", 2, TOKEN_BARS}, {"...", 3, TOKEN_DOTS}};
  skip(lexer);
  struct token token = {.kind = TOKEN_END, .text = {lexer->at, 0}, .place = lexer->place};
  if (lexer->at == lexer->end) return token;
  char c = *lexer->at;
  if (is_word(c)) {
    token.kind = TOKEN_NAME;
    token.text = take_name(lexer);
    return token;
  }
  if (c == '$' && is_word(look(lexer, 1))) {
    step(lexer);
    token.kind = TOKEN_VARIABLE;
    token.text = take_name(lexer);
    return token;
  }
  for (size_t i = 0; i < sizeof longer / sizeof *longer; i++) {
    size_t length = longer[i].length;
    if ((size_t)(lexer->end - lexer->at) < length || memcmp(lexer->at, longer[i].text, length) != 0) continue;
    for (size_t j = 0; j < length; j++) step(lexer);
    token.kind = longer[i].kind;
    token.text.length = length;
    return token;
  }
  token.text.length = 1;
  token.kind = TOKEN_BAD;
  static const char signs[] = "|,;()[]{}";
  for (const char *sign = signs; *sign != '\0'; sign++) {
    if (*sign == c) token.kind = TOKEN_SIGN;
  }
  if (token.kind == TOKEN_BAD) {
    if (c > ' ' && c < 0x7f) errors_add(lexer->errors, lexer->place, "'%c' means nothing here", c);
    else errors_add(lexer->errors, lexer->place, "byte 0x%02x means nothing here", (unsigned)(uint8_t)c);
  }
  step(lexer);
  return token;
}

struct token lexer_peek(struct lexer *lexer) {
  if (!lexer->has_ahead) lexer->ahead = read(lexer), lexer->has_ahead = true;
  return lexer->ahead;
}

struct token lexer_next(struct lexer *lexer) {
  struct token token = lexer_peek(lexer);
  lexer->has_ahead = false;
  return token;
}

bool lexer_accept(struct lexer *lexer, char sign) {
  struct token token = lexer_peek(lexer);
  if (token.kind != TOKEN_SIGN || token.text.at[0] != sign) return false;
  lexer->has_ahead = false;
  return true;
}

bool lexer_accept_kind(struct lexer *lexer, enum token_kind kind) {
  if (lexer_peek(lexer).kind != kind) return false;
  lexer->has_ahead = false;
  return true;
}

bool lexer_config(struct lexer *lexer, struct slice *config, struct place *place) {
  struct place start = lexer->place;
  const char *from = lexer->at;
  unsigned depth = 0;
  char *copy = NULL, quote = '\0';
  /* Twice: for its length, and, from the same start, for the copy. */
  for (int pass = 0; pass < 2; pass++) {
    lexer->at = from;
    lexer->place = start;
    depth = 0;
    quote = '\0';
    for (;; step(lexer)) {
      if (lexer->at == lexer->end) return errors_add(lexer->errors, start, quote != '\0' ? "a quoted text that does not end" : "')' is missing");
      char c = *lexer->at;
      if (quote == '\0' && at_comment(lexer)) {
        const char *comment = lexer->at;
        if (!skip_comment(lexer)) return false;
        for (const char *i = comment; pass == 1 && i < lexer->at; i++) copy[i - from] = *i == '\n' ? '\n' : ' ';
        if (lexer->at == lexer->end) return errors_add(lexer->errors, start, "')' is missing");
        c = *lexer->at;
        /* What follows may be another comment: look again without a step. */
        if (at_comment(lexer)) {
          lexer->at--, lexer->place.column--;
          continue;
        }
      }
      if (quote == '\0' && c == ')' && depth == 0) break;
      if (pass == 1) copy[lexer->at - from] = c;
      if (c == '\\' && quote != '\'' && lexer->at + 1 < lexer->end) {
        step(lexer);
        if (pass == 1) copy[lexer->at - from] = *lexer->at;
      } else if (quote != '\0') {
        if (c == quote) quote = '\0';
      } else if (c == '"' || c == '\'') {
        quote = c;
      } else if (c == '(') {
        depth++;
      } else if (c == ')') {
        depth--;
      }
    }
    if (pass == 0) copy = memory_take(lexer->memory, (size_t)(lexer->at - from) + 1);
    if (copy == NULL) return errors_add(lexer->errors, start, "no memory");
  }
  *config = (struct slice){copy, (size_t)(lexer->at - from)};
  *place = start;
  step(lexer);
  return true;
}
