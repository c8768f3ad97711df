/*
 * Kept objects as UDP datagrams to a player or a group, as the admin port asks: the packetizer (stream.h) over the store and the cache's own
 * network device. IPv4 only. docs/formats/minicache.md has the requests.
 */
#ifndef MINICACHE_PLAYOUT_H
#define MINICACHE_PLAYOUT_H

#include "text.h"
#include "viewer.h"

#define PLAYOUTS_MOST 4u

/* Reads the query and begins. 0, or the status to refuse it with: 400 (the query), 404 (nothing whole is kept under this URL), 503 (all are in use). */
uint16_t playout_begin(struct slice query, uint32_t *id);

/* False: there is none of this id. Its counters stay until its place is needed. */
bool playout_end(uint32_t id);

/* All of them, as JSON: an array. */
void playout_list(struct text *text);

/* The device has room again, or is back. */
void playouts_writable(void);

/* The guest has another address: what is under way would go out under the old one. */
void playouts_end(void);

#endif
