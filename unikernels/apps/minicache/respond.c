/* See respond.h. Heads are made in one scratch text and copied into the connection. */
#include "respond.h"
#include "conditional.h"
#include "date.h"
#include "text.h"

static char scratch[HTTP_HEAD_BYTES];
static char boundary[24];

static struct text begin(void) { return (struct text){scratch, 0, sizeof scratch, false}; }

#define RELAYED_AT_ONCE 16384u

static struct slice status_line(uint16_t status) {
  switch (status) {
    case 200: return SLICE("HTTP/1.1 200 OK\r\n");
    case 204: return SLICE("HTTP/1.1 204 No Content\r\n");
    case 206: return SLICE("HTTP/1.1 206 Partial Content\r\n");
    case 304: return SLICE("HTTP/1.1 304 Not Modified\r\n");
    case 400: return SLICE("HTTP/1.1 400 Bad Request\r\n");
    case 401: return SLICE("HTTP/1.1 401 Unauthorized\r\n");
    case 403: return SLICE("HTTP/1.1 403 Forbidden\r\n");
    case 404: return SLICE("HTTP/1.1 404 Not Found\r\n");
    case 405: return SLICE("HTTP/1.1 405 Method Not Allowed\r\n");
    case 408: return SLICE("HTTP/1.1 408 Request Timeout\r\n");
    case 412: return SLICE("HTTP/1.1 412 Precondition Failed\r\n");
    case 413: return SLICE("HTTP/1.1 413 Content Too Large\r\n");
    case 414: return SLICE("HTTP/1.1 414 URI Too Long\r\n");
    case 416: return SLICE("HTTP/1.1 416 Range Not Satisfiable\r\n");
    case 431: return SLICE("HTTP/1.1 431 Request Header Fields Too Large\r\n");
    case 501: return SLICE("HTTP/1.1 501 Not Implemented\r\n");
    case 502: return SLICE("HTTP/1.1 502 Bad Gateway\r\n");
    case 503: return SLICE("HTTP/1.1 503 Service Unavailable\r\n");
    case 504: return SLICE("HTTP/1.1 504 Gateway Timeout\r\n");
    case 505: return SLICE("HTTP/1.1 505 HTTP Version Not Supported\r\n");
    case 508: return SLICE("HTTP/1.1 508 Loop Detected\r\n");
    default: return SLICE("HTTP/1.1 500 Internal Server Error\r\n");
  }
}

static void add_connection(struct text *head, const struct viewer *viewer) {
  if (!viewer->keep_alive) text_literal(head, "Connection: close\r\n");
  else if (viewer->request.minor == 0) text_literal(head, "Connection: keep-alive\r\n");
}

static void add_length(struct text *head, uint64_t length) {
  text_literal(head, "Content-Length: ");
  text_number(head, length);
  text_literal(head, "\r\n");
}

static void add_date(struct text *head) {
  static char now[DATE_BYTES];
  static int64_t written = -1;
  int64_t seconds = (int64_t)(shoal_wall_ns() / 1000000000ull);
  if (seconds != written) date_write(now, written = seconds);
  text_line(head, SLICE("Date"), (struct slice){now, DATE_BYTES});
}

/* What every answer from here says of its way. */
static void add_way(struct text *head, const struct viewer *viewer) {
  static const struct slice said[] = {SLICE(""), SLICE("; hit\r\n"), SLICE("; fwd=miss; stored\r\n"), SLICE("; fwd=miss; collapsed\r\n"), SLICE("; hit; detail=stale\r\n"),
                                      SLICE("; fwd=stale; fwd-status=304\r\n"), SLICE("; fwd=bypass\r\n"), SLICE("; detail=error\r\n"), SLICE("")};
  text_literal(head, "Via: 1.1 ");
  text_slice(head, cache.settings.name);
  if (said[viewer->outcome].length > 0) {
    text_literal(head, "\r\nCache-Status: ");
    text_slice(head, cache.settings.name);
    text_slice(head, said[viewer->outcome]);
  } else {
    text_literal(head, "\r\n");
  }
}

static bool has_line(struct slice head, struct slice name) {
  for (struct slice rest = head; rest.length > name.length;) {
    if (rest.at[name.length] == ':' && slice_same((struct slice){rest.at, name.length}, name)) return true;
    rest = slice_from(rest, slice_find(rest, '\n') + 1);
  }
  return false;
}

static void add_cors(struct text *head, const struct viewer *viewer, bool present) {
  if (!cache.settings.cors || present || !http_has(&viewer->request, FIELD_ORIGIN)) return;
  text_literal(head, "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: Content-Length, Content-Range, Date, Age, Cache-Status\r\n");
}

