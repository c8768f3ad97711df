/* Exchanges with the origin as they go: connecting, sending, bytes that come, time running out. See fetch.h. */
#include "fetch.h"
#include "key.h"
#include "respond.h"
#include "serve.h"

#define CONNECT_SECONDS 5u

static struct fetch *free_fetches, *active;
static struct viewer *queue; /* of viewers for whom there was no place, first come first */

static void serve_queue(void *context);
static struct shoal_timer queue_timer = {.fire = serve_queue};

bool fetches_open(void) {
  struct fetch *fetches = shoal_alloc(cache.settings.fetches * sizeof *fetches);
  if (fetches == NULL) return false;
  for (uint32_t i = 0; i < cache.settings.fetches; i++) {
    char *buffer = shoal_alloc(HTTP_HEAD_BYTES);
    if (buffer == NULL) return false;
    memset(&fetches[i], 0, sizeof *fetches);
    fetches[i].buffer = buffer;
    fetches[i].next = free_fetches;
    free_fetches = &fetches[i];
  }
  return true;
}

void fetch_deadline(struct fetch *fetch, uint32_t seconds) { fetch->deadline_ms = clock_ms() + seconds * 1000ull; }

static struct fetch *find(const uint8_t key[STORE_KEY_BYTES]) {
  struct fetch *fetch = active;
  while (fetch != NULL && (fetch->kind != FETCH_SHARED || memcmp(fetch->key, key, STORE_KEY_BYTES) != 0 || fetch->state > FETCH_HEAD)) fetch = fetch->next;
  return fetch;
}

bool fetch_is_active(const uint8_t key[STORE_KEY_BYTES]) { return find(key) != NULL; }

static void add_waiter(struct fetch *fetch, struct viewer *viewer) {
  struct viewer **at = &fetch->waiters;
  while (*at != NULL) at = &(*at)->next;
  *at = viewer;
  viewer->next = NULL;
  viewer->fetch = fetch;
  viewer->state = VIEWER_WAITING;
}

bool fetch_join(struct viewer *viewer) {
  struct fetch *fetch = find(viewer->key);
  if (fetch == NULL) return false;
  add_waiter(fetch, viewer);
  return true;
}

bool fetch_has_place(void) { return free_fetches != NULL; }

void fetch_wait(struct viewer *viewer) {
  struct viewer **at = &queue;
  while (*at != NULL) at = &(*at)->next;
  *at = viewer;
  viewer->next = NULL;
  viewer->queued = true;
  viewer->state = VIEWER_WAITING;
}

static void serve_queue(void *context) {
  (void)context;
  while (queue != NULL && free_fetches != NULL) {
    struct viewer *viewer = queue;
    queue = viewer->next;
    viewer->next = NULL;
    viewer->queued = false;
    serve_again(viewer);
  }
}

/* ---- the connection ---- */

/* Takes the connection away from the exchange. */
static struct tcp_pcb *detach(struct fetch *fetch) {
  struct tcp_pcb *pcb = fetch->pcb;
  fetch->pcb = NULL;
  if (pcb == NULL) return NULL;
  tcp_arg(pcb, NULL);
  tcp_recv(pcb, NULL);
  tcp_sent(pcb, NULL);
  tcp_err(pcb, NULL);
  tcp_poll(pcb, NULL, 0);
  return pcb;
}

void fetch_end(struct fetch *fetch, bool reuse) {
  struct fetch **at = &active;
  while (*at != fetch) at = &(*at)->next;
  *at = fetch->next;
  if (fetch->watching) object_unwatch(fetch->object, &fetch->watcher);
  if (fetch->object != NULL) {
    object_abandon(fetch->object, STORE_ABANDONED); /* of a complete one: nothing */
    object_release(fetch->object);
  }
  if (fetch->stale != NULL) object_release(fetch->stale);
  if (fetch->held != NULL) {
    if (fetch->pcb != NULL && !reuse) tcp_recved(fetch->pcb, fetch->held->tot_len);
    pbuf_free(fetch->held);
  }
  fetch->object = fetch->stale = NULL;
  fetch->held = NULL;
  fetch->watching = false;
  fetch->state = FETCH_IDLE;
  fetch->dead = !reuse;
  if (!fetch->running) fetch_leave(fetch);
}

/* After the last step: the connection and the place are given back. */
err_t fetch_leave(struct fetch *fetch) {
  if (fetch->state != FETCH_IDLE) return ERR_OK;
  struct tcp_pcb *pcb = detach(fetch);
  bool reuse = !fetch->dead && !fetch->eof;
  fetch->next = free_fetches;
  free_fetches = fetch;
  if (queue != NULL && !queue_timer.armed) shoal_timer_set(&queue_timer, 0);
  if (pcb == NULL) return ERR_OK;
  if (reuse) {
    origin_keep(pcb);
    return ERR_OK;
  }
  tcp_abort(pcb);
  return ERR_ABRT;
}

