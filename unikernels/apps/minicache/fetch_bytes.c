/* Bytes of an answer on their way: out of their framing, into an object or on to a viewer, held back where there is no room. */
#include "fetch.h"
#include "respond.h"

static void on_object(void *context, struct object *object) {
  struct fetch *fetch = context;
  (void)object;
  if (fetch->held == NULL || fetch->running) return;
  fetch->running = true;
  fetch_take(fetch);
  fetch->running = false;
  fetch_leave(fetch);
}

/* Where content goes. Bytes taken, or -1: the exchange is over. */
static int64_t put(struct fetch *fetch, const char *data, size_t length) {
  if (fetch->mode == MODE_FILL) {
    int64_t taken = object_append(fetch->object, data, length);
    if (taken < 0) return -1;
    sha256_add(&fetch->digest, data, (size_t)taken);
    cache.metrics.fetched_bytes += (uint64_t)taken;
    if ((size_t)taken < length && !fetch->watching) {
      fetch->watcher = (struct watcher){.changed = on_object, .arg = fetch};
      object_watch(fetch->object, &fetch->watcher);
      fetch->watching = true;
    }
    return taken;
  }
  if (fetch->mode == MODE_RELAY && fetch->relay != NULL) {
    size_t taken = respond_relay(fetch->relay, data, length);
    cache.metrics.fetched_bytes += taken;
    tcp_output(fetch->relay->pcb);
    return (int64_t)taken;
  }
  return (int64_t)length;
}

static void whole(struct fetch *fetch) {
  bool reuse = fetch->response.keep_alive && fetch->body.framing != FRAMING_CLOSE && fetch->held == NULL && (fetch->relay == NULL || fetch->body_sent_whole);
  if (fetch->mode == MODE_FILL) {
    static uint8_t meta[STORE_META_BYTES];
    uint8_t digest[32];
    struct kept kept;
    size_t length;
    sha256_end(&fetch->digest, digest);
    const void *bytes = object_meta(fetch->object, &length);
    if (meta_read(&kept, bytes, length) && kept.etag.length == 0 && kept.meta.status == 200) {
      length = meta_write_etag(meta, &kept, digest);
      if (length > 0) object_set_meta(fetch->object, meta, length);
    }
    if (object_complete(fetch->object, digest) < 0) object_abandon(fetch->object, STORE_CORRUPT);
  } else if (fetch->mode == MODE_RELAY && fetch->relay != NULL) {
    struct viewer *viewer = fetch->relay;
    fetch->relay = NULL;
    viewer->fetch = NULL;
    respond_relay_end(viewer, true);
    fetch_end(fetch, reuse);
    viewer_run(viewer);
    return;
  }
  fetch_end(fetch, reuse);
}

/* Content out of one stretch of bytes. How many were taken; the exchange may be over after. */
static size_t take_body(struct fetch *fetch, const char *bytes, size_t size) {
  size_t at = 0;
  while (at < size && fetch->state == FETCH_BODY && !http_body_done(&fetch->body)) {
    struct http_body before = fetch->body;
    const char *data;
    size_t length;
    int64_t taken = http_body_take(&fetch->body, bytes + at, size - at, &data, &length);
    if (taken < 0) {
      fetch_broke(fetch, 502);
      return at;
    }
    int64_t put_bytes = length > 0 ? put(fetch, data, length) : 0;
    if (put_bytes < 0) {
      fetch_broke(fetch, 502);
      return at;
    }
    if ((size_t)put_bytes < length) { /* the rest once more, later */
      fetch->body = before;
      size_t skipped = (size_t)(data - (bytes + at)) + (size_t)put_bytes;
      if (skipped > 0) http_body_take(&fetch->body, bytes + at, skipped, &data, &length);
      return at + skipped;
    }
    at += (size_t)taken;
  }
  return at;
}

/* Goes through what is held, as far as it finds a place. */
void fetch_take(struct fetch *fetch) {
  while (fetch->held != NULL && (fetch->state == FETCH_HEAD || fetch->state == FETCH_BODY)) {
    struct pbuf *part = fetch->held;
    const char *bytes = (const char *)part->payload + fetch->held_at;
    size_t left = part->len - fetch->held_at, taken = 0;
    enum http_result result = HTTP_MORE;
    if (fetch->state == FETCH_HEAD) {
      result = http_gather(&fetch->gather, bytes, left, &taken);
    } else {
      taken = take_body(fetch, bytes, left);
      if (fetch->state == FETCH_IDLE) return;
      if (http_body_done(&fetch->body) && taken < left) fetch->response.keep_alive = false, taken = left; /* more than was announced */
      else if (taken == 0 && left > 0) return;
    }
    if (fetch->pcb != NULL) tcp_recved(fetch->pcb, (u16_t)taken);
    fetch->held_at = (uint16_t)(fetch->held_at + taken);
    if (fetch->held_at == part->len) {
      fetch->held = part->next;
      fetch->held_at = 0;
      if (part->next != NULL) pbuf_ref(part->next);
      pbuf_free(part);
    }
    if (result == HTTP_LONG) {
      fetch_broke(fetch, 502);
      return;
    }
    if (result == HTTP_DONE) {
      if (http_read_response(&fetch->response, fetch->gather.buffer, fetch->gather.length, fetch->method) != 0 || fetch->response.status == 101) {
        fetch_broke(fetch, 502);
        return;
      }
      if (fetch->response.status < 200) {
        for (struct viewer *viewer = fetch->waiters; viewer != NULL; viewer = viewer->next) respond_interim(viewer, &fetch->response);
        for (struct viewer *viewer = fetch->waiters; viewer != NULL; viewer = viewer->next) tcp_output(viewer->pcb);
        fetch->gather.length = fetch->gather.line = 0;
        continue;
      }
      http_body_begin(&fetch->body, &fetch->response);
      fetch->state = FETCH_BODY;
      fetch_deadline(fetch, FETCH_STALL_SECONDS);
      fetch_answer(fetch);
    }
    if (fetch->state == FETCH_BODY && http_body_done(&fetch->body)) {
      whole(fetch);
      return;
    }
  }
  if (fetch->eof && fetch->held == NULL && fetch->state != FETCH_IDLE) {
    if (fetch->state == FETCH_BODY && fetch->body.framing == FRAMING_CLOSE) whole(fetch);
    else fetch_broke(fetch, 502);
  }
}