static void write_head(struct viewer *viewer, struct text *head) {
  text_literal(head, "\r\n");
  if (head->full) viewer_kill(viewer);
  else viewer_write(viewer, head->at, head->length);
}

void respond_body(struct viewer *viewer, uint16_t status, struct slice type, struct slice extra, struct slice body) {
  struct text head = begin();
  viewer->status = status;
  text_slice(&head, status_line(status));
  add_date(&head);
  if (status != 204) {
    text_line(&head, SLICE("Content-Type"), type);
    add_length(&head, body.length);
  }
  text_slice(&head, extra);
  add_cors(&head, viewer, status == 204);
  add_way(&head, viewer);
  add_connection(&head, viewer);
  write_head(viewer, &head);
  if (viewer->request.method != METHOD_HEAD && status != 204) viewer_write(viewer, body.at, body.length);
  viewer_finish(viewer);
}

void respond_status(struct viewer *viewer, uint16_t status, struct slice extra) {
  struct slice line = status_line(status);
  if (viewer->outcome == OUTCOME_NONE) viewer->outcome = OUTCOME_ERROR;
  if (status >= 500) cache.metrics.errors++;
  respond_body(viewer, status, SLICE("text/plain"), extra, slice_from(line, 9));
}

/* ---- from the store ---- */

/* Lines that describe a body, left out where there is none or another. */
static bool describes_body(struct slice line) {
  return slice_same((struct slice){line.at, line.length < 13 ? line.length : 13}, SLICE("content-type:")) ||
         slice_same((struct slice){line.at, line.length < 17 ? line.length : 17}, SLICE("content-encoding:"));
}

static void add_lines(struct text *head, struct slice lines, bool without_body) {
  struct slice rest = slice_from(lines, slice_find(lines, '\n') + 1);
  while (rest.length > 0) {
    struct slice line = {rest.at, slice_find(rest, '\n') + 1};
    if (line.length > rest.length) line.length = rest.length;
    if (!without_body || !describes_body(line)) text_slice(head, line);
    rest = slice_from(rest, line.length);
  }
}

static struct slice content_type(const struct kept *kept) {
  struct slice rest = kept->head;
  while (rest.length > 13) {
    size_t end = slice_find(rest, '\n') + 1;
    if (slice_same((struct slice){rest.at, 13}, SLICE("content-type:"))) return slice_trim((struct slice){rest.at + 13, end < 15 ? 0 : end - 15});
    rest = slice_from(rest, end);
  }
  return SLICE("application/octet-stream");
}

static void add_span(struct text *text, struct range span, uint64_t length) {
  text_literal(text, "bytes ");
  text_number(text, span.from);
  text_literal(text, "-");
  text_number(text, span.to - 1);
  text_literal(text, "/");
  text_number(text, length);
}

static void part_head(struct text *text, const struct viewer *viewer, unsigned index, const struct kept *kept) {
  text_literal(text, "\r\n--");
  text_bytes(text, boundary, sizeof boundary);
  text_literal(text, "\r\nContent-Type: ");
  text_slice(text, content_type(kept));
  text_literal(text, "\r\nContent-Range: ");
  add_span(text, viewer->spans[index], object_length(viewer->object));
  text_literal(text, "\r\n\r\n");
}

bool respond_part(struct viewer *viewer) {
  struct kept kept;
  struct text text = begin();
  size_t length;
  const void *bytes = object_meta(viewer->object, &length);
  if (!meta_read(&kept, bytes, length)) return false;
  part_head(&text, viewer, viewer->span, &kept);
  return viewer_write(viewer, text.at, text.length);
}

bool respond_last_part(struct viewer *viewer) {
  struct text text = begin();
  text_literal(&text, "\r\n--");
  text_bytes(&text, boundary, sizeof boundary);
  text_literal(&text, "--\r\n");
  return viewer_write(viewer, text.at, text.length);
}

/* The length of a multipart body: its parts' heads are as they will be written. */
static uint64_t parts_length(struct viewer *viewer, const struct kept *kept) {
  uint64_t total = 2 + 2 + sizeof boundary + 2 + 2;
  for (unsigned i = 0; i < viewer->span_count; i++) {
    char part[RESPOND_PART_BYTES];
    struct text text = {part, 0, sizeof part, false};
    part_head(&text, viewer, i, kept);
    if (text.full) return 0;
    total += text.length + viewer->spans[i].to - viewer->spans[i].from;
  }
  return total;
}

