/*
 * The pages of a guest that is read: which frame is which machine frame, and read-only mappings of those that are wanted. A page costs a trap each to map
 * and to unmap in a PV dom0, so none is mapped before somebody asks for it.
 */
#ifndef SHOAL_GUEST_PAGES_H
#define SHOAL_GUEST_PAGES_H

#include <stdint.h>

#include "builder.h"
#include "failure.h"

struct guest_pages;

/* Of frames first, first + 1, … with these machine frames, which are copied; nothing is mapped. */
struct guest_pages *guest_pages_of(struct builder *builder, uint16_t domid, const uint64_t *mfns, uint64_t count, uint64_t first, struct failure *failure);
void guest_pages_free(struct guest_pages *pages);

/* The frame of a machine frame, NO_FRAME (memory_stream.h) when it is none of these. */
uint64_t guest_pages_find(struct guest_pages *pages, uint64_t mfn);

/* The machine frames as they were given. */
const uint64_t *guest_pages_list(const struct guest_pages *pages);

/* Maps those of the frames that are not mapped yet, in one call. Failure "memory" with EINVAL: a frame that is none of these. */
int guest_pages_map(struct guest_pages *pages, const uint64_t *frames, uint64_t count, struct failure *failure);

/* NULL: it is not mapped, or none of these. */
const uint8_t *guest_page(const struct guest_pages *pages, uint64_t frame);

#endif
