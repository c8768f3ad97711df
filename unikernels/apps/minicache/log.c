/* See log.h. */
#include "log.h"

#define ENTRIES 256u
#define TARGET_BYTES 88u

static struct entry {
  uint64_t wall_ms, bytes;
  uint32_t took_ms;
  uint16_t status, target_length;
  uint8_t outcome, method_length;
  char method[8], target[TARGET_BYTES];
} entries[ENTRIES];
static uint64_t written, drained;

void log_add(const struct viewer *viewer) {
  struct entry *entry = &entries[written++ % ENTRIES];
  uint64_t now = clock_ms();
  entry->wall_ms = (uint64_t)clock_seconds() * 1000;
  entry->bytes = viewer->sent;
  entry->took_ms = now > viewer->started_ms ? (uint32_t)(now - viewer->started_ms) : 0;
  entry->status = viewer->status;
  entry->outcome = viewer->outcome;
  entry->method_length = viewer->request.method_length < sizeof entry->method ? (uint8_t)viewer->request.method_length : sizeof entry->method;
  if (entry->method_length > 0) memcpy(entry->method, viewer->request.text, entry->method_length);
  entry->target_length = viewer->target.length < TARGET_BYTES ? (uint16_t)viewer->target.length : TARGET_BYTES;
  memcpy(entry->target, viewer->target.at, entry->target_length);
  if (written - drained > ENTRIES) drained = written - ENTRIES;
}

void log_drain(struct text *text) {
  static const struct slice outcomes[] = {SLICE("-"), SLICE("hit"), SLICE("miss"), SLICE("joined"), SLICE("stale"), SLICE("revalidated"), SLICE("pass"), SLICE("error"), SLICE("own")};
  while (drained < written && text->capacity - text->length > 512) {
    const struct entry *entry = &entries[drained++ % ENTRIES];
    text_number(text, entry->wall_ms / 1000);
    text_literal(text, " ");
    text_number(text, entry->status);
    text_literal(text, " ");
    text_slice(text, outcomes[entry->outcome]);
    text_literal(text, " ");
    text_number(text, entry->bytes);
    text_literal(text, " ");
    text_number(text, entry->took_ms);
    text_literal(text, "ms ");
    text_slice(text, entry->method_length > 0 ? (struct slice){entry->method, entry->method_length} : SLICE("-"));
    text_literal(text, " ");
    text_slice(text, entry->target_length > 0 ? (struct slice){entry->target, entry->target_length} : SLICE("-"));
    text_literal(text, "\n");
  }
}
