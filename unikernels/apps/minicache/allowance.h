/*
 * How much of the heap a connection's unacknowledged bytes may take. Bodies are sent by reference, but each segment has a header and two
 * descriptions, and what is copied is there twice: a hundred viewers that read slowly would together need more than a guest of 5 MiB has. Each may
 * hold OWN bytes; what is left of the heap beyond that goes to whoever asks, a part of the rest at a time, so that the last to come finds some, too.
 */
#ifndef MINICACHE_ALLOWANCE_H
#define MINICACHE_ALLOWANCE_H

#include "viewer.h"

#define ALLOWANCE_SEGMENT_BYTES 256u /* of the heap, for a segment by reference */
#define ALLOWANCE_COPIED_BYTES 2304u /* for one that is copied */
#define ALLOWANCE_OWN_BYTES 3072u
/* What a connection needs to be served at all: that, its control block, a request on its way in. */
#define ALLOWANCE_CONNECTION_BYTES 4096u

/* Once everything else is taken. Says on the console when the rest is too little for so many connections, and how much more the guest needs. */
void allowance_open(void);

/* Bytes of the heap that this connection may take now. */
uint32_t allowance_of(const struct viewer *viewer);

/* What waits to be acknowledged has changed. */
void allowance_note(struct viewer *viewer);

/* The connection is gone. */
void allowance_end(struct viewer *viewer);

/* False: memory is short, and a frame of this length had better be lost than the heads of answers; its sender will send it again, later. */
bool allowance_takes(size_t frame_bytes);

/* Bytes that all connections together hold of what is shared. Of tests. */
uint64_t allowance_used(void);

#endif
