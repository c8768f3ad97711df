/* See serve.h. */
#include "serve.h"
#include "admin.h"
#include "counters.h"
#include "fetch.h"
#include "hls.h"
#include "key.h"
#include "log.h"
#include "respond.h"
#include "signed_url.h"

/* A range that begins later in something unknown is asked of the origin as it is: the whole would take too long to come by. */
#define FAR_RANGE_BYTES (1u << 20)
#define MOST_TRIES 3u
#define BODY_MOST_BYTES (1ull << 30) /* of a request */

/* The kept answer for this request, held; NULL: none. Sets the viewer's key. */
static struct object *find(struct viewer *viewer, struct kept *kept) {
  struct object *object = store_find(cache.store, viewer->url_key);
  size_t length;
  memcpy(viewer->key, viewer->url_key, STORE_KEY_BYTES);
  for (unsigned depth = 0; object != NULL; depth++) {
    const void *bytes = object_meta(object, &length);
    bool sound = meta_read(kept, bytes, length), marker = sound && (kept->meta.flags & META_MARKER);
    if (sound && !marker) return object;
    if (marker) key_of_variant(viewer->key, viewer->url_key, kept->meta.generation, kept->head, &viewer->request);
    if (marker) store_touch(object);
    if (!sound) store_remove(cache.store, object);
    object_release(object);
    object = marker && depth == 0 ? store_find(cache.store, viewer->key) : NULL;
  }
  return NULL;
}

static void pass(struct viewer *viewer) {
  viewer->passing = true;
  if (!fetch_has_place()) fetch_wait(viewer);
  else if (fetch_begin(viewer, FETCH_PASSED, NULL, false)) cache.metrics.passed++;
  else respond_status(viewer, 503, SLICE("Retry-After: 1\r\n"));
}

static bool asks_far_range(const struct viewer *viewer) {
  struct slice value = http_field(&viewer->request, FIELD_RANGE);
  uint64_t from;
  if (value.length < 8 || memcmp(value.at, "bytes=", 6) != 0) return false;
  value = slice_from(value, 6);
  return slice_number((struct slice){value.at, slice_find(value, '-')}, INT64_MAX, &from) && from > FAR_RANGE_BYTES;
}

/* The first viewer of what was fetched ahead: the one after it is next. */
static void go_ahead(struct viewer *viewer, struct object *object, struct kept *kept) {
  static uint8_t changed[STORE_META_BYTES];
  size_t length;
  const void *bytes = object_meta(object, &length);
  memcpy(changed, bytes, length);
  meta_change_flags(changed, 0, META_AHEAD);
  if (object_set_meta(object, changed, length) != 0) return;
  bytes = object_meta(object, &length);
  if (!meta_read(kept, bytes, length)) shoal_panic("serve: a meta that was just written");
  hls_ahead(viewer);
}

static void lookup(struct viewer *viewer) {
  struct kept kept;
  struct object *object = find(viewer, &kept), *stale = NULL;
  bool only_if_cached = (viewer->asked.set & CC_ONLY_IF_CACHED) != 0;
  if (object != NULL) {
    enum usable usable = policy_usable(&kept.meta.fitness, &viewer->asked, clock_seconds());
    if (usable != USABLE_AFTER_VALIDATION) {
      bool behind = usable == USABLE_STALE_REVALIDATE;
      store_touch(object);
      if (kept.meta.flags & META_AHEAD) go_ahead(viewer, object, &kept);
      if (behind && !fetch_is_active(viewer->key)) fetch_begin(viewer, FETCH_SHARED, object, true);
      respond_object(viewer, object, &kept, behind ? OUTCOME_STALE : OUTCOME_HIT);
      object_release(object);
      return;
    }
    if (object_state(object) == 1) stale = object;
  }
  bool head_miss = viewer->request.method == METHOD_HEAD && stale == NULL;
  if (only_if_cached) respond_status(viewer, 504, SLICE(""));
  else if (viewer->alone || head_miss || ++viewer->tries > MOST_TRIES || (stale == NULL && asks_far_range(viewer))) pass(viewer);
  else if (fetch_join(viewer)) cache.metrics.collapsed++;
  else if (!fetch_has_place()) viewer->tries--, fetch_wait(viewer);
  else if (!fetch_begin(viewer, FETCH_SHARED, stale, false)) respond_status(viewer, 503, SLICE("Retry-After: 1\r\n"));
  if (object != NULL) object_release(object);
}

void serve_again(struct viewer *viewer) {
  viewer->state = VIEWER_WAITING;
  if (viewer->passing) pass(viewer);
  else lookup(viewer);
  viewer_run(viewer);
}