/* -1: the range waits for the length; 0: the whole; otherwise the status. */
static int choose_spans(struct viewer *viewer, struct object *object, const struct kept *kept, const struct validators *have) {
  uint64_t length = object_length(object);
  viewer->span_count = 1;
  viewer->spans[0] = (struct range){0, length};
  if (kept->meta.status != 200 || viewer->request.method != METHOD_GET || !http_has(&viewer->request, FIELD_RANGE) ||
      http_next(&viewer->request, FIELD_RANGE, viewer->request.first[FIELD_RANGE] - 1) >= 0 || !conditional_range_counts(&viewer->request, have))
    return 0;
  struct range ranges[RANGES_MOST];
  if (length == STORE_UNKNOWN) return ranges_read(http_field(&viewer->request, FIELD_RANGE), INT64_MAX, ranges) < 0 ? 0 : -1;
  int count = ranges_read(http_field(&viewer->request, FIELD_RANGE), length, ranges);
  if (count < 0) return 0;
  if (count == 0) return 416;
  memcpy(viewer->spans, ranges, (size_t)count * sizeof *ranges);
  viewer->span_count = (uint8_t)count;
  return count == 1 || parts_length(viewer, kept) > 0 ? 206 : 0;
}

static void on_length(void *context, struct object *object) {
  struct viewer *viewer = context;
  struct kept kept;
  size_t length;
  if (object_state(object) == 0) return;
  const void *bytes = object_meta(object, &length);
  if (object_state(object) < 0 || !meta_read(&kept, bytes, length)) {
    sending_end(viewer);
    respond_status(viewer, 502, SLICE(""));
  } else {
    object_hold(object);
    sending_end(viewer);
    respond_object(viewer, object, &kept, viewer->outcome);
    object_release(object);
  }
  viewer_run(viewer);
}

static void finish_bare(struct viewer *viewer, struct text *head, uint16_t status) {
  viewer->status = status;
  add_way(head, viewer);
  add_connection(head, viewer);
  write_head(viewer, head);
  viewer_finish(viewer);
}

void respond_object(struct viewer *viewer, struct object *object, const struct kept *kept, enum outcome outcome) {
  const struct fitness *fitness = &kept->meta.fitness;
  int64_t now = clock_seconds();
  uint32_t age = policy_age(fitness, now);
  uint64_t length = object_length(object);
  struct text head = begin();
  if (boundary[0] == '\0') {
    uint8_t random[12];
    struct text text = {boundary, 0, sizeof boundary, false};
    shoal_random(random, sizeof random);
    text_hex(&text, random, sizeof random);
  }
  viewer->outcome = (uint8_t)outcome;
  struct validators have = {.etag = kept->etag.length > 0 ? kept->etag : NO_SLICE, .modified = kept->meta.modified, .date = fitness->response_time};
  int judged = kept->meta.status == 200 ? conditional_judge(&viewer->request, &have) : 0;
  if (judged == 412) {
    respond_status(viewer, 412, SLICE(""));
    return;
  }
  bool aged = outcome != OUTCOME_MISS || age > 0;
  if (judged == 304) {
    text_slice(&head, status_line(304));
    add_lines(&head, kept->head, true);
    text_literal(&head, "Age: ");
    text_number(&head, age);
    text_literal(&head, "\r\n");
    finish_bare(viewer, &head, 304);
    return;
  }
  sending_begin(viewer, object);
  int partial = choose_spans(viewer, object, kept, &have);
  if (partial == -1) {
    viewer->state = VIEWER_WAITING;
    viewer->watcher.changed = on_length;
    return;
  }
  if (partial == 416) {
    char extra[64];
    struct text text = {extra, 0, sizeof extra, false};
    text_literal(&text, "Content-Range: bytes */");
    text_number(&text, length);
    text_literal(&text, "\r\n");
    sending_end(viewer);
    respond_status(viewer, 416, (struct slice){extra, text.length});
    return;
  }
  viewer->status = partial == 206 ? 206 : kept->meta.status;
  viewer->chunked = false;
  bool empty = viewer->status == 204 || viewer->request.method == METHOD_HEAD;
  if (partial == 206) {
    text_slice(&head, status_line(206));
    add_lines(&head, kept->head, viewer->span_count > 1);
    if (viewer->span_count > 1) {
      text_literal(&head, "Content-Type: multipart/byteranges; boundary=");
      text_bytes(&head, boundary, sizeof boundary);
      text_literal(&head, "\r\n");
      add_length(&head, parts_length(viewer, kept));
    } else {
      text_literal(&head, "Content-Range: ");
      add_span(&head, viewer->spans[0], length);
      text_literal(&head, "\r\n");
      add_length(&head, viewer->spans[0].to - viewer->spans[0].from);
    }
  } else {
    text_slice(&head, kept->head);
    if (length != STORE_UNKNOWN && viewer->status != 204) add_length(&head, length);
    if (length == STORE_UNKNOWN && !empty) {
      viewer->chunked = viewer->request.minor > 0;
      if (viewer->chunked) text_literal(&head, "Transfer-Encoding: chunked\r\n");
      else viewer->keep_alive = false;
    }
  }
  if (aged) {
    text_literal(&head, "Age: ");
    text_number(&head, age);
    text_literal(&head, "\r\n");
  }
  add_cors(&head, viewer, http_has(&viewer->request, FIELD_ORIGIN) && has_line(kept->head, SLICE("access-control-allow-origin")));
  add_way(&head, viewer);
  add_connection(&head, viewer);
  write_head(viewer, &head);
  if (empty) viewer->span_count = 0, viewer->chunked = false;
  viewer->span = 0;
  viewer->in_part = false;
  viewer->state = VIEWER_SENDING;
}

