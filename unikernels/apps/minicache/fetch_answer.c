/* What the head of an answer means for the cache and for those who wait. See fetch.h. */
#include "fetch.h"
#include "conditional.h"
#include "hls.h"
#include "key.h"
#include "respond.h"
#include "serve.h"
#include "text.h"

/* One static place for metas under way: there is one thread, and nothing keeps it. */
static uint8_t meta[STORE_META_BYTES];

static struct viewer *take_waiter(struct fetch *fetch) {
  struct viewer *viewer = fetch->waiters;
  if (viewer == NULL) return NULL;
  fetch->waiters = viewer->next;
  viewer->next = NULL;
  viewer->fetch = NULL;
  return viewer;
}

static void serve_all(struct fetch *fetch, struct object *object, enum outcome first, enum outcome others) {
  enum outcome outcome = first;
  for (struct viewer *viewer; (viewer = take_waiter(fetch)) != NULL; outcome = others) {
    struct kept kept;
    size_t length;
    const void *bytes = object_meta(object, &length);
    if (meta_read(&kept, bytes, length)) respond_object(viewer, object, &kept, outcome);
    else respond_status(viewer, 502, SLICE(""));
    viewer_run(viewer);
  }
}

/* The stale answer stands in, if it may. */
static bool serve_stale(struct fetch *fetch, bool disconnected) {
  struct kept kept;
  size_t length;
  if (fetch->stale == NULL) return false;
  const void *bytes = object_meta(fetch->stale, &length);
  if (!meta_read(&kept, bytes, length) || !policy_usable_on_error(&kept.meta.fitness, &fetch->asked, clock_seconds(), disconnected)) return false;
  serve_all(fetch, fetch->stale, OUTCOME_STALE, OUTCOME_STALE);
  return true;
}

void fetch_failed(struct fetch *fetch, uint16_t status) {
  cache.metrics.fetch_errors++;
  if (!serve_stale(fetch, true)) {
    struct kept kept;
    size_t length;
    const void *bytes = fetch->stale == NULL ? NULL : object_meta(fetch->stale, &length);
    /* RFC 9111 5.2.2.2: what must be validated and cannot be is 504. */
    if (bytes != NULL && meta_read(&kept, bytes, length) && kept.meta.fitness.never_stale) status = 504;
    for (struct viewer *viewer; (viewer = take_waiter(fetch)) != NULL;) {
      if (fetch->relay == viewer) fetch->relay = NULL;
      viewer->keep_alive = viewer->keep_alive && http_body_done(&viewer->body);
      respond_status(viewer, status, SLICE(""));
      viewer_run(viewer);
    }
  }
  fetch->relay = NULL;
  fetch_end(fetch, false);
}

static void begin_relay(struct fetch *fetch, struct viewer *viewer, enum outcome outcome) {
  fetch->mode = MODE_RELAY;
  fetch->relay = viewer;
  viewer->fetch = fetch;
  respond_relay_head(viewer, &fetch->response, outcome);
  bool was = viewer->running;
  viewer->running = true; /* its end comes with the exchange's, not before */
  tcp_output(viewer->pcb);
  viewer->running = was;
}

/* To one of those who wait, and the others ask for themselves: nobody stands in line for what is not shared. */
static void relay_one(struct fetch *fetch) {
  struct viewer *chosen = NULL, *others = NULL, *next;
  fetch->mode = MODE_DRAIN;
  for (struct viewer *viewer; (viewer = take_waiter(fetch)) != NULL;) {
    bool plain = viewer->request.method == METHOD_GET && !http_has(&viewer->request, FIELD_RANGE);
    if (plain && chosen == NULL) {
      chosen = viewer;
      continue;
    }
    viewer->next = others;
    others = viewer;
  }
  fetch->body_sent_whole = true;
  if (chosen != NULL) begin_relay(fetch, chosen, OUTCOME_PASS);
  for (; others != NULL; others = next) {
    next = others->next;
    others->next = NULL;
    others->alone = true;
    serve_again(others);
  }
  if (chosen == NULL && fetch->state == FETCH_BODY && !http_body_done(&fetch->body)) fetch_end(fetch, false);
}

static struct slice url_host(const struct fetch *fetch) { return (struct slice){fetch->buffer + fetch->host_at, fetch->host_length}; }

