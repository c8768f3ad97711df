/*
 * A viewer is a connection of a client: what it sends until it is a request, and what is sent to it until it acknowledged it. Bodies
 * are handed to TCP by reference to the store's chunks; a chunk is let go when the last of its bytes was acknowledged.
 */
#ifndef MINICACHE_VIEWER_H
#define MINICACHE_VIEWER_H

#include "http1.h"
#include "minicache.h"
#include "range.h"
#include "lwip/tcp.h"

#define VIEWER_HEAD_BYTES 2048u /* longer heads borrow a buffer */
#define VIEWER_PIECES 24

enum viewer_state { VIEWER_READING, VIEWER_WAITING, VIEWER_SENDING, VIEWER_RELAYING, VIEWER_CLOSING };
enum outcome { OUTCOME_NONE, OUTCOME_HIT, OUTCOME_MISS, OUTCOME_JOINED, OUTCOME_STALE, OUTCOME_REVALIDATED, OUTCOME_PASS, OUTCOME_ERROR, OUTCOME_ADMIN };

struct fetch;

struct piece {
  struct chunk *chunk; /* NULL: copied bytes */
  uint32_t bytes;      /* not acknowledged yet */
};

struct viewer {
  struct tcp_pcb *pcb;
  struct viewer *next; /* free, or waiting for the same fetch */
  uint8_t state, outcome, tries;
  bool admin, dead, running, keep_alive, remote_closed, shut, watching, reading_chunk, alone, chunked, in_part, counted, queued, passing, filled, answered;
  uint8_t span_count, span;
  uint8_t pieces_first, pieces_count;
  uint16_t status;
  struct pbuf *input;
  uint16_t input_at;
  char *borrowed; /* a longer buffer for the head */
  struct http_gather gather;
  struct http_body body; /* of the request */
  uint8_t key[STORE_KEY_BYTES], url_key[STORE_KEY_BYTES];
  struct slice host, target; /* what the key was made of; in the head's buffer */
  struct cache_control asked;
  struct fetch *fetch;
  struct object *object;
  struct watcher watcher;
  struct reading reading;
  struct chunk *early; /* read before there was room for it */
  struct range spans[RANGES_MOST];
  uint64_t at, sent, started_ms, progress_ms, body_sent;
  uint32_t copied, beyond; /* bytes of copies not acknowledged; of the heap beyond its own (allowance.h) */
  struct piece pieces[VIEWER_PIECES];
  struct http_head request;
  char head[VIEWER_HEAD_BYTES];
};

bool viewers_open(void);
bool viewers_listen(uint16_t port, bool admin);

/* Goes on with whatever can be done now. Every entry from outside ends with it. */
void viewer_run(struct viewer *viewer);

/* Copies bytes into the connection. False: no room or no memory (the viewer is then ended by its caller). */
bool viewer_write(struct viewer *viewer, const char *bytes, size_t length);
/* The same, but the viewer lives on where there is no memory now: then nothing was written. */
bool viewer_try_write(struct viewer *viewer, const char *bytes, size_t length);
/* Room for a write of a body, with some to spare for framing: what the connection and memory allow. More after an acknowledgement. */
uint32_t viewer_room(const struct viewer *viewer);
/* Sends `length` bytes of the chunk by reference and takes it over. `more`: what follows it is written right after, so that segments stay whole.
 * False: no memory now, the chunk stays the caller's, unless the viewer is dead. */
bool viewer_write_chunk(struct viewer *viewer, struct chunk *chunk, uint32_t length, bool more);
/* The connection is beyond use: cut off at the next occasion. */
void viewer_kill(struct viewer *viewer);
/* Drops bytes of the request that were used. */
void viewer_consume(struct viewer *viewer, size_t length);
/* The answer was handed over whole; the connection goes on or is closed. */
void viewer_finish(struct viewer *viewer);
/* The longest-idle, for when there is no room; and buffers for long heads, NULL when all are lent. */
char *buffer_borrow(void);
void buffer_return(char *buffer);

/* sending.c: of an answer whose head was written. True: everything was handed over. */
bool sending_pump(struct viewer *viewer);
void sending_begin(struct viewer *viewer, struct object *object);
void sending_end(struct viewer *viewer);

#endif