/* ---- passed on ---- */

static void add_passed(struct text *head, const struct http_head *response) {
  struct slice line = {response->text, 0};
  line.length = slice_find((struct slice){response->text, HTTP_HEAD_BYTES}, '\n') + 1;
  text_literal(head, "HTTP/1.1");
  text_slice(head, slice_from(line, 8));
  for (unsigned i = 0; i < response->line_count; i++) {
    bool ours = response->ids[i] == FIELD_CONTENT_LENGTH || response->ids[i] == FIELD_SURROGATE_KEY || response->ids[i] == FIELD_XKEY ||
                response->ids[i] == FIELD_SURROGATE_CONTROL;
    if (!ours && !http_is_hop_by_hop(response, i)) text_line(head, http_name(response, i), http_value(response, i));
  }
}

void respond_relay_head(struct viewer *viewer, const struct http_head *response, enum outcome outcome) {
  struct text head = begin();
  viewer->outcome = (uint8_t)outcome;
  viewer->status = response->status;
  viewer->chunked = false;
  add_passed(&head, response);
  if (!http_has(response, FIELD_DATE)) add_date(&head);
  if (response->framing == FRAMING_LENGTH || (response->framing == FRAMING_NONE && http_has(response, FIELD_CONTENT_LENGTH) && response->status != 204)) {
    add_length(&head, response->length);
  } else if (response->framing != FRAMING_NONE) {
    viewer->chunked = viewer->request.minor > 0;
    if (viewer->chunked) text_literal(&head, "Transfer-Encoding: chunked\r\n");
    else viewer->keep_alive = false;
  }
  add_cors(&head, viewer, http_has(response, FIELD_ACCESS_CONTROL_ALLOW_ORIGIN) || viewer->request.method == METHOD_OPTIONS);
  add_way(&head, viewer);
  add_connection(&head, viewer);
  write_head(viewer, &head);
  viewer->state = VIEWER_RELAYING;
}

size_t respond_relay(struct viewer *viewer, const char *bytes, size_t length) {
  static char framed[RELAYED_AT_ONCE + 16];
  uint32_t room = viewer_room(viewer);
  if (viewer->dead) return length;
  if (length > room) length = room;
  if (length > RELAYED_AT_ONCE) length = RELAYED_AT_ONCE;
  if (length == 0) return 0;
  size_t size = length;
  if (viewer->chunked) { /* in one piece: there is memory for all of it, or for none */
    size = shoal_format(framed, sizeof framed, "%x\r\n", (unsigned)length);
    memcpy(framed + size, bytes, length);
    memcpy(framed + size + length, "\r\n", 2);
    size += length + 2;
    bytes = framed;
  }
  if (!viewer_try_write(viewer, bytes, size)) return 0;
  viewer->body_sent += length;
  return length;
}

void respond_relay_end(struct viewer *viewer, bool whole) {
  if (!whole) viewer_kill(viewer);
  else if (viewer->chunked) viewer_write(viewer, "0\r\n\r\n", 5);
  if (!viewer->dead) viewer_finish(viewer);
}

void respond_interim(struct viewer *viewer, const struct http_head *response) {
  struct text head = begin();
  if (viewer->request.minor == 0 || viewer->dead || viewer_room(viewer) < HTTP_HEAD_BYTES) return;
  add_passed(&head, response);
  write_head(viewer, &head);
}
