/* What the two files that read the language share (language.c, language_compound.c). */
#ifndef CLICK_READER_H
#define CLICK_READER_H

#include "language.h"
#include "lexer.h"

struct reader {
  struct lexer lexer;
  struct memory *memory;
  struct errors *errors;
  struct declared **buckets; /* by scope and name */
  unsigned depth;
};

/* Both tell a mistake and return false: something else stands where `wanted` should be; there is no memory. */
bool reader_fail(struct reader *reader, struct token token, const char *wanted);
bool reader_no_memory(struct reader *reader);

/* The class of that name as seen from the scope. */
bool reader_find_class(const struct scope *scope, struct slice name, struct class_ref *of);
/* A new element of the scope; NULL, told, when there is no memory. */
struct declared *reader_declare(struct reader *reader, struct scope *scope, struct slice name, struct place place);
/* Whether a name may be an element's or a class's. */
bool reader_check_name(struct reader *reader, struct token token);

/* Statements up to the end of the text, or of the compound element. */
bool reader_scope(struct reader *reader, struct scope *scope, bool is_compound);

/* Behind '{', up to and with '}'. */
bool reader_compound(struct reader *reader, struct scope *outer, struct slice name, struct place place, struct compound **result);
/* Behind the words elementclass, define and require. */
bool reader_elementclass(struct reader *reader, struct scope *scope);
bool reader_define(struct reader *reader, struct scope *scope);
bool reader_require(struct reader *reader);

#endif
