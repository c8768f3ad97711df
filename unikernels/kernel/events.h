/* Event channels, from the platform. Handlers run in the main loop, never in the middle of something else. */
#ifndef KERNEL_EVENTS_H
#define KERNEL_EVENTS_H

#include "shoal.h"
#include <xen/xen.h>

/* More ports than a guest with a few devices has. */
#define EVENT_PORTS 64u

/* A channel that `remote` may bind to; 0 when there is none. */
uint32_t event_listen(domid_t remote);

/* Calls `handle` when `port` fires; unmasks it. */
void event_bind(uint32_t port, void (*handle)(void *context), void *context);

void event_notify(uint32_t port);

/* Unbinds and gives the port back. */
void event_close(uint32_t port);

#endif
