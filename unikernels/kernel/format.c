/*
 * Formatted text: the one implementation behind shoal_print, shoal_format and the register dump. It must work at any point of
 * start and crash, so it allocates nothing and calls nothing but the sink it is given.
 */
#include "format.h"

struct sink {
  void (*put)(void *context, const char *text, size_t length);
  void *context;
  size_t length;
};

static void emit(struct sink *sink, const char *text, size_t length) {
  if (length == 0) return;
  sink->put(sink->context, text, length);
  sink->length += length;
}

static void pad(struct sink *sink, char with, int count) {
  for (; count > 0; count--) emit(sink, &with, 1);
}

/* Digits of `value` right-aligned in a buffer of 20 bytes; returns how many. */
static int digits(char *end, unsigned long long value, unsigned base) {
  int count = 0;
  do {
    *--end = "0123456789abcdef"[value % base];
    value /= base;
    count++;
  } while (value != 0);
  return count;
}

static void emit_number(struct sink *sink, unsigned long long value, unsigned base, bool negative, bool left, bool zeros,
                        int width) {
  char buffer[20];
  int count = digits(buffer + sizeof buffer, value, base);
  int fill = width - count - (negative ? 1 : 0);
  if (!left && !zeros) pad(sink, ' ', fill);
  if (negative) emit(sink, "-", 1);
  if (!left && zeros) pad(sink, '0', fill);
  emit(sink, buffer + sizeof buffer - count, (size_t)count);
  if (left) pad(sink, ' ', fill);
}

static void emit_string(struct sink *sink, const char *text, bool left, int width, int precision) {
  size_t length = 0;
  if (text == NULL) text = "(null)";
  while (text[length] != '\0' && (precision < 0 || length < (size_t)precision)) length++;
  int fill = width - (int)length;
  if (!left) pad(sink, ' ', fill);
  emit(sink, text, length);
  if (left) pad(sink, ' ', fill);
}

size_t format_to(void (*put)(void *, const char *, size_t), void *context, const char *format, va_list arguments) {
  struct sink sink = {put, context, 0};
  while (*format != '\0') {
    size_t plain = 0;
    while (format[plain] != '\0' && format[plain] != '%') plain++;
    emit(&sink, format, plain);
    format += plain;
    if (*format == '\0') break;
    format++;

    bool left = false, zeros = false;
    int width = 0, precision = -1, longs = 0;
    for (;; format++) {
      if (*format == '-') left = true;
      else if (*format == '0') zeros = true;
      else break;
    }
    for (; *format >= '0' && *format <= '9'; format++) width = width * 10 + (*format - '0');
    if (*format == '.') {
      precision = 0;
      format++;
      if (*format == '*') {
        precision = va_arg(arguments, int);
        format++;
      }
      for (; *format >= '0' && *format <= '9'; format++) precision = precision * 10 + (*format - '0');
    }
    for (; *format == 'l' || *format == 'z'; format++) longs++;

    switch (*format) {
      case 'd': {
        long long value = longs > 0 ? va_arg(arguments, long long) : va_arg(arguments, int);
        unsigned long long magnitude = value < 0 ? -(unsigned long long)value : (unsigned long long)value;
        emit_number(&sink, magnitude, 10, value < 0, left, zeros, width);
        break;
      }
      case 'u':
      case 'x': {
        unsigned long long value = longs > 0 ? va_arg(arguments, unsigned long long) : va_arg(arguments, unsigned);
        emit_number(&sink, value, *format == 'x' ? 16 : 10, false, left, zeros, width);
        break;
      }
      case 'p':
        emit(&sink, "0x", 2);
        emit_number(&sink, (uintptr_t)va_arg(arguments, void *), 16, false, left, zeros, width);
        break;
      case 's':
        emit_string(&sink, va_arg(arguments, const char *), left, width, precision);
        break;
      case 'c': {
        char character = (char)va_arg(arguments, int);
        emit(&sink, &character, 1);
        break;
      }
      case '%':
        emit(&sink, "%", 1);
        break;
      default: /* unknown: show it, stop reading arguments that may not be there */
        emit(&sink, "%?", 2);
        return sink.length;
    }
    format++;
  }
  return sink.length;
}

struct bounded {
  char *at;
  size_t left;
};

static void put_bounded(void *context, const char *text, size_t length) {
  struct bounded *to = context;
  size_t take = length < to->left ? length : to->left;
  if (take == 0) return;
  memcpy(to->at, text, take);
  to->at += take;
  to->left -= take;
}

size_t shoal_vformat(char *buffer, size_t size_bytes, const char *format, va_list arguments) {
  struct bounded to = {buffer, size_bytes > 0 ? size_bytes - 1 : 0};
  size_t length = format_to(put_bounded, &to, format, arguments);
  if (size_bytes > 0) *to.at = '\0';
  return length;
}

size_t shoal_format(char *buffer, size_t size_bytes, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  size_t length = shoal_vformat(buffer, size_bytes, format, arguments);
  va_end(arguments);
  return length;
}
