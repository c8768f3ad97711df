/* What viewers saw of each URL: hits, misses, bytes, how far downloads got. A bounded table; the least asked gives way. */
#ifndef MINICACHE_COUNTERS_H
#define MINICACHE_COUNTERS_H

#include "text.h"
#include "viewer.h"

void counters_add(const struct viewer *viewer, bool hit);
/* As JSON objects in a list, from entry `from` on; returns the entry to go on with, 0 at the end. */
uint32_t counters_write(struct text *text, uint32_t from);

#endif
