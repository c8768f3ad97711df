/* The part of a target behind its question mark. Pure. */
#ifndef MINICACHE_QUERY_H
#define MINICACHE_QUERY_H

#include "slice.h"

/* The value of the parameter, percent-decoded into `out`; false: it is not there, too long or malformed. */
bool query_find(struct slice query, struct slice name, char *out, size_t capacity, struct slice *value);

#endif
