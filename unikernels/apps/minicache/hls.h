/* What a cache knows of HLS: the segment after this one is asked for next. */
#ifndef MINICACHE_HLS_H
#define MINICACHE_HLS_H

#include "viewer.h"

/* The target of the segment after `target`: its last number plus one, as wide as before. 0: it is no segment, or has no number. */
size_t hls_next(struct slice target, char *next, size_t capacity);
/* Fetches it, if the settings say so and it is not there. */
void hls_ahead(const struct viewer *viewer);

#endif
