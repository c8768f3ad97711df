/* shoal_print and shoal_panic: text to whatever console the platform has. */
#include "platform.h"
#include "format.h"

static void put(void *context, const char *text, size_t length) {
  (void)context;
  platform_console_write(text, length);
}

void shoal_print(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  format_to(put, NULL, format, arguments);
  va_end(arguments);
}

void shoal_panic(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  platform_console_write("panic: ", 7);
  format_to(put, NULL, format, arguments);
  platform_console_write("\n", 1);
  va_end(arguments);
  platform_crash();
}
