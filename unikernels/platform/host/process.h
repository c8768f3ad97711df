/* What the Linux platform's files share. */
#ifndef HOST_PROCESS_H
#define HOST_PROCESS_H

#include <poll.h>
#include "shoal.h"

#define TAP_DEVICES 8u

/* Opens the TAP devices of these names, separated by commas: devices 0, 1, … of the application. "fd:N" takes the descriptor N (a TAP or a
 * datagram socket: one frame a read); "none" alone: no device. Exits with a message when that fails. */
void tap_open(const char *names);

/* Fills in what to wait for, up to TAP_DEVICES; returns how many. */
unsigned tap_wait_for(struct pollfd *polls);
/* The index-th of them can be read. */
void tap_read(unsigned index);

void clock_start(void);

#endif
