/*
 * Bodies on their way: from a store's object, whole or still being filled, as one span or several, by reference. Goes as far as there
 * is room and bytes; an acknowledgement or the object's watcher comes back to it.
 */
#include "respond.h"
#include "text.h"
#include "viewer.h"

/* Smaller writes than this wait for acknowledgements, unless nothing more is to come. */
#define LEAST_WRITE_BYTES (4 * TCP_MSS)
/* With more than this in the send buffer, what an acknowledgement makes room for waits for the next one: it leaves with that as one long frame of up to
 * 64 KB, which costs whoever carries it, and whoever acknowledges it, little more than a short one. */
#define REFILL_BYTES (TCP_SND_BUF / 3 * 2)

static void on_change(void *context, struct object *object) {
  (void)object;
  viewer_run(context);
}

static void on_chunk(void *context, int status, struct chunk *chunk) {
  struct viewer *viewer = context;
  viewer->reading_chunk = false;
  if (status < 0) viewer_kill(viewer);
  else viewer->early = chunk;
  viewer_run(viewer);
}

void sending_begin(struct viewer *viewer, struct object *object) {
  if (viewer->object != object) {
    object_hold(object);
    viewer->object = object;
  }
  viewer->reading = (struct reading){.ready = on_chunk, .arg = viewer};
  if (object_state(object) == 0 && !viewer->watching) {
    viewer->watcher = (struct watcher){.changed = on_change, .arg = viewer};
    object_watch(object, &viewer->watcher);
    viewer->watching = true;
  }
}

void sending_end(struct viewer *viewer) {
  if (viewer->object == NULL) return;
  if (viewer->watching) object_unwatch(viewer->object, &viewer->watcher);
  if (viewer->reading_chunk) object_unread(viewer->object, &viewer->reading);
  if (viewer->early != NULL) chunk_release(viewer->early);
  object_release(viewer->object);
  viewer->object = NULL;
  viewer->early = NULL;
  viewer->watching = viewer->reading_chunk = false;
}

static bool write_size(struct viewer *viewer, uint32_t size) {
  char line[12];
  static const char digits[] = "0123456789abcdef";
  size_t at = sizeof line;
  line[--at] = '\n';
  line[--at] = '\r';
  do line[--at] = digits[size % 16], size /= 16;
  while (size > 0);
  return viewer_write(viewer, line + at, sizeof line - at);
}

/* Sends up to `most` bytes from viewer->at on. 1: some, 0: not now, -1: over. */
static int send_some(struct viewer *viewer, uint64_t most) {
  uint32_t room = viewer_room(viewer);
  if (room < LEAST_WRITE_BYTES && room < most) {
    viewer->filled = true;
    return 0;
  }
  if (viewer->filled && TCP_SND_BUF - tcp_sndbuf(viewer->pcb) > REFILL_BYTES) return 0;
  viewer->filled = false;
  struct chunk *chunk = viewer->early;
  viewer->early = NULL;
  if (chunk == NULL) {
    int status = object_read(viewer->object, viewer->at, &chunk, &viewer->reading);
    if (status < 0) return -1;
    if (status == 0) {
      viewer->reading_chunk = true;
      return 0;
    }
  }
  uint32_t count = chunk->length < room ? chunk->length : room;
  if (count > most) count = (uint32_t)most;
  if (viewer->chunked && !write_size(viewer, count)) {
    chunk_release(chunk);
    return -1;
  }
  if (!viewer_write_chunk(viewer, chunk, count, count < most)) {
    /* Memory comes with an acknowledgement, to this viewer or to another: then, or in the next second, once more. */
    viewer->early = chunk;
    return viewer->dead || viewer->chunked ? -1 : 0;
  }
  if (viewer->chunked && !viewer_write(viewer, "\r\n", 2)) return -1;
  viewer->at += count;
  viewer->body_sent += count;
  return 1;
}

bool sending_pump(struct viewer *viewer) {
  struct object *object = viewer->object;
  while (viewer->span < viewer->span_count) {
    struct range *span = &viewer->spans[viewer->span];
    if (!viewer->in_part) {
      if (viewer->span_count > 1) {
        if (viewer_room(viewer) < RESPOND_PART_BYTES) return false;
        if (!respond_part(viewer)) return false;
      }
      viewer->at = span->from;
      viewer->in_part = true;
    }
    while (viewer->at < span->to) {
      if (viewer->reading_chunk) return false;
      uint64_t available = object_available(object);
      int state = object_state(object);
      if (viewer->at >= available || state < 0) {
        if (state == 0) return false;
        if (state < 0) { /* cut short: the client must see that it is */
          viewer_kill(viewer);
          return false;
        }
        span->to = object_length(object);
        if (viewer->at >= span->to) break;
        viewer_kill(viewer);
        return false;
      }
      uint64_t end = available < span->to ? available : span->to;
      int sent = send_some(viewer, end - viewer->at);
      if (sent < 0) viewer_kill(viewer);
      if (sent <= 0) return false;
    }
    viewer->in_part = false;
    viewer->span++;
  }
  if (viewer->span_count > 1 && !respond_last_part(viewer)) return false;
  if (viewer->chunked && !viewer_write(viewer, "0\r\n\r\n", 5)) return false;
  return true;
}
