/* See store_wire.h. */
#include "store_wire.h"

static void take(char *to, size_t room, size_t offset, const char *from, size_t count) {
  if (offset >= room) return;
  memcpy(to + offset, from, count < room - offset ? count : room - offset);
}

enum store_parse store_parse(struct store_parser *parser, const char **bytes, size_t *size, struct store_message *message) {
  const size_t head = sizeof parser->header;
  while (*size > 0 || parser->have >= head) {
    size_t want = parser->have < head ? head - parser->have : head + parser->header.len - parser->have;
    size_t count = *size < want ? *size : want;
    if (parser->have < head) take((char *)&parser->header, head, parser->have, *bytes, count);
    else take(parser->payload, STORE_REPLY_BYTES, parser->have - head, *bytes, count);
    *bytes += count;
    *size -= count;
    parser->have += (uint32_t)count;
    if (count < want) return STORE_MORE;
    if (parser->have == head && parser->header.len > XENSTORE_PAYLOAD_MAX) return STORE_BROKEN;
    if (parser->have < head + parser->header.len) continue;
    message->header = parser->header;
    message->payload = parser->payload;
    message->truncated = parser->header.len > STORE_REPLY_BYTES;
    message->length = message->truncated ? STORE_REPLY_BYTES : parser->header.len;
    parser->payload[message->length] = '\0';
    parser->have = 0;
    return STORE_MESSAGE;
  }
  return STORE_MORE;
}

bool store_parse_event(const struct store_message *message, const char **path, const char **token) {
  if (message->truncated) return false;
  size_t first = strlen(message->payload);
  if (first >= message->length) return false;
  *path = message->payload;
  *token = message->payload + first + 1;
  return first + 1 < message->length && first + 1 + strlen(*token) < message->length;
}

int store_parse_error(const struct store_message *message) {
  static const struct {
    const char *name;
    int number;
  } known[] = {{"EINVAL", 22}, {"EACCES", 13}, {"EEXIST", 17}, {"EISDIR", 21}, {"ENOENT", 2}, {"ENOMEM", 12},
               {"ENOSPC", 28}, {"EIO", 5},     {"ENOSYS", 38}, {"EROFS", 30},  {"EBUSY", 16}, {"EAGAIN", 11},
               {"EPERM", 1},   {"E2BIG", 7}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (strcmp(message->payload, known[i].name) == 0) return known[i].number;
  }
  return STORE_EIO;
}
