/*
 * The xenstore client: asynchronous, so that a device writes its whole half of a handshake in one go and the guest goes on while
 * the daemon works. Requests are answered in order of the daemon's choosing; each caller gets its own answer.
 */
#ifndef KERNEL_STORE_H
#define KERNEL_STORE_H

#include "store_wire.h"

/* `error` is 0 or an errno; `value` (terminated; NUL bytes inside are possible) lives until the handler returns. */
typedef void store_handler(void *context, int error, const char *value, size_t length);

/* Most requests under way, and watches. */
#define STORE_PENDING 32u
#define STORE_WATCHES 8u

/* `port` 0: the guest has no store; every request then fails at once with EIO. In another domain, called again: what was under way
 * is dropped, its handlers are never called, and watches are to be set anew. */
void store_init(struct xenstore_domain_interface *interface, uint32_t port);

/* Requests. False when too much is under way already (nothing is sent then, and the handler is never called). The handler may be
 * NULL. Paths are relative to the guest's own directory or absolute. */
bool store_read(const char *path, store_handler *handler, void *context);
bool store_write(const char *path, const char *value, store_handler *handler, void *context);

/* Calls `changed` once when the watch is set and then whenever something at or below `path` may have changed: look again. */
bool store_watch(const char *path, void (*changed)(void *context), void *context);

/* Takes in what has arrived. Bound to the store's event channel; also for a platform that waits differently. */
void store_poll(void *context);

/* There is a store, and it has not broken. */
bool store_exists(void);

/* Nothing is under way. */
bool store_is_quiet(void);

/* Requests sent since boot: what a handshake costs. */
unsigned store_request_count(void);

#endif
