/* See output.h. */
#include "output.h"

void output_bytes(struct output *out, const char *bytes, size_t length) {
  if (length > out->capacity - out->length) {
    out->full = true;
    return;
  }
  if (length > 0) memcpy(out->at + out->length, bytes, length);
  out->length += length;
}

void output_print(struct output *out, const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  size_t length = shoal_vformat(text, sizeof text, format, arguments);
  va_end(arguments);
  if (length < sizeof text) {
    output_bytes(out, text, length);
    return;
  }
  /* Longer than usual: straight to where it goes, which needs a byte more for the terminator. */
  if (length >= out->capacity - out->length) {
    out->full = true;
    return;
  }
  va_start(arguments, format);
  out->length += shoal_vformat(out->at + out->length, out->capacity - out->length, format, arguments);
  va_end(arguments);
}

void output_ip4(struct output *out, uint32_t address) {
  uint8_t bytes[4];
  memcpy(bytes, &address, 4);
  output_print(out, "%u.%u.%u.%u", bytes[0], bytes[1], bytes[2], bytes[3]);
}

void output_ip6(struct output *out, const uint8_t address[16]) {
  /* RFC 5952: the longest run of zero groups, the first of equals, at least two, becomes "::". */
  unsigned best = 8, best_length = 1;
  for (unsigned i = 0; i < 8; i++) {
    unsigned length = 0;
    while (i + length < 8 && address[2 * (i + length)] == 0 && address[2 * (i + length) + 1] == 0) length++;
    if (length > best_length) best = i, best_length = length;
  }
  for (unsigned i = 0; i < 8; i++) {
    if (i == best) {
      output_print(out, "::");
      i += best_length - 1;
      continue;
    }
    output_print(out, "%s%x", i > 0 && i != best + best_length ? ":" : "", (unsigned)(address[2 * i] << 8 | address[2 * i + 1]));
  }
}

void output_ether(struct output *out, const uint8_t address[6]) {
  for (unsigned i = 0; i < 6; i++) output_print(out, "%s%02x", i > 0 ? "-" : "", address[i]);
}

void output_fixed(struct output *out, uint64_t value, unsigned digits) {
  char fraction[24];
  uint64_t scale = 1;
  for (unsigned i = 0; i < digits; i++) scale *= 10;
  uint64_t rest = value % scale;
  output_print(out, "%llu", (unsigned long long)(value / scale));
  if (rest == 0) return;
  for (unsigned i = digits; i > 0; i--, rest /= 10) fraction[i - 1] = (char)('0' + rest % 10);
  while (digits > 0 && fraction[digits - 1] == '0') digits--;
  output_bytes(out, ".", 1);
  output_bytes(out, fraction, digits);
}

bool errors_add_list(struct errors *errors, struct place place, const char *format, va_list arguments) {
  if (errors->count < ERRORS_MAX) {
    errors->kept[errors->count].place = place;
    shoal_vformat(errors->kept[errors->count].text, ERROR_BYTES, format, arguments);
  }
  errors->count++;
  return false;
}

bool errors_add(struct errors *errors, struct place place, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  errors_add_list(errors, place, format, arguments);
  va_end(arguments);
  return false;
}

void errors_write(const struct errors *errors, struct output *out) {
  for (unsigned i = 0; i < errors->count && i < ERRORS_MAX; i++) {
    output_print(out, "%u:%u: %s\n", errors->kept[i].place.line, errors->kept[i].place.column, errors->kept[i].text);
  }
  if (errors->count > ERRORS_MAX) output_print(out, "0:0: %u more\n", errors->count - ERRORS_MAX);
}
