/* How a list of arguments falls apart: shared by elements' arguments and those of compound elements. Pure. Comments are blanks already. */
#ifndef CLICK_ARGUMENTS_SPLIT_H
#define CLICK_ARGUMENTS_SPLIT_H

#include "arguments.h"

/* The first comma outside of quotes, or the length. */
size_t arguments_find_comma(struct slice text);

/* `place` is that of `from`; gives that of `to`, further on in the same text. */
struct place place_in(struct place place, const char *from, const char *to);

/* Fills `all` (NULL: only counts); returns how many, -1 when more than `most`. */
int arguments_split(struct slice text, struct place place, struct argument *all, uint32_t most);

#endif
