/*
 * Frames by machine frame number: which frame of a guest, or of a template, a page-table entry means. Tables name frames mostly in their order, so
 * the one behind the one that was found last is tried first.
 */
#ifndef SHOAL_FRAMES_H
#define SHOAL_FRAMES_H

#include <stdint.h>

struct frames;

/* Of frames first, first + 1, …: their machine frames, which are copied. NULL without memory. */
struct frames *frames_of(const uint64_t *mfns, uint64_t count, uint64_t first);
void frames_free(struct frames *frames);

/* The frame, NO_FRAME (memory_stream.h) when it is none of these. */
uint64_t frames_find(struct frames *frames, uint64_t mfn);

/* The machine frames as they were given. */
const uint64_t *frames_list(const struct frames *frames);

#endif
