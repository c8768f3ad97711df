/* See meta.h. */
#include "meta.h"
#include "date.h"
#include "text.h"

bool meta_read(struct kept *kept, const void *bytes, size_t length) {
  if (length < sizeof kept->meta) return false;
  memcpy(&kept->meta, bytes, sizeof kept->meta);
  const struct meta *meta = &kept->meta;
  const char *text = (const char *)bytes + sizeof *meta;
  if (meta->magic != META_MAGIC || sizeof *meta + meta->head + meta->tags + meta->url != length || meta->etag_at + meta->etag_length > meta->head) return false;
  kept->head = (struct slice){text, meta->head};
  kept->tags = (struct slice){text + meta->head, meta->tags};
  kept->url = (struct slice){text + meta->head + meta->tags, meta->url};
  kept->etag = (struct slice){text + meta->etag_at, meta->etag_length};
  return true;
}

static const char *reason(uint16_t status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 404: return "Not Found";
    case 410: return "Gone";
    default: return "";
  }
}

static struct text begin(void *out) { return (struct text){(char *)out + sizeof(struct meta), 0, STORE_META_BYTES - sizeof(struct meta), false}; }

static size_t finish(void *out, struct meta *meta, const struct text *text) {
  if (text->full) return 0;
  meta->magic = META_MAGIC;
  memcpy(out, meta, sizeof *meta);
  return sizeof *meta + text->length;
}

/* Fields that this cache says itself, or that are not for those behind it. */
static bool is_kept(const struct http_head *response, unsigned index) {
  switch (response->ids[index]) {
    case FIELD_AGE: case FIELD_CONTENT_LENGTH: case FIELD_SURROGATE_KEY: case FIELD_XKEY: case FIELD_SURROGATE_CONTROL: return false;
    default: return !http_is_hop_by_hop(response, index);
  }
}

size_t meta_write(void *out, const struct http_head *response, const struct fitness *fitness, struct slice url, int64_t date) {
  struct meta meta = {.status = response->status, .fitness = *fitness, .modified = INT64_MIN};
  struct text text = begin(out);
  text_literal(&text, "HTTP/1.1 ");
  text_number(&text, response->status);
  text_literal(&text, " ");
  const char *phrase = reason(response->status);
  text_bytes(&text, phrase, strlen(phrase));
  text_literal(&text, "\r\n");
  for (unsigned i = 0; i < response->line_count; i++) {
    if (!is_kept(response, i)) continue;
    if (response->ids[i] == FIELD_ETAG && response->first[FIELD_ETAG] == i + 1) {
      meta.etag_at = (uint16_t)(text.length + http_name(response, i).length + 2);
      meta.etag_length = (uint16_t)http_value(response, i).length;
    }
    text_line(&text, http_name(response, i), http_value(response, i));
  }
  if (!http_has(response, FIELD_DATE)) {
    char now[DATE_BYTES];
    date_write(now, date);
    text_line(&text, SLICE("Date"), (struct slice){now, DATE_BYTES});
  }
  meta.head = (uint16_t)text.length;
  int64_t modified;
  if (http_has(response, FIELD_LAST_MODIFIED) && date_read(http_field(response, FIELD_LAST_MODIFIED), &modified)) meta.modified = modified;
  for (unsigned i = 0; i < response->line_count; i++) {
    if (response->ids[i] != FIELD_SURROGATE_KEY && response->ids[i] != FIELD_XKEY) continue;
    text_literal(&text, " ");
    text_slice(&text, http_value(response, i));
  }
  meta.tags = (uint16_t)(text.length - meta.head);
  text_slice(&text, url);
  meta.url = (uint16_t)url.length;
  return finish(out, &meta, &text);
}

size_t meta_write_marker(void *out, struct slice names, uint64_t generation, struct slice url, const struct fitness *fitness) {
  struct meta meta = {.flags = META_MARKER, .generation = generation, .fitness = *fitness, .modified = INT64_MIN};
  struct text text = begin(out);
  text_slice(&text, names);
  meta.head = (uint16_t)text.length;
  text_slice(&text, url);
  meta.url = (uint16_t)url.length;
  return finish(out, &meta, &text);
}

static size_t write_again(void *out, const struct kept *old, struct meta *meta, struct slice added) {
  struct text text = begin(out);
  text_slice(&text, old->head);
  text_slice(&text, added);
  meta->head = (uint16_t)text.length;
  text_slice(&text, old->tags);
  text_slice(&text, old->url);
  return finish(out, meta, &text);
}

size_t meta_write_fitness(void *out, const struct kept *old, const struct fitness *fitness) {
  struct meta meta = old->meta;
  meta.fitness = *fitness;
  return write_again(out, old, &meta, SLICE(""));
}

void meta_change_flags(void *bytes, uint16_t set, uint16_t cleared) {
  struct meta meta;
  memcpy(&meta, bytes, sizeof meta);
  meta.flags = (uint16_t)((meta.flags | set) & ~cleared);
  memcpy(bytes, &meta, sizeof meta);
}

size_t meta_write_etag(void *out, const struct kept *old, const uint8_t digest[32]) {
  char line[64];
  struct text text = {line, 0, sizeof line, false};
  struct meta meta = old->meta;
  text_literal(&text, "ETag: \"");
  text_hex(&text, digest, 16);
  text_literal(&text, "\"\r\n");
  meta.etag_at = (uint16_t)(meta.head + 6);
  meta.etag_length = (uint16_t)(text.length - 8);
  meta.flags |= META_OWN_ETAG;
  return write_again(out, old, &meta, (struct slice){line, text.length});
}

/* What belongs to the stored bytes stays as it is with them; an ETag of the origin's too, since it is what was asked about. */
static bool is_updated(const struct kept *old, const struct http_head *update, unsigned index) {
  switch (update->ids[index]) {
    case FIELD_CONTENT_LENGTH: case FIELD_CONTENT_ENCODING: case FIELD_CONTENT_RANGE: return false;
    case FIELD_ETAG: return old->etag.length == 0 || (old->meta.flags & META_OWN_ETAG);
    default: return !slice_same(http_name(update, index), SLICE("content-md5")) && !http_is_hop_by_hop(update, index);
  }
}

size_t meta_merge(char *out, size_t capacity, const struct kept *old, const struct http_head *update) {
  struct text text = {out, 0, capacity, false};
  struct slice rest = old->head;
  bool first = true;
  while (rest.length > 0) {
    size_t end = slice_find(rest, '\n') + 1;
    struct slice line = {rest.at, end <= rest.length ? end : rest.length};
    rest = slice_from(rest, line.length);
    bool replaced = false;
    struct slice name = {line.at, slice_find(line, ':')};
    for (unsigned i = 0; !first && i < update->line_count && !replaced; i++) replaced = is_updated(old, update, i) && slice_same(name, http_name(update, i));
    if (!replaced) text_slice(&text, line);
    first = false;
  }
  for (unsigned i = 0; i < update->line_count; i++) {
    if (is_updated(old, update, i)) text_line(&text, http_name(update, i), http_value(update, i));
  }
  /* Tags are no part of the head that is sent. */
  if (!http_has(update, FIELD_SURROGATE_KEY) && !http_has(update, FIELD_XKEY) && old->tags.length > 0) text_line(&text, SLICE("xkey"), slice_trim(old->tags));
  text_literal(&text, "\r\n");
  return text.full ? 0 : text.length;
}
