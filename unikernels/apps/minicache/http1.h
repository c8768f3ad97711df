/*
 * HTTP/1.1 messages (RFC 9112): a head is gathered from portions cut anywhere, then read in place, strictly: what two readers could
 * understand differently is refused. Bodies are unframed by http_body. Pure; nothing allocates.
 */
#ifndef MINICACHE_HTTP1_H
#define MINICACHE_HTTP1_H

#include "slice.h"

#define HTTP_HEAD_BYTES 16384u  /* the longest head, its last empty line included */
#define HTTP_TARGET_BYTES 8192u /* the longest target */
#define HTTP_LINES 96u          /* the most field lines */

/* Fields that somebody here looks at. The order is that of the table in http1_names.c. */
enum http_field {
  FIELD_OTHER, FIELD_ACCESS_CONTROL_ALLOW_ORIGIN, FIELD_ACCESS_CONTROL_REQUEST_HEADERS, FIELD_ACCESS_CONTROL_REQUEST_METHOD, FIELD_AGE,
  FIELD_AUTHORIZATION, FIELD_CACHE_CONTROL, FIELD_CDN_CACHE_CONTROL, FIELD_CONNECTION, FIELD_CONTENT_ENCODING, FIELD_CONTENT_LENGTH,
  FIELD_CONTENT_LOCATION, FIELD_CONTENT_RANGE, FIELD_CONTENT_TYPE, FIELD_DATE, FIELD_ETAG, FIELD_EXPECT, FIELD_EXPIRES, FIELD_HOST,
  FIELD_IF_MATCH, FIELD_IF_MODIFIED_SINCE, FIELD_IF_NONE_MATCH, FIELD_IF_RANGE, FIELD_IF_UNMODIFIED_SINCE, FIELD_KEEP_ALIVE,
  FIELD_LAST_MODIFIED, FIELD_LOCATION, FIELD_ORIGIN, FIELD_PRAGMA, FIELD_PROXY_AUTHENTICATE, FIELD_PROXY_AUTHENTICATION_INFO,
  FIELD_PROXY_AUTHORIZATION, FIELD_PROXY_CONNECTION, FIELD_RANGE, FIELD_SURROGATE_CONTROL, FIELD_SURROGATE_KEY, FIELD_TE, FIELD_TRAILER,
  FIELD_TRANSFER_ENCODING, FIELD_UPGRADE, FIELD_VARY, FIELD_VIA, FIELD_XKEY, FIELD_COUNT
};
/* The field of that name, FIELD_OTHER when none of the above. */
enum http_field http_field_of(struct slice name);

enum http_method { METHOD_GET, METHOD_HEAD, METHOD_OPTIONS, METHOD_POST, METHOD_PUT, METHOD_DELETE, METHOD_PATCH, METHOD_PURGE, METHOD_OTHER };
enum http_framing { FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE };

struct http_line {
  uint16_t name, name_length, value, value_length;
};

struct http_head {
  const char *text; /* offsets are from here; must outlive the head */
  uint8_t method, minor, framing, host_count;
  bool keep_alive;
  uint16_t status; /* of a response */
  uint16_t method_length, target, target_length;
  uint16_t line_count;
  uint64_t length; /* of FRAMING_LENGTH */
  uint8_t first[FIELD_COUNT]; /* 1 + index of the first line of a field, 0: none */
  uint8_t ids[HTTP_LINES];
  struct http_line lines[HTTP_LINES];
};

/* ---- a head from portions ---- */

struct http_gather {
  char *buffer;
  uint32_t capacity, length, line; /* line: where the line begins that is not whole yet */
};
enum http_result { HTTP_MORE, HTTP_DONE, HTTP_LONG };

/* Takes bytes up to the empty line that ends the head, or all; *taken says how many. HTTP_LONG: capacity reached without an end. */
enum http_result http_gather(struct http_gather *gather, const char *bytes, size_t size, size_t *taken);

/* Reads a whole head. 0, or the status to refuse it with: 400, 414, 431, 501, 505. */
int http_read_request(struct http_head *head, const char *text, size_t length);
/* 0, or 502. `to`: the method that was asked, which decides whether there is a body. */
int http_read_response(struct http_head *head, const char *text, size_t length, enum http_method to);

static inline struct slice http_name(const struct http_head *head, unsigned index) {
  return (struct slice){head->text + head->lines[index].name, head->lines[index].name_length};
}
static inline struct slice http_value(const struct http_head *head, unsigned index) {
  return (struct slice){head->text + head->lines[index].value, head->lines[index].value_length};
}
static inline bool http_has(const struct http_head *head, enum http_field field) { return head->first[field] != 0; }
/* The value of the first line of a field; at == NULL when there is none. */
static inline struct slice http_field(const struct http_head *head, enum http_field field) {
  return head->first[field] == 0 ? NO_SLICE : http_value(head, head->first[field] - 1u);
}
static inline struct slice http_target(const struct http_head *head) { return (struct slice){head->text + head->target, head->target_length}; }
static inline struct slice http_method_text(const struct http_head *head) { return (struct slice){head->text, head->method_length}; }
/* The index of the next line of the field after `index` (-1 to begin), -1 when there is none. */
int http_next(const struct http_head *head, enum http_field field, int index);
/* True when a line of Connection names the field, or it is hop-by-hop by itself (RFC 9110 7.6.1). */
bool http_is_hop_by_hop(const struct http_head *head, unsigned index);

/* ---- a body ---- */

struct http_body {
  uint64_t left;
  uint32_t line_bytes;
  uint8_t framing, state;
};
void http_body_begin(struct http_body *body, const struct http_head *head);
/* Takes up to `size` bytes; *data, *length: the part of them that is content (length may be 0). Returns how many were taken, -1 when
 * malformed. Call again while it takes something; done: http_body_done. */
int64_t http_body_take(struct http_body *body, const char *bytes, size_t size, const char **data, size_t *length);
bool http_body_done(const struct http_body *body);

#endif
