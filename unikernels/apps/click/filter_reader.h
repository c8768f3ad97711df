/* What the two files that read patterns share (filter_read.c, filter_primitive.c). */
#ifndef CLICK_FILTER_READER_H
#define CLICK_FILTER_READER_H

#include "filter_words.h"

enum direction { DIRECTION_NONE, DIRECTION_SOURCE, DIRECTION_DESTINATION, DIRECTION_EITHER, DIRECTION_BOTH };

struct qualifiers {
  enum direction direction;
  enum filter_type type;
  struct filter_field field;
  uint8_t protocol;
  bool has_protocol;
};

struct pattern_reader {
  struct filter *filter;
  struct arguments *arguments;
  struct slice rest, token; /* the token that is next; empty at the end */
  struct qualifiers last;
  unsigned depth;
};


/* The next token; one is skipped when it is that word; a word is missing or another, which is told; the end of a primitive. */
void pattern_next(struct pattern_reader *reader);
bool pattern_is(const struct pattern_reader *reader, const char *word);
bool pattern_skip(struct pattern_reader *reader, const char *word);
bool pattern_fail(struct pattern_reader *reader, const char *what);

/* One primitive; false: told. */
bool pattern_primitive(struct pattern_reader *reader, struct filter_expression *result);

#endif
