/*
 * Reads a guest's memory in pieces (memory_stream.h): once as it lies suspended; or, while it runs, in passes of which each has only
 * what changed since the one before, and the last one, suspended, the rest. Nothing is copied but the piece under way. What costs the time is
 * mapping the memory: a reader that was opened while the guest ran has done it by the time the guest is suspended. Pages that are free by the
 * guest's own map (wiring.h) are zero, and are not even looked at.
 */
#ifndef SHOAL_MEMORY_READ_H
#define SHOAL_MEMORY_READ_H

#include <stddef.h>
#include <stdint.h>

#include "builder.h"
#include "failure.h"
#include "template.h"

struct memory_reader;

/*
 * Of a domain that is shut down with the reason "suspend"; or of one that runs, of which memory_reader_again is to be called once it is suspended,
 * before any state and any last piece; EBUSY when such a guest does not show where its frames are. `template`: whose pages are its first ones, or NULL. `passes`: there will be several.
 * Failure "memory" with EINVAL: the guest is not what a suspended guest looks like, or its page tables refer to frames that are neither its own nor
 * the template's; with EBUSY: it is not suspended. While a reader is open it keeps the domain's memory from being freed.
 */
struct memory_reader *memory_reader_open(struct builder *builder, uint16_t domid, uint64_t virt_base, const struct template *template,
                                         int passes, struct failure *failure);
void memory_reader_free(struct memory_reader *reader);

/* The domain suspended itself anew: looks at its page tables and its vCPU again, and begins a pass. */
int memory_reader_again(struct memory_reader *reader, struct failure *failure);

/* The next piece into `piece` (PIECE_BYTES_MAX); its length, 0 at the end of the pass, after which another one begins. With passes the guest may
 * run meanwhile. */
size_t memory_reader_piece(struct memory_reader *reader, uint8_t *piece);

/* The state as it travels, to be freed with free(). "memory" with EBUSY: the guest was not seen suspended. */
uint8_t *memory_reader_state(const struct memory_reader *reader, size_t *length, struct failure *failure);

#endif
