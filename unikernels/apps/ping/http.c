/* See http.h. */
#include "http.h"

enum { METHOD, TARGET, VERSION, LINE, NAME, VALUE, LINE_FEED, END_FEED };

static const char version[] = "HTTP/1.";

/* RFC 9110 5.6.2. */
static bool is_token(char c) {
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
  for (const char *other = "!#$%&'*+-.^_`|~"; *other != '\0'; other++) {
    if (c == *other) return true;
  }
  return false;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static enum http_result end_of_header(const struct http_request *request) {
  /* RFC 9112 3.2: HTTP/1.1 without Host is malformed. */
  return request->version_1_1 && !request->has_host ? HTTP_MALFORMED : HTTP_DONE;
}

static enum http_result in_version(struct http_request *request, char c) {
  uint8_t at = request->at++;
  if (at < sizeof version - 1) return c == version[at] ? HTTP_MORE : HTTP_MALFORMED;
  if (at == sizeof version - 1) {
    if (c != '0' && c != '1') return HTTP_MALFORMED;
    request->version_1_1 = c == '1';
    return HTTP_MORE;
  }
  if (c != '\r' && c != '\n') return HTTP_MALFORMED;
  request->state = c == '\r' ? LINE_FEED : LINE;
  return HTTP_MORE;
}

static enum http_result in_name(struct http_request *request, char c) {
  static const char host[] = "host";
  if (c == ':' && request->name_at > 0) {
    if (request->name_is_host && request->name_at == sizeof host - 1) {
      if (request->has_host) return HTTP_MALFORMED;
      request->has_host = true;
    }
    request->state = VALUE;
    return HTTP_MORE;
  }
  if (!is_token(c)) return HTTP_MALFORMED;
  if (request->name_at >= sizeof host - 1 || lower(c) != host[request->name_at]) request->name_is_host = false;
  if (request->name_at < sizeof host) request->name_at++;
  return HTTP_MORE;
}

static enum http_result feed_byte(struct http_request *request, char c) {
  switch (request->state) {
    case METHOD:
      if (c == ' ' && request->at > 0) {
        request->state = TARGET;
        request->at = 0;
        return HTTP_MORE;
      }
      if (!is_token(c) || request->at == HTTP_METHOD_BYTES - 1) return HTTP_MALFORMED;
      request->method[request->at++] = c;
      return HTTP_MORE;
    case TARGET:
      if (c == ' ') {
        if (request->target[0] != '/') return HTTP_MALFORMED;
        request->state = VERSION;
        request->at = 0;
        return HTTP_MORE;
      }
      if (c <= ' ' || c == 0x7f) return HTTP_MALFORMED;
      if (request->at == HTTP_TARGET_BYTES - 1) return HTTP_TARGET_LONG;
      request->target[request->at++] = c;
      return HTTP_MORE;
    case VERSION:
      return in_version(request, c);
    case LINE:
      if (c == '\n') return end_of_header(request);
      if (c == '\r') {
        request->state = END_FEED;
        return HTTP_MORE;
      }
      request->state = NAME;
      request->name_at = 0;
      request->name_is_host = true;
      return in_name(request, c);
    case NAME:
      return in_name(request, c);
    case VALUE:
      if (c == '\r') request->state = LINE_FEED;
      else if (c == '\n') request->state = LINE;
      else if ((c >= 0 && c < ' ' && c != '\t') || c == 0x7f) return HTTP_MALFORMED;
      return HTTP_MORE;
    case LINE_FEED:
      request->state = LINE;
      return c == '\n' ? HTTP_MORE : HTTP_MALFORMED;
    default: /* END_FEED */
      return c == '\n' ? end_of_header(request) : HTTP_MALFORMED;
  }
}

enum http_result http_feed(struct http_request *request, const char *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (request->bytes++ == HTTP_REQUEST_BYTES) return HTTP_HEADER_LONG;
    enum http_result result = feed_byte(request, bytes[i]);
    if (result != HTTP_MORE) return result;
  }
  return HTTP_MORE;
}

/* True for "/" with or without a query. */
static bool is_root(const char *target) { return target[0] == '/' && (target[1] == '\0' || target[1] == '?'); }

size_t http_respond(const struct http_request *request, enum http_result result, const char *root, char *buffer,
                    size_t size_bytes) {
  const char *status, *body, *type = "text/plain", *extra = "";
  bool is_head = result == HTTP_DONE && strcmp(request->method, "HEAD") == 0;
  if (result == HTTP_TARGET_LONG) {
    status = body = "414 URI Too Long";
  } else if (result == HTTP_HEADER_LONG) {
    status = body = "431 Request Header Fields Too Large";
  } else if (result != HTTP_DONE) {
    status = body = "400 Bad Request";
  } else if (!is_head && strcmp(request->method, "GET") != 0) {
    status = body = "405 Method Not Allowed";
    extra = "Allow: GET, HEAD\r\n";
  } else if (!is_root(request->target)) {
    status = body = "404 Not Found";
  } else {
    status = "200 OK";
    body = root;
    type = "application/json";
  }
  static const char answer[] = "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%sConnection: close\r\n\r\n%s%s";
  size_t length = shoal_format(buffer, size_bytes, answer, status, type, strlen(body) + 1, extra, is_head ? "" : body,
                               is_head ? "" : "\n");
  return length < size_bytes ? length : size_bytes - 1;
}
