/* HTTP requests in any portions: the outcome must not depend on how the bytes were cut, and the answer must fit its buffer. */
#include "world.h"
#include <stdlib.h>
#include "http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct http_request whole, cut;
  char response[768];
  if (size < 1) return 0;
  size_t step = 1 + data[0] % 16;
  data++, size--;
  memset(&whole, 0, sizeof whole);
  memset(&cut, 0, sizeof cut);
  enum http_result at_once = http_feed(&whole, (const char *)data, size);
  enum http_result in_parts = HTTP_MORE;
  for (size_t at = 0; at < size && in_parts == HTTP_MORE; at += step) {
    in_parts = http_feed(&cut, (const char *)data + at, size - at < step ? size - at : step);
  }
  if (at_once != in_parts || memcmp(whole.target, cut.target, sizeof whole.target) != 0) abort();
  if (at_once == HTTP_MORE) return 0;
  size_t length = http_respond(&whole, at_once, "{}", response, sizeof response);
  if (length >= sizeof response || strncmp(response, "HTTP/1.1 ", 9) != 0) abort();
  return 0;
}
