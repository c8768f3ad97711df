/* See counters.h. */
#include "counters.h"

#define ENTRIES 512u /* a power of two */
#define PROBES 4u
#define URL_BYTES 104u

static struct entry {
  uint64_t id, hits, misses, bytes;
  uint32_t reached[5]; /* downloads that ended below a quarter, a half, three quarters, the whole; and whole */
  uint16_t url_length;
  char url[URL_BYTES];
} entries[ENTRIES];

static struct entry *find(const struct viewer *viewer) {
  uint64_t id;
  memcpy(&id, viewer->url_key, sizeof id);
  struct entry *least = NULL;
  for (unsigned i = 0; i < PROBES; i++) {
    struct entry *entry = &entries[(id + i) % ENTRIES];
    if (entry->id == id) return entry;
    if (least == NULL || entry->hits + entry->misses < least->hits + least->misses) least = entry;
  }
  memset(least, 0, sizeof *least);
  least->id = id;
  struct text url = {least->url, 0, URL_BYTES, false};
  text_slice(&url, viewer->host);
  text_slice(&url, viewer->target);
  least->url_length = (uint16_t)url.length;
  return least;
}

void counters_add(const struct viewer *viewer, bool hit) {
  if (viewer->target.length == 0 || viewer->outcome == OUTCOME_ADMIN || viewer->outcome == OUTCOME_ERROR || viewer->outcome == OUTCOME_NONE) return;
  struct entry *entry = find(viewer);
  if (hit) entry->hits++;
  else entry->misses++;
  entry->bytes += viewer->body_sent;
  uint64_t length = viewer->object == NULL ? STORE_UNKNOWN : object_length(viewer->object);
  if (viewer->status != 200 || viewer->request.method != METHOD_GET || length == 0 || length == STORE_UNKNOWN) return;
  uint64_t quarter = viewer->at >= length ? 4 : viewer->at * 4 / length;
  entry->reached[quarter]++;
}

uint32_t counters_write(struct text *text, uint32_t from) {
  bool first = true;
  for (uint32_t i = from; i < ENTRIES; i++) {
    const struct entry *entry = &entries[i];
    if (entry->hits + entry->misses == 0) continue;
    if (text->capacity - text->length < 1024) return i;
    if (!first) text_literal(text, ",");
    first = false;
    text_literal(text, "{\"url\":\"");
    text_json(text, (struct slice){entry->url, entry->url_length});
    text_literal(text, "\",\"hits\":");
    text_number(text, entry->hits);
    text_literal(text, ",\"misses\":");
    text_number(text, entry->misses);
    text_literal(text, ",\"bytes\":");
    text_number(text, entry->bytes);
    text_literal(text, ",\"reached\":[");
    for (unsigned j = 0; j < 5; j++) {
      if (j > 0) text_literal(text, ",");
      text_number(text, entry->reached[j]);
    }
    text_literal(text, "]}");
  }
  return 0;
}
