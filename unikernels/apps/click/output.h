/*
 * Text that goes out (handlers, the flat configuration, errors), and places in the configuration that mistakes are at. Both are bounded: what
 * does not fit is left out and remembered.
 */
#ifndef CLICK_OUTPUT_H
#define CLICK_OUTPUT_H

#include "shoal.h"
#include "../minicache/slice.h"

struct output {
  char *at;
  size_t length, capacity;
  bool full;
};

void output_print(struct output *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void output_bytes(struct output *out, const char *bytes, size_t length);
static inline void output_slice(struct output *out, struct slice text) { output_bytes(out, text.at, text.length); }
/* "1.2.3.4"; an address as it lies in a header. */
void output_ip4(struct output *out, uint32_t address);
void output_ip6(struct output *out, const uint8_t address[16]);
/* "02-00-00-00-00-01", as Click writes it. */
void output_ether(struct output *out, const uint8_t address[6]);
/* value / 10^digits, without zeros at the end. */
void output_fixed(struct output *out, uint64_t value, unsigned digits);

/* In the configuration: both count from 1; 0: nowhere. */
struct place {
  uint32_t line, column;
};

#define ERRORS_MAX 16u
#define ERROR_BYTES 200u
struct errors {
  uint32_t count; /* of all, those that are not kept included */
  struct {
    struct place place;
    char text[ERROR_BYTES];
  } kept[ERRORS_MAX];
};
/* Returns false, so that a caller can return it. */
bool errors_add(struct errors *errors, struct place place, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool errors_add_list(struct errors *errors, struct place place, const char *format, va_list arguments);
/* "LINE:COLUMN: text\n" each. */
void errors_write(const struct errors *errors, struct output *out);

#endif
