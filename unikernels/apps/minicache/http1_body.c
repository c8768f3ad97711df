/* Bodies out of their framing (RFC 9112 6 and 7). Strict: CRLF only, no blanks in a chunk's size, extensions and trailers bounded. */
#include "http1.h"

#define EXTENSION_BYTES 1024u
#define TRAILER_BYTES 8192u

enum { SIZE, EXTENSION, SIZE_FEED, DATA, DATA_RETURN, DATA_FEED, TRAILER_START, TRAILER, TRAILER_FEED, END_FEED, DONE };

void http_body_begin(struct http_body *body, const struct http_head *head) {
  *body = (struct http_body){.framing = head->framing, .left = head->framing == FRAMING_LENGTH ? head->length : 0};
}

bool http_body_done(const struct http_body *body) {
  switch (body->framing) {
    case FRAMING_NONE: return true;
    case FRAMING_LENGTH: return body->left == 0;
    case FRAMING_CHUNKED: return body->state == DONE;
    default: return false;
  }
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = slice_lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool in_size(struct http_body *body, char c) {
  int digit = hex_digit(c);
  if (digit >= 0) {
    if (body->left >> 56 != 0 || ++body->line_bytes > 16) return false;
    body->left = body->left << 4 | (uint64_t)digit;
    return true;
  }
  if (body->line_bytes == 0 || (c != ';' && c != '\r')) return false;
  body->state = c == ';' ? EXTENSION : SIZE_FEED;
  body->line_bytes = 0;
  return true;
}

/* One byte outside of data. */
static bool feed(struct http_body *body, char c) {
  switch (body->state) {
    case SIZE: return in_size(body, c);
    case EXTENSION:
      if (c == '\r') body->state = SIZE_FEED;
      else if (c == '\n' || c == '\0' || ++body->line_bytes > EXTENSION_BYTES) return false;
      return true;
    case SIZE_FEED:
      body->state = body->left > 0 ? DATA : TRAILER_START;
      body->line_bytes = 0;
      return c == '\n';
    case DATA_RETURN:
      body->state = DATA_FEED;
      return c == '\r';
    case DATA_FEED:
      body->state = SIZE;
      return c == '\n';
    case TRAILER_START:
      body->state = c == '\r' ? END_FEED : TRAILER;
      return c != '\n' && ++body->line_bytes <= TRAILER_BYTES;
    case TRAILER:
      if (c == '\r') body->state = TRAILER_FEED;
      return c != '\n' && c != '\0' && ++body->line_bytes <= TRAILER_BYTES;
    case TRAILER_FEED:
      body->state = TRAILER_START;
      return c == '\n';
    default: /* END_FEED */
      body->state = DONE;
      return c == '\n';
  }
}

int64_t http_body_take(struct http_body *body, const char *bytes, size_t size, const char **data, size_t *length) {
  *data = bytes;
  *length = 0;
  if (body->framing == FRAMING_CLOSE) {
    *length = size;
    return (int64_t)size;
  }
  if (body->framing == FRAMING_LENGTH) {
    *length = size < body->left ? size : (size_t)body->left;
    body->left -= *length;
    return (int64_t)*length;
  }
  if (body->framing != FRAMING_CHUNKED) return 0;
  size_t at = 0;
  while (at < size && body->state != DONE) {
    if (body->state == DATA) {
      *data = bytes + at;
      *length = size - at < body->left ? size - at : (size_t)body->left;
      body->left -= *length;
      if (body->left == 0) body->state = DATA_RETURN;
      return (int64_t)(at + *length);
    }
    if (!feed(body, bytes[at++])) return -1;
  }
  return (int64_t)at;
}
