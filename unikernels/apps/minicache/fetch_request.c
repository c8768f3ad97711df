/* The request to the origin: the viewer's, without what is between it and us, and with conditions of our own. */
#include "fetch.h"
#include "date.h"
#include "text.h"

static bool is_condition(enum http_field field) {
  switch (field) {
    case FIELD_IF_MATCH: case FIELD_IF_MODIFIED_SINCE: case FIELD_IF_NONE_MATCH: case FIELD_IF_RANGE: case FIELD_IF_UNMODIFIED_SINCE: case FIELD_RANGE: return true;
    default: return false;
  }
}

/* The Last-Modified line as the origin wrote it. */
static struct slice modified_text(const struct kept *kept) {
  struct slice rest = kept->head;
  while (rest.length > 14) {
    size_t end = slice_find(rest, '\n') + 1;
    if (slice_same((struct slice){rest.at, 14}, SLICE("last-modified:"))) return slice_trim((struct slice){rest.at + 14, end - 16});
    rest = slice_from(rest, end);
  }
  return NO_SLICE;
}

uint32_t fetch_request(struct fetch *fetch, const struct http_head *request, struct slice host, struct slice target, const struct kept *stale) {
  struct text text = {fetch->buffer, 0, HTTP_HEAD_BYTES / 2, false};
  bool shared = fetch->kind == FETCH_SHARED;
  /* Behind somebody's back, or instead of HEAD, the whole is asked for. */
  struct slice method = shared ? SLICE("GET") : http_method_text(request);
  text_slice(&text, method);
  text_literal(&text, " ");
  fetch->target_at = (uint16_t)text.length;
  fetch->target_length = (uint16_t)target.length;
  text_slice(&text, target);
  text_literal(&text, " HTTP/1.1\r\nHost: ");
  fetch->host_at = (uint16_t)text.length;
  struct slice named = cache.settings.origin_host.length > 0 ? cache.settings.origin_host : host;
  fetch->host_length = (uint16_t)named.length;
  text_slice(&text, named);
  text_literal(&text, "\r\n");
  for (unsigned i = 0; i < request->line_count; i++) {
    enum http_field id = request->ids[i];
    if (id == FIELD_HOST || id == FIELD_VIA || id == FIELD_EXPECT || id == FIELD_CONTENT_LENGTH || http_is_hop_by_hop(request, i)) continue;
    if (shared && is_condition(id)) continue;
    text_line(&text, http_name(request, i), http_value(request, i));
  }
  text_literal(&text, "Via: ");
  for (int i = -1; (i = http_next(request, FIELD_VIA, i)) >= 0;) {
    text_slice(&text, http_value(request, (unsigned)i));
    text_literal(&text, ", ");
  }
  text_literal(&text, "1.1 ");
  text_slice(&text, cache.settings.name);
  text_literal(&text, "\r\n");
  if (stale != NULL) {
    struct slice modified = modified_text(stale);
    if (stale->etag.length > 0 && !(stale->meta.flags & META_OWN_ETAG)) text_line(&text, SLICE("If-None-Match"), stale->etag);
    if (modified.at != NULL) text_line(&text, SLICE("If-Modified-Since"), modified);
  }
  if (!shared && request->framing == FRAMING_LENGTH) {
    text_literal(&text, "Content-Length: ");
    text_number(&text, request->length);
    text_literal(&text, "\r\n");
  } else if (!shared && request->framing == FRAMING_CHUNKED) {
    text_literal(&text, "Transfer-Encoding: chunked\r\n");
  }
  text_literal(&text, "\r\n");
  return text.full ? 0 : (uint32_t)text.length;
}
