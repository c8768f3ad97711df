/*
 * A fetch is one exchange with the origin. It fills an object that any number of viewers read meanwhile, validates one that went
 * stale, or passes an answer on to the one viewer that asked. Until its answer's head is there viewers may join it; then each goes its way.
 */
#ifndef MINICACHE_FETCH_H
#define MINICACHE_FETCH_H

#include "http1.h"
#include "meta.h"
#include "sha256.h"
#include "viewer.h"

enum fetch_kind { FETCH_SHARED, /* for the cache */ FETCH_PASSED /* for one viewer, as it asked */ };
enum fetch_state { FETCH_IDLE, FETCH_CONNECTING, FETCH_HEAD, FETCH_BODY };
enum fetch_mode { MODE_NONE, MODE_FILL, MODE_RELAY, MODE_DRAIN };

struct fetch {
  struct fetch *next; /* free or active */
  struct tcp_pcb *pcb;
  uint8_t kind, state, mode, method;
  bool reused, retried, authorized, dead, running, eof, watching, body_sent_whole, said_continue;
  uint8_t key[STORE_KEY_BYTES], url_key[STORE_KEY_BYTES];
  char *buffer; /* HTTP_HEAD_BYTES: the request, then the head of the answer */
  uint32_t request_length;
  struct http_gather gather;
  struct http_head response;
  struct http_body body;
  struct cache_control asked;
  struct slice url;       /* host and target in the request's text */
  uint16_t target_at, host_at, host_length, target_length;
  struct object *stale;   /* held; what is validated */
  struct object *object;  /* held; what is filled */
  struct watcher watcher;
  struct sha256 digest;
  struct viewer *waiters; /* until the head is there */
  struct viewer *relay;   /* MODE_RELAY, and whose body is sent on */
  struct pbuf *held;      /* bytes that found no place yet */
  uint16_t held_at;
  uint64_t deadline_ms;
  int64_t sent_seconds;
};

bool fetches_open(void);

/* For a viewer (it waits for it), or behind one's back (`background`; then the request is only read). False: no place now. */
bool fetch_begin(struct viewer *viewer, enum fetch_kind kind, struct object *stale, bool background);
/* The same for a target nobody asked for yet, as `like` asked for another. */
bool fetch_ahead(const struct viewer *like, struct slice target);
/* The viewer waits for a fetch of its key that has no answer yet. False: there is none. */
bool fetch_join(struct viewer *viewer);
/* The viewer waits until there is place for another exchange; then it is served again. */
void fetch_wait(struct viewer *viewer);
bool fetch_has_place(void);
bool fetch_is_active(const uint8_t key[STORE_KEY_BYTES]);

void fetch_forget(struct viewer *viewer); /* it is gone, or does not wait any more */
void fetch_input(struct viewer *viewer);  /* more of its body came, or its end */
void fetch_room(struct viewer *viewer);   /* it has room again */

/* ---- between fetch's files ---- */

#define FETCH_STALL_SECONDS 10u /* between two portions of a body */
void fetch_deadline(struct fetch *fetch, uint32_t seconds);
/* fetch_bytes.c: goes through what is held, as far as it finds a place. The exchange may be over after. */
void fetch_take(struct fetch *fetch);
/* The connection failed the exchange. */
void fetch_broke(struct fetch *fetch, uint16_t status);
/* The last thing of every entry from outside: gives back what an exchange that is over had. ERR_ABRT: its connection was aborted. */
err_t fetch_leave(struct fetch *fetch);
/* fetch_request.c: the text of the request, 0 when it does not fit. */
uint32_t fetch_request(struct fetch *fetch, const struct http_head *request, struct slice host, struct slice target, const struct kept *stale);
/* fetch_answer.c: the head is there. Decides the mode; hands the waiters on. */
void fetch_answer(struct fetch *fetch);
/* No answer came, or none that can be used. */
void fetch_failed(struct fetch *fetch, uint16_t status);
/* fetch_end: the exchange is over; `reuse`: the connection can serve another. */
void fetch_end(struct fetch *fetch, bool reuse);

/* ---- origin.c: connections between exchanges ---- */

struct tcp_pcb *origin_take(void); /* an idle one, NULL: none */
void origin_keep(struct tcp_pcb *pcb);

#endif
