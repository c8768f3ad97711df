/* Click's configuration language, cut into words. Bytes that are no text and quotes that do not end are mistakes like others. Pure. */
#ifndef CLICK_LEXER_H
#define CLICK_LEXER_H

#include "memory.h"
#include "output.h"

enum token_kind {
  TOKEN_END,
  TOKEN_NAME,     /* letters, digits, _ @ / */
  TOKEN_VARIABLE, /* $name, without the $ */
  TOKEN_COLONS,   /* :: */
  TOKEN_ARROW,    /* -> */
  TOKEN_BARS,     /* || */
  TOKEN_DOTS,     /* ... */
  TOKEN_BAD,      /* told already */
  TOKEN_SIGN      /* one of | , ; ( ) [ ] { } : text.at[0] */
};

struct token {
  enum token_kind kind;
  struct slice text;
  struct place place;
};

struct lexer {
  const char *at, *end;
  struct place place;
  struct token ahead;
  bool has_ahead;
  struct errors *errors;
  struct memory *memory; /* of what lexer_config gives */
};

void lexer_begin(struct lexer *lexer, struct slice text, struct memory *memory, struct errors *errors);
struct token lexer_next(struct lexer *lexer);
/* The one that lexer_next gives next. */
struct token lexer_peek(struct lexer *lexer);
/* Takes the next one when it is that sign (that kind, for the others). */
bool lexer_accept(struct lexer *lexer, char sign);
bool lexer_accept_kind(struct lexer *lexer, enum token_kind kind);

/* Behind an opening parenthesis that was just taken: all up to the closing one, which is taken too. Comments have become blanks. False, with the
 * mistake told, when it does not come or there is no memory. */
bool lexer_config(struct lexer *lexer, struct slice *config, struct place *place);

#endif
