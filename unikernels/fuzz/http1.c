/*
 * Requests and responses cut anywhere: the outcome must not depend on the cut, what is read must lie inside of what was given, and a
 * body must come out of its framing the same in one stretch and in many. The first byte says which, and how it is cut.
 */
#include "world.h"
#include <stdlib.h>
#include "../apps/minicache/http1.h"

static enum http_result gather(struct http_gather *to, char *buffer, const uint8_t *data, size_t size, size_t step, size_t *used) {
  enum http_result result = HTTP_MORE;
  *to = (struct http_gather){.buffer = buffer, .capacity = HTTP_HEAD_BYTES};
  *used = 0;
  while (*used < size && result == HTTP_MORE) {
    size_t taken, left = size - *used;
    result = http_gather(to, (const char *)data + *used, left < step ? left : step, &taken);
    *used += taken;
  }
  return result;
}

/* The content of the body: its length and a sum over it; false when malformed. */
static bool unframe(const struct http_head *head, const uint8_t *data, size_t size, size_t step, uint64_t *sum, size_t *used) {
  struct http_body body;
  http_body_begin(&body, head);
  *sum = *used = 0;
  while (*used < size && !http_body_done(&body)) {
    const char *content;
    size_t length, left = size - *used;
    int64_t taken = http_body_take(&body, (const char *)data + *used, left < step ? left : step, &content, &length);
    if (taken < 0) return false;
    if (taken == 0) abort();
    if (length > 0 && (content < (const char *)data + *used || content + length > (const char *)data + *used + taken)) abort();
    for (size_t i = 0; i < length; i++) *sum = *sum * 31 + (uint8_t)content[i];
    *used += (size_t)taken;
  }
  return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static char whole_buffer[HTTP_HEAD_BYTES], cut_buffer[HTTP_HEAD_BYTES];
  static struct http_head head;
  struct http_gather whole, cut;
  size_t used, used_cut;
  if (size < 1) return 0;
  bool response = data[0] & 1;
  size_t step = 1 + (data[0] >> 1) % 16;
  data++, size--;
  enum http_result result = gather(&whole, whole_buffer, data, size, size, &used);
  if (result != gather(&cut, cut_buffer, data, size, step, &used_cut) || (result == HTTP_DONE && used != used_cut)) abort();
  if (result != HTTP_DONE) return 0;
  if (whole.length != cut.length || memcmp(whole_buffer, cut_buffer, whole.length) != 0) abort();
  int status = response ? http_read_response(&head, whole_buffer, whole.length, METHOD_GET) : http_read_request(&head, whole_buffer, whole.length);
  if (status != 0) return 0;
  const char *end = whole_buffer + whole.length;
  for (unsigned i = 0; i < head.line_count; i++) {
    struct slice name = http_name(&head, i), value = http_value(&head, i);
    if (name.length == 0 || name.at + name.length > end || value.at + value.length > end) abort();
    for (size_t j = 0; j < value.length; j++) {
      if (value.at[j] == '\r' || value.at[j] == '\n' || value.at[j] == '\0') abort();
    }
    http_is_hop_by_hop(&head, i);
  }
  if (!response && (http_target(&head).length == 0 || http_target(&head).length > HTTP_TARGET_BYTES)) abort();
  /* No two ways to tell where a body ends. */
  if (http_has(&head, FIELD_TRANSFER_ENCODING) && http_has(&head, FIELD_CONTENT_LENGTH)) abort();
  uint64_t sum, sum_cut;
  data += used, size -= used;
  bool sound = unframe(&head, data, size, size == 0 ? 1 : size, &sum, &used);
  bool sound_cut = unframe(&head, data, size, step, &sum_cut, &used_cut);
  if (sound != sound_cut || (sound && (sum != sum_cut || used != used_cut))) abort();
  return 0;
}
