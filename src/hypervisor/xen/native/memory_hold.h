/*
 * A checkpoint in one stroke: a guest that was told to suspend itself is waited for, all that its reader says of it is copied, and it goes on, with nothing else done in
 * between. Whoever calls from JavaScript is in no other code meanwhile: no collector of memory, no request, no timer lengthens the time for which the guest stands still. The
 * room for the copy is taken, and touched, before.
 */
#ifndef SHOAL_MEMORY_HOLD_H
#define SHOAL_MEMORY_HOLD_H

#include <stddef.h>
#include <stdint.h>

#include "control.h"
#include "failure.h"
#include "memory_read.h"

struct memory_hold;

/* Takes room for what the reader of a guest that runs says of it now, and some more. NULL: failure. */
struct memory_hold *memory_hold_new(struct memory_reader *reader, struct failure *failure);
void memory_hold_free(struct memory_hold *hold);

/*
 * Waits at most so long for the guest to suspend itself. 1: it did, `hold` has all of it, and it goes on; 0: it runs still, or shut down for another reason; -1: failure, and if it had
 * suspended itself it goes on, unless that is what failed.
 */
int memory_hold_take(struct memory_hold *hold, struct memory_reader *reader, struct control *control, uint16_t domid, unsigned wait_us, struct failure *failure);

/* Whether it has all of the guest. */
int memory_hold_is_full(const struct memory_hold *hold);

/* The next piece, valid until `hold` is freed; its length, 0 after the last. */
size_t memory_hold_piece(struct memory_hold *hold, const uint8_t **piece);

/* The state as it travels; valid until `hold` is freed. */
const uint8_t *memory_hold_state(const struct memory_hold *hold, size_t *length);

#endif
