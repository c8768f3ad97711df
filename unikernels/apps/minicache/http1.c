/* Heads: gathering and reading. See http1.h. */
#include "http1.h"

enum { TOKEN = 1, VALUE = 2, TARGET = 4 };
static uint8_t classes[256];

static void classify(void) {
  for (unsigned c = 0; c < 256; c++) {
    if (c == '\t' || (c >= ' ' && c != 0x7f)) classes[c] |= VALUE;
    if (c > ' ' && c < 0x7f) classes[c] |= TARGET;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) classes[c] |= TOKEN;
  }
  for (const char *other = "!#$%&'*+-.^_`|~"; *other != '\0'; other++) classes[(uint8_t)*other] |= TOKEN;
}

enum http_result http_gather(struct http_gather *gather, const char *bytes, size_t size, size_t *taken) {
  size_t room = gather->capacity - gather->length, count = size < room ? size : room;
  char *to = gather->buffer + gather->length;
  for (size_t i = 0; i < count; i++) {
    to[i] = bytes[i];
    if (bytes[i] != '\n') continue;
    uint32_t end = gather->length + (uint32_t)i + 1, line_bytes = end - gather->line;
    bool blank = line_bytes == 1 || (line_bytes == 2 && gather->buffer[gather->line] == '\r');
    if (blank && gather->line == 0) { /* RFC 9112 2.2: an empty line before a request means nothing; one is enough */
      if (gather->length + i + 1 <= 2) {
        gather->line = end;
        continue;
      }
    }
    gather->line = end;
    if (!blank) continue;
    gather->length = end;
    *taken = i + 1;
    return HTTP_DONE;
  }
  gather->length += (uint32_t)count;
  *taken = count;
  return gather->length == gather->capacity ? HTTP_LONG : HTTP_MORE;
}

int http_next(const struct http_head *head, enum http_field field, int index) {
  if (head->first[field] == 0) return -1;
  for (unsigned i = index < 0 ? head->first[field] - 1u : (unsigned)index + 1; i < head->line_count; i++) {
    if (head->ids[i] == field) return (int)i;
  }
  return -1;
}

bool http_is_hop_by_hop(const struct http_head *head, unsigned index) {
  switch (head->ids[index]) {
    case FIELD_CONNECTION: case FIELD_KEEP_ALIVE: case FIELD_PROXY_AUTHENTICATE: case FIELD_PROXY_AUTHENTICATION_INFO:
    case FIELD_PROXY_AUTHORIZATION: case FIELD_PROXY_CONNECTION: case FIELD_TE: case FIELD_TRAILER: case FIELD_TRANSFER_ENCODING: case FIELD_UPGRADE:
      return true;
    default: break;
  }
  for (int i = -1; (i = http_next(head, FIELD_CONNECTION, i)) >= 0;) {
    if (slice_list_has(http_value(head, (unsigned)i), http_name(head, index))) return true;
  }
  return false;
}

/* The field lines from `at` to the end of the text. 0 or a status. */
static int read_fields(struct http_head *head, size_t at, size_t length) {
  const char *text = head->text;
  while (at < length) {
    size_t start = at;
    if (text[at] == '\r') return at + 2 == length && text[at + 1] == '\n' ? 0 : 400;
    while (at < length && (classes[(uint8_t)text[at]] & TOKEN)) at++;
    if (at == start || at == length || text[at] != ':') return 400; /* obs-fold and blanks before the colon end here too */
    if (head->line_count == HTTP_LINES) return 431;
    struct http_line *line = &head->lines[head->line_count];
    line->name = (uint16_t)start;
    line->name_length = (uint16_t)(at - start);
    start = ++at;
    while (at < length && (classes[(uint8_t)text[at]] & VALUE)) at++;
    if (at + 1 >= length || text[at] != '\r' || text[at + 1] != '\n') return 400; /* bare CR, bare LF, NUL */
    struct slice value = slice_trim((struct slice){text + start, at - start});
    line->value = (uint16_t)(value.at - text);
    line->value_length = (uint16_t)value.length;
    at += 2;
    enum http_field id = http_field_of(http_name(head, head->line_count));
    head->ids[head->line_count++] = (uint8_t)id;
    if (head->first[id] == 0) head->first[id] = (uint8_t)head->line_count;
  }
  return 400;
}

/* RFC 9112 6.3, without what it lets a recipient guess. 0 or a status. */
static int read_framing(struct http_head *head) {
  bool chunked = http_has(head, FIELD_TRANSFER_ENCODING), sized = http_has(head, FIELD_CONTENT_LENGTH);
  if (chunked && (sized || head->minor == 0)) return 400;
  if (chunked) {
    int index = http_next(head, FIELD_TRANSFER_ENCODING, -1);
    if (http_next(head, FIELD_TRANSFER_ENCODING, index) >= 0) return 400;
    if (!slice_same(http_value(head, (unsigned)index), SLICE("chunked"))) return 501;
    head->framing = FRAMING_CHUNKED;
  } else if (sized) {
    int index = http_next(head, FIELD_CONTENT_LENGTH, -1);
    if (http_next(head, FIELD_CONTENT_LENGTH, index) >= 0 || !slice_number(http_value(head, (unsigned)index), INT64_MAX, &head->length)) return 400;
    head->framing = FRAMING_LENGTH;
  }
  head->keep_alive = head->minor >= 1;
  for (int i = -1; (i = http_next(head, FIELD_CONNECTION, i)) >= 0;) {
    struct slice value = http_value(head, (unsigned)i);
    if (slice_list_has(value, SLICE("close"))) {
      head->keep_alive = false;
      break;
    }
    if (slice_list_has(value, SLICE("keep-alive"))) head->keep_alive = true;
  }
  return 0;
}

