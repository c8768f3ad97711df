/*
 * Just enough HTTP/1.x to answer one request a connection: a parser that takes the request in any portions, keeps a fixed amount
 * whatever is sent, and checks the syntax of RFC 9112 as far as it reads. Pure, so that it can be fuzzed.
 */
#ifndef PING_HTTP_H
#define PING_HTTP_H

#include "shoal.h"

#define HTTP_METHOD_BYTES 16u
#define HTTP_TARGET_BYTES 128u
/* Request line and header together; more is refused. */
#define HTTP_REQUEST_BYTES 8192u

enum http_result { HTTP_MORE, HTTP_DONE, HTTP_MALFORMED, HTTP_TARGET_LONG, HTTP_HEADER_LONG };

struct http_request {
  char method[HTTP_METHOD_BYTES];
  char target[HTTP_TARGET_BYTES];
  bool version_1_1, has_host;
  /* The parser's own. */
  uint8_t state, at, name_at;
  bool name_is_host;
  uint16_t bytes;
};

/* Zero the structure first. After anything but HTTP_MORE the request is over. */
enum http_result http_feed(struct http_request *request, const char *bytes, size_t size);

/* Writes a whole response (header and, but for HEAD, body) to the finished request, or to one that ended in `result`. Returns its
 * length, at most size_bytes. `root` is the body of "/". */
size_t http_respond(const struct http_request *request, enum http_result result, const char *root, char *buffer,
                    size_t size_bytes);

#endif
