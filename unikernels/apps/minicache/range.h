/* Byte ranges (RFC 9110 14). Pure. */
#ifndef MINICACHE_RANGE_H
#define MINICACHE_RANGE_H

#include "slice.h"

#define RANGES_MOST 8u /* more ranges than that are answered with the whole (RFC 9110 14.2 allows to ignore them) */

struct range {
  uint64_t from, to; /* first byte, and the one after the last */
};

/* Of a body of `length` bytes. The count of ranges that can be satisfied; 0: none can (416); -1: ignore the field. */
int ranges_read(struct slice value, uint64_t length, struct range ranges[RANGES_MOST]);

#endif
