/* What the Linux platform's files share. */
#ifndef HOST_PROCESS_H
#define HOST_PROCESS_H

#include "shoal.h"

/* Opens the TAP device `name`, or takes the descriptor N of "fd:N" (a TAP or a datagram socket: one frame a read). Exits with a
 * message when that fails. */
void tap_open(const char *name);

/* The descriptor to wait for, and what to do when it can be read. */
int tap_descriptor(void);
void tap_read(void);

void clock_start(void);

#endif