static err_t on_connected(void *context, struct tcp_pcb *pcb, err_t error);
static err_t on_recv(void *context, struct tcp_pcb *pcb, struct pbuf *data, err_t error);
static err_t on_sent(void *context, struct tcp_pcb *pcb, u16_t length);
static err_t on_poll(void *context, struct tcp_pcb *pcb);
static void on_error(void *context, err_t error);

static bool send_request(struct fetch *fetch) {
  fetch->state = FETCH_HEAD;
  fetch->gather = (struct http_gather){.buffer = fetch->buffer + fetch->request_length, .capacity = HTTP_HEAD_BYTES - fetch->request_length};
  fetch_deadline(fetch, cache.settings.hold_seconds);
  if (tcp_write(fetch->pcb, fetch->buffer, (u16_t)fetch->request_length, TCP_WRITE_FLAG_COPY) != ERR_OK) return false;
  if (fetch->relay != NULL) fetch_input(fetch->relay);
  return tcp_output(fetch->pcb) == ERR_OK;
}

static bool connect_origin(struct fetch *fetch) {
  fetch->pcb = fetch->retried ? NULL : origin_take();
  fetch->reused = fetch->pcb != NULL;
  fetch->state = FETCH_CONNECTING;
  fetch_deadline(fetch, CONNECT_SECONDS);
  if (fetch->pcb == NULL) fetch->pcb = tcp_new_ip_type(IP_GET_TYPE(&cache.settings.origin));
  if (fetch->pcb == NULL) return false;
  tcp_nagle_disable(fetch->pcb);
  tcp_arg(fetch->pcb, fetch);
  tcp_recv(fetch->pcb, on_recv);
  tcp_sent(fetch->pcb, on_sent);
  tcp_err(fetch->pcb, on_error);
  tcp_poll(fetch->pcb, on_poll, 2);
  if (fetch->reused) return send_request(fetch);
  return tcp_connect(fetch->pcb, &cache.settings.origin, cache.settings.origin_port, on_connected) == ERR_OK;
}

/* A new exchange that has its keys; false: nothing is left of it. */
static bool start(struct fetch *fetch, const struct http_head *request, struct slice host, struct slice target, struct object *stale) {
  struct kept kept;
  size_t length;
  bool validates = false;
  if (stale != NULL) {
    const void *bytes = object_meta(stale, &length);
    validates = meta_read(&kept, bytes, length);
  }
  fetch->request_length = fetch_request(fetch, request, host, target, validates ? &kept : NULL);
  if (fetch->request_length == 0) return false;
  fetch->authorized = http_has(request, FIELD_AUTHORIZATION);
  fetch->asked = policy_request(request);
  fetch->method = fetch->kind == FETCH_SHARED ? METHOD_GET : request->method;
  fetch->sent_seconds = clock_seconds();
  return connect_origin(fetch);
}

static struct fetch *new_fetch(enum fetch_kind kind, const uint8_t *url_key, const uint8_t *key) {
  struct fetch *fetch = free_fetches;
  if (fetch == NULL) return NULL;
  free_fetches = fetch->next;
  char *buffer = fetch->buffer;
  memset(fetch, 0, sizeof *fetch);
  fetch->buffer = buffer;
  fetch->kind = (uint8_t)kind;
  memcpy(fetch->url_key, url_key, STORE_KEY_BYTES);
  memcpy(fetch->key, key, STORE_KEY_BYTES);
  fetch->next = active;
  active = fetch;
  cache.metrics.fetches++;
  return fetch;
}

bool fetch_begin(struct viewer *viewer, enum fetch_kind kind, struct object *stale, bool background) {
  struct fetch *fetch = new_fetch(kind, viewer->url_key, viewer->key);
  if (fetch == NULL) return false;
  if (!background) add_waiter(fetch, viewer);
  if (kind == FETCH_PASSED && !background) fetch->relay = viewer;
  bool started = start(fetch, &viewer->request, viewer->host, viewer->target, stale);
  if (started) {
    if (stale != NULL) object_hold(stale);
    fetch->stale = stale;
    return true;
  }
  if (!background) fetch->waiters = NULL, fetch->relay = NULL, viewer->fetch = NULL;
  fetch_end(fetch, false);
  return false;
}

bool fetch_ahead(const struct viewer *like, struct slice target) {
  uint8_t key[STORE_KEY_BYTES];
  key_of_url(key, like->host, target);
  struct object *there = store_find(cache.store, key);
  if (there != NULL) object_release(there);
  if (there != NULL || find(key) != NULL) return false;
  struct fetch *fetch = new_fetch(FETCH_SHARED, key, key);
  if (fetch == NULL) return false;
  if (start(fetch, &like->request, like->host, target, NULL)) return true;
  fetch_end(fetch, false);
  return false;
}

/* ---- events ---- */