/* All Vary lines as one list, in a static place. */
static struct slice vary_names(const struct http_head *response) {
  static char names[512];
  struct text text = {names, 0, sizeof names, false};
  for (int i = -1; (i = http_next(response, FIELD_VARY, i)) >= 0;) {
    if (text.length > 0) text_literal(&text, ",");
    text_slice(&text, http_value(response, (unsigned)i));
  }
  return text.full ? NO_SLICE : (struct slice){names, text.length};
}

/* Sees to it that the URL's marker names these fields; its generation. False: no room. */
static bool put_marker(struct fetch *fetch, struct slice names, struct slice url, const struct fitness *fitness, uint64_t *generation) {
  struct object *there = store_find(cache.store, fetch->url_key);
  struct kept kept;
  size_t length;
  int error;
  if (there != NULL) {
    const void *bytes = object_meta(there, &length);
    bool same = meta_read(&kept, bytes, length) && (kept.meta.flags & META_MARKER) && slice_same(kept.head, names);
    if (same) *generation = kept.meta.generation;
    object_release(there);
    if (same) return true;
  }
  shoal_random(generation, sizeof *generation);
  length = meta_write_marker(meta, names, *generation, url, fitness);
  struct object *marker = length == 0 ? NULL : store_create(cache.store, fetch->url_key, meta, length, 0, &error);
  if (marker == NULL) return false;
  struct sha256 sha;
  uint8_t digest[32];
  sha256_begin(&sha);
  sha256_end(&sha, digest);
  object_complete(marker, digest);
  object_release(marker);
  return true;
}

static struct slice url_of(const struct fetch *fetch) {
  static char url[2048];
  struct text text = {url, 0, sizeof url, false};
  text_slice(&text, url_host(fetch));
  text_slice(&text, (struct slice){fetch->buffer + fetch->target_at, fetch->target_length});
  return (struct slice){url, text.length};
}

/* Makes the object that is filled. False: it is not to be had, the answer is passed on. */
static bool begin_fill(struct fetch *fetch, const struct judged *judged) {
  struct http_head request;
  struct slice names = vary_names(&fetch->response), url = url_of(fetch);
  uint64_t generation = 0, length = fetch->response.framing == FRAMING_LENGTH ? fetch->response.length : fetch->response.framing == FRAMING_NONE ? 0 : STORE_UNKNOWN;
  int error;
  if (names.at == NULL) return false;
  memcpy(fetch->key, fetch->url_key, STORE_KEY_BYTES);
  if (names.length > 0) {
    if (!put_marker(fetch, names, url, &judged->fitness, &generation) || http_read_request(&request, fetch->buffer, fetch->request_length) != 0) return false;
    key_of_variant(fetch->key, fetch->url_key, generation, names, &request);
  }
  size_t size = meta_write(meta, &fetch->response, &judged->fitness, url, clock_seconds());
  if (size > 0 && fetch->waiters == NULL && fetch->stale == NULL) meta_change_flags(meta, META_AHEAD, 0);
  fetch->object = size == 0 ? NULL : store_create(cache.store, fetch->key, meta, size, length, &error);
  if (fetch->object == NULL) return false;
  fetch->mode = MODE_FILL;
  sha256_begin(&fetch->digest);
  struct object *object = fetch->object;
  object_hold(object);
  struct viewer *waiters = fetch->waiters, *others = NULL, *next;
  fetch->waiters = NULL;
  enum outcome outcome = OUTCOME_MISS;
  if (waiters != NULL) hls_ahead(waiters);
  for (; waiters != NULL; waiters = next) {
    next = waiters->next;
    waiters->next = NULL;
    waiters->fetch = NULL;
    if (names.length > 0) key_of_variant(waiters->key, fetch->url_key, generation, names, &waiters->request);
    else memcpy(waiters->key, fetch->url_key, STORE_KEY_BYTES);
    if (memcmp(waiters->key, fetch->key, STORE_KEY_BYTES) == 0) {
      struct kept kept;
      const void *bytes = object_meta(object, &size);
      if (meta_read(&kept, bytes, size)) respond_object(waiters, object, &kept, outcome);
      outcome = OUTCOME_JOINED;
      viewer_run(waiters);
    } else {
      waiters->next = others;
      others = waiters;
    }
  }
  for (; others != NULL; others = next) {
    next = others->next;
    others->next = NULL;
    serve_again(others);
  }
  object_release(object);
  return true;
}

