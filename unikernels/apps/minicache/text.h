/* A bounded text that is written from front to back; what does not fit is left out and remembered. Pure. */
#ifndef MINICACHE_TEXT_H
#define MINICACHE_TEXT_H

#include "slice.h"

struct text {
  char *at;
  size_t length, capacity;
  bool full;
};

static inline void text_bytes(struct text *text, const char *bytes, size_t length) {
  if (length > text->capacity - text->length) {
    text->full = true;
    return;
  }
  memcpy(text->at + text->length, bytes, length);
  text->length += length;
}
static inline void text_slice(struct text *text, struct slice slice) { text_bytes(text, slice.at, slice.length); }
#define text_literal(text, literal) text_bytes(text, literal, sizeof literal - 1)

static inline void text_number(struct text *text, uint64_t number) {
  char digits[20];
  size_t at = sizeof digits;
  do digits[--at] = (char)('0' + number % 10), number /= 10;
  while (number > 0);
  text_bytes(text, digits + at, sizeof digits - at);
}

static inline void text_hex(struct text *text, const uint8_t *bytes, size_t length) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < length; i++) {
    char two[2] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
    text_bytes(text, two, 2);
  }
}

/* "Name: value\r\n" */
static inline void text_line(struct text *text, struct slice name, struct slice value) {
  text_slice(text, name);
  text_literal(text, ": ");
  text_slice(text, value);
  text_literal(text, "\r\n");
}

/* The text of a JSON string, without the quotes. */
void text_json(struct text *text, struct slice value);

#endif