/* Nothing of the answer came: an idle connection may just have been closed; it is tried once more on a new one. */
static bool try_again(struct fetch *fetch) {
  if (!fetch->reused || fetch->retried || fetch->state != FETCH_HEAD || fetch->gather.length > 0 || (fetch->relay != NULL && fetch->relay->request.framing != FRAMING_NONE))
    return false;
  fetch->retried = true;
  return connect_origin(fetch);
}

void fetch_broke(struct fetch *fetch, uint16_t status) {
  if (fetch->state == FETCH_IDLE) return;
  if (fetch->state != FETCH_BODY) {
    fetch_failed(fetch, status);
    return;
  }
  if (fetch->mode == MODE_RELAY && fetch->relay != NULL) {
    struct viewer *viewer = fetch->relay;
    viewer->fetch = NULL;
    fetch->relay = NULL;
    respond_relay_end(viewer, false);
    viewer_run(viewer);
  }
  cache.metrics.fetch_errors++;
  fetch_end(fetch, false);
}

static err_t on_connected(void *context, struct tcp_pcb *pcb, err_t error) {
  struct fetch *fetch = context;
  (void)pcb, (void)error;
  fetch->running = true;
  if (!send_request(fetch)) fetch_broke(fetch, 503);
  fetch->running = false;
  return fetch_leave(fetch);
}

static void on_error(void *context, err_t error) {
  struct fetch *fetch = context;
  (void)error;
  fetch->pcb = NULL;
  if (try_again(fetch)) return;
  fetch->running = true;
  fetch_broke(fetch, 502);
  fetch->running = false;
  fetch_leave(fetch);
}

static err_t on_poll(void *context, struct tcp_pcb *pcb) {
  struct fetch *fetch = context;
  (void)pcb;
  if (clock_ms() < fetch->deadline_ms) return ERR_OK;
  /* An origin is not to blame for a viewer that does not read. */
  if (fetch->state == FETCH_BODY && fetch->held != NULL) return ERR_OK;
  cache.metrics.timeouts++;
  fetch->running = true;
  fetch_broke(fetch, 504);
  fetch->running = false;
  return fetch_leave(fetch);
}

static err_t on_sent(void *context, struct tcp_pcb *pcb, u16_t length) {
  struct fetch *fetch = context;
  (void)pcb, (void)length;
  if (fetch->state == FETCH_HEAD && fetch->relay != NULL && !fetch->body_sent_whole) {
    fetch_deadline(fetch, cache.settings.hold_seconds);
    fetch->running = true;
    fetch_input(fetch->relay);
    fetch->running = false;
    if (fetch->dead) fetch_broke(fetch, 502);
    return fetch_leave(fetch);
  }
  return ERR_OK;
}

static err_t on_recv(void *context, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
  struct fetch *fetch = context;
  (void)pcb, (void)error;
  if (data == NULL) fetch->eof = true;
  else if (fetch->held == NULL) fetch->held = data, fetch->held_at = 0;
  else pbuf_cat(fetch->held, data);
  if (data != NULL && fetch->state == FETCH_BODY) fetch_deadline(fetch, FETCH_STALL_SECONDS);
  if (data == NULL && fetch->held == NULL && fetch->reused && !fetch->retried && fetch->state == FETCH_HEAD && fetch->gather.length == 0) {
    struct tcp_pcb *old = detach(fetch);
    fetch->eof = false;
    fetch->running = true;
    if (!try_again(fetch)) fetch_broke(fetch, 502);
    fetch->running = false;
    tcp_abort(old);
    fetch_leave(fetch);
    return ERR_ABRT;
  }
  fetch->running = true;
  fetch_take(fetch);
  fetch->running = false;
  return fetch_leave(fetch);
}

/* ---- viewers ---- */

void fetch_room(struct viewer *viewer) {
  struct fetch *fetch = viewer->fetch;
  if (fetch == NULL || fetch->held == NULL || fetch->running) return;
  bool was = viewer->running;
  viewer->running = true; /* it is being run by whoever called */
  fetch->running = true;
  fetch_deadline(fetch, FETCH_STALL_SECONDS);
  fetch_take(fetch);
  fetch->running = false;
  fetch_leave(fetch);
  viewer->running = was;
}

void fetch_forget(struct viewer *viewer) {
  struct fetch *fetch = viewer->fetch;
  for (struct viewer **at = &queue; viewer->queued && *at != NULL; at = &(*at)->next) {
    if (*at != viewer) continue;
    *at = viewer->next;
    break;
  }
  viewer->queued = false;
  if (fetch == NULL) return;
  viewer->fetch = NULL;
  for (struct viewer **at = &fetch->waiters; *at != NULL; at = &(*at)->next) {
    if (*at != viewer) continue;
    *at = viewer->next;
    break;
  }
  if (fetch->relay != viewer) return; /* a shared one goes on: others will ask */
  fetch->relay = NULL;
  fetch_end(fetch, false);
}