/* "HTTP/1.N" at text[at]; 0 or a status. */
static int read_version(struct http_head *head, struct slice text) {
  if (text.length != 8 || memcmp(text.at, "HTTP/", 5) != 0 || text.at[6] != '.' || !slice_is_digit(text.at[5]) || !slice_is_digit(text.at[7])) return 400;
  if (text.at[5] != '1') return 505;
  head->minor = text.at[7] == '0' ? 0 : 1;
  return 0;
}

static enum http_method method_of(struct slice name) {
  static const struct slice methods[METHOD_OTHER] = {SLICE("GET"), SLICE("HEAD"), SLICE("OPTIONS"), SLICE("POST"), SLICE("PUT"), SLICE("DELETE"), SLICE("PATCH"), SLICE("PURGE")};
  for (unsigned i = 0; i < METHOD_OTHER; i++) {
    if (slice_equal(name, methods[i])) return (enum http_method)i;
  }
  return METHOD_OTHER;
}

static void begin(struct http_head *head, const char *text) {
  if (classes['a'] == 0) classify();
  memset(head, 0, offsetof(struct http_head, ids));
  head->text = text;
}

static bool is_host(struct slice host) {
  for (size_t i = 0; i < host.length; i++) {
    char c = host.at[i];
    if (!(classes[(uint8_t)c] & TARGET) || c == '/' || c == '?' || c == '#' || c == '@' || c == '\\' || c == ',') return false;
  }
  return true;
}

int http_read_request(struct http_head *head, const char *text, size_t length) {
  size_t at = 0;
  if (length >= 2 && text[0] == '\r' && text[1] == '\n') text += 2, length -= 2;
  begin(head, text);
  while (at < length && (classes[(uint8_t)text[at]] & TOKEN)) at++;
  if (at == 0 || at >= length || text[at] != ' ') return 400;
  if (at > 32) return 501;
  head->method_length = (uint16_t)at;
  size_t start = ++at;
  while (at < length && (classes[(uint8_t)text[at]] & TARGET)) at++;
  if (at - start > HTTP_TARGET_BYTES) return 414;
  if (at == start || at >= length || text[at] != ' ') return 400;
  head->target = (uint16_t)start;
  head->target_length = (uint16_t)(at - start);
  start = ++at;
  while (at < length && text[at] != '\r' && text[at] != '\n') at++;
  int status = read_version(head, (struct slice){text + start, at - start});
  if (status != 0) return status;
  if (at + 1 >= length || text[at] != '\r' || text[at + 1] != '\n') return 400;
  head->method = (uint8_t)method_of(http_method_text(head));
  if (slice_equal(http_method_text(head), SLICE("CONNECT")) || slice_equal(http_method_text(head), SLICE("TRACE"))) return 501;
  struct slice target = http_target(head);
  bool absolute = target.length > 7 && slice_same((struct slice){target.at, 7}, SLICE("http://"));
  bool asterisk = head->method == METHOD_OPTIONS && slice_equal(target, SLICE("*"));
  if (target.at[0] != '/' && !absolute && !asterisk) return 400;
  if (slice_find(target, '#') < target.length) return 400;
  status = read_fields(head, at + 2, length);
  if (status != 0) return status;
  int host = http_next(head, FIELD_HOST, -1);
  if (host < 0 ? head->minor == 1 : http_next(head, FIELD_HOST, host) >= 0 || !is_host(http_value(head, (unsigned)host))) return 400;
  return read_framing(head);
}

int http_read_response(struct http_head *head, const char *text, size_t length, enum http_method to) {
  begin(head, text);
  uint64_t status;
  if (length < 14 || text[8] != ' ' || !slice_number((struct slice){text + 9, 3}, 599, &status) || status < 100 || (text[12] != ' ' && text[12] != '\r')) return 502;
  if (read_version(head, (struct slice){text, 8}) != 0) return 502;
  head->status = (uint16_t)status;
  size_t at = 12;
  while (at < length && (classes[(uint8_t)text[at]] & VALUE)) at++;
  if (at + 1 >= length || text[at] != '\r' || text[at + 1] != '\n' || read_fields(head, at + 2, length) != 0 || read_framing(head) != 0) return 502;
  if (status < 200 || status == 204 || status == 304 || to == METHOD_HEAD) head->framing = FRAMING_NONE;
  else if (head->framing == FRAMING_NONE) head->framing = FRAMING_CLOSE, head->keep_alive = false;
  return 0;
}