/* Host and path out of the two forms of targets (RFC 9112 3.2). */
static void read_url(struct viewer *viewer) {
  struct slice target = http_target(&viewer->request), host = http_field(&viewer->request, FIELD_HOST);
  if (target.at[0] != '/' && target.at[0] != '*') {
    struct slice rest = slice_from(target, 7);
    size_t end = 0;
    while (end < rest.length && rest.at[end] != '/' && rest.at[end] != '?') end++;
    host = (struct slice){rest.at, end};
    target = slice_from(rest, end);
    if (target.length == 0 || target.at[0] != '/') target = SLICE("/");
  }
  if (host.at == NULL) host = SLICE("");
  viewer->host = host;
  viewer->target = target;
}

static bool went_through_here(const struct viewer *viewer) {
  for (int i = -1; (i = http_next(&viewer->request, FIELD_VIA, i)) >= 0;) {
    struct slice list = http_value(&viewer->request, (unsigned)i), element;
    while (slice_next(&list, &element)) {
      struct slice by = slice_trim(slice_from(element, slice_find(element, ' ')));
      by.length = slice_find(by, ' ');
      if (slice_equal(by, cache.settings.name)) return true;
    }
  }
  return false;
}

static bool is_preflight(const struct viewer *viewer) {
  return cache.settings.cors && viewer->request.method == METHOD_OPTIONS && http_has(&viewer->request, FIELD_ORIGIN) &&
         http_has(&viewer->request, FIELD_ACCESS_CONTROL_REQUEST_METHOD);
}

#define PREFLIGHT                                                                                                                 \
  "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: GET, HEAD, OPTIONS\r\nAccess-Control-Allow-Headers: *, Range\r\n" \
  "Access-Control-Max-Age: 86400\r\n"

static void dispatch(struct viewer *viewer) {
  const struct http_head *request = &viewer->request;
  if (went_through_here(viewer)) {
    respond_status(viewer, 508, SLICE(""));
  } else if (is_preflight(viewer)) {
    viewer->outcome = OUTCOME_ADMIN;
    respond_body(viewer, 204, SLICE(""), SLICE(PREFLIGHT), SLICE(""));
  } else if (viewer->target.at[0] == '*') {
    viewer->outcome = OUTCOME_ADMIN;
    respond_body(viewer, 204, SLICE(""), SLICE("Allow: GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE\r\n"), SLICE(""));
  } else if (cache.settings.sign_key.length > 0 && !signed_url_check(&viewer->target, cache.settings.sign_key, (int64_t)(shoal_wall_ns() / 1000000000ull))) {
    respond_status(viewer, 403, SLICE("Cache-Control: no-store\r\n"));
  } else {
    key_of_url(viewer->url_key, viewer->host, viewer->target);
    memcpy(viewer->key, viewer->url_key, STORE_KEY_BYTES);
    viewer->asked = policy_request(request);
    bool cached = (request->method == METHOD_GET || request->method == METHOD_HEAD) && request->framing == FRAMING_NONE;
    if (cached) lookup(viewer);
    else if (request->framing == FRAMING_LENGTH && request->length > BODY_MOST_BYTES) respond_status(viewer, 413, SLICE(""));
    else pass(viewer);
  }
}

void serve_request(struct viewer *viewer, int status) {
  cache.metrics.requests++;
  viewer->counted = true;
  viewer->outcome = OUTCOME_NONE;
  viewer->tries = 0;
  viewer->alone = viewer->passing = false;
  viewer->status = 0;
  viewer->sent = viewer->body_sent = 0;
  viewer->state = VIEWER_WAITING;
  if (status != 0) {
    memset(&viewer->request, 0, offsetof(struct http_head, ids));
    viewer->body = (struct http_body){.framing = FRAMING_CLOSE}; /* whatever follows is not read */
    viewer->keep_alive = false;
    viewer->host = viewer->target = SLICE("");
    respond_status(viewer, (uint16_t)status, SLICE(""));
    return;
  }
  viewer->keep_alive = viewer->request.keep_alive;
  http_body_begin(&viewer->body, &viewer->request);
  read_url(viewer);
  if (viewer->admin) admin_request(viewer);
  else dispatch(viewer);
}

void serve_count(struct viewer *viewer) {
  struct metrics *metrics = &cache.metrics;
  viewer->counted = false;
  metrics->sent_bytes += viewer->sent;
  metrics->by_class[viewer->status >= 100 && viewer->status < 600 ? viewer->status / 100 : 0]++;
  bool hit = viewer->outcome == OUTCOME_HIT || viewer->outcome == OUTCOME_STALE;
  if (hit) metrics->hits++;
  if (viewer->outcome == OUTCOME_MISS || viewer->outcome == OUTCOME_JOINED) metrics->misses++;
  if (viewer->outcome == OUTCOME_STALE) metrics->stale_served++;
  if (viewer->admin) return;
  counters_add(viewer, hit);
  log_add(viewer);
}