/* RFC 9111 4.3.4. */
static void freshen(struct fetch *fetch) {
  static char merged[HTTP_HEAD_BYTES];
  static struct http_head head;
  struct object *object = fetch->stale;
  struct kept kept;
  size_t length;
  const void *bytes = object_meta(object, &length);
  bool sound = meta_read(&kept, bytes, length);
  struct slice etag = http_field(&fetch->response, FIELD_ETAG);
  bool own = sound && (kept.meta.flags & META_OWN_ETAG);
  if (sound) {
    length = meta_merge(merged, sizeof merged, &kept, &fetch->response);
    sound = length > 0 && http_read_response(&head, merged, length, METHOD_HEAD) == 0;
  }
  if (!sound) {
    store_remove(cache.store, object);
    for (struct viewer *viewer; (viewer = take_waiter(fetch)) != NULL;) serve_again(viewer);
    return;
  }
  struct judged judged = policy_judge(&cache.settings.policy, &head, &fetch->asked, fetch->authorized, fetch->sent_seconds, clock_seconds());
  static char url[2048];
  size_t url_length = kept.url.length < sizeof url ? kept.url.length : 0;
  memcpy(url, kept.url.at, url_length);
  length = meta_write(meta, &head, &judged.fitness, (struct slice){url, url_length}, clock_seconds());
  if (length > 0 && own && etag.at == NULL) meta_change_flags(meta, META_OWN_ETAG, 0);
  bool kept_on = length > 0 && object_set_meta(object, meta, length) == 0;
  cache.metrics.revalidated++;
  object_hold(object);
  if (!kept_on || !judged.storable) store_remove(cache.store, object);
  serve_all(fetch, object, OUTCOME_REVALIDATED, OUTCOME_REVALIDATED);
  object_release(object);
}

static void remove_key(const uint8_t key[STORE_KEY_BYTES]) {
  struct object *object = store_find(cache.store, key);
  if (object == NULL) return;
  store_remove(cache.store, object);
  object_release(object);
}

/* RFC 9111 4.4: the target, and what the answer names on the same host. */
static void invalidate(const struct fetch *fetch, struct slice host) {
  static const enum http_field named[2] = {FIELD_LOCATION, FIELD_CONTENT_LOCATION};
  remove_key(fetch->url_key);
  for (unsigned i = 0; i < 2; i++) {
    struct slice value = http_field(&fetch->response, named[i]);
    uint8_t key[STORE_KEY_BYTES];
    if (value.length > 7 && slice_same((struct slice){value.at, 7}, SLICE("http://"))) {
      struct slice rest = slice_from(value, 7), there = {rest.at, slice_find(rest, '/')};
      if (!slice_same(there, host)) continue;
      value = slice_from(rest, there.length);
    }
    if (value.length == 0 || value.at[0] != '/') continue;
    key_of_url(key, host, value);
    remove_key(key);
  }
}

static void answer_passed(struct fetch *fetch) {
  uint16_t status = fetch->response.status;
  struct viewer *viewer = take_waiter(fetch);
  bool safe = fetch->method == METHOD_GET || fetch->method == METHOD_HEAD || fetch->method == METHOD_OPTIONS;
  if (viewer == NULL) {
    fetch_end(fetch, false);
    return;
  }
  if (!safe && status >= 200 && status < 400) invalidate(fetch, viewer->host);
  begin_relay(fetch, viewer, OUTCOME_PASS);
}

void fetch_answer(struct fetch *fetch) {
  const struct http_head *response = &fetch->response;
  if (fetch->kind == FETCH_PASSED) {
    answer_passed(fetch);
    return;
  }
  fetch->body_sent_whole = true;
  fetch->mode = MODE_DRAIN;
  if (response->status == 304 && fetch->stale != NULL) {
    freshen(fetch);
    return;
  }
  if (response->status == 304 || response->status == 206) { /* nobody asked for that */
    fetch_failed(fetch, 502);
    return;
  }
  if (response->status >= 500 && serve_stale(fetch, false)) {
    fetch_end(fetch, false);
    return;
  }
  struct judged judged = policy_judge(&cache.settings.policy, response, &fetch->asked, fetch->authorized, fetch->sent_seconds, clock_seconds());
  if (judged.storable && begin_fill(fetch, &judged)) return;
  if (response->status < 400 && fetch->stale != NULL) store_remove(cache.store, fetch->stale);
  relay_one(fetch);
}
