/*
 * The guest's console, looked at on demand: its ring page is mapped for the moment of one call, so that a guest costs no daemon, no file
 * descriptor and no terminal. Works for a crashed domain too, as long as Xen has not taken its memory away.
 *
 * The page belongs to the guest, which may write anything at any time: indices are read once and used modulo the ring.
 */
#ifndef SHOAL_CONSOLE_H
#define SHOAL_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

#include "failure.h"

enum { CONSOLE_OUT_BYTES = 2048, CONSOLE_IN_BYTES = 1024 };

struct consoles;

struct consoles *consoles_open(struct failure *failure);
void consoles_close(struct consoles *consoles);

/*
 * Copies what the guest printed beyond *cursor, as far as its ring still holds it, and moves *cursor to the end of it. The cursor counts
 * the bytes the guest ever printed, modulo 2^32. `mfn` is the machine frame of the ring when known (0: through grant 0).
 */
int console_read(struct consoles *consoles, uint16_t domid, uint64_t mfn, uint32_t *cursor, uint8_t text[CONSOLE_OUT_BYTES], size_t *length,
                 struct failure *failure);
/* Puts bytes into the guest's input as far as there is room, rings its event channel; *taken says how many. */
int console_write(struct consoles *consoles, uint16_t domid, uint64_t mfn, uint32_t port, const uint8_t *text, size_t length, size_t *taken,
                  struct failure *failure);

/* Leaves an order for a wired guest (wiring.h) and rings its console's event channel. */
int console_order(struct consoles *consoles, uint16_t domid, uint32_t order, struct failure *failure);

/*
 * Leaves a list of addresses (network order, at most WIRING_ADDRESSES) for a wired guest and, with `ring`, orders it to take them; *number
 * tells which list it is. An order under way keeps its place: EBUSY. A list that is there already keeps its number.
 */
int console_readdress(struct consoles *consoles, uint16_t domid, const uint32_t *addresses, uint32_t count, int ring, uint32_t *number,
                      struct failure *failure);
/* The number of the list that the guest has taken last. */
int console_readdressed(struct consoles *consoles, uint16_t domid, uint32_t *number, struct failure *failure);

#endif
