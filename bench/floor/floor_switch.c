/* The switch's half of the raw floor: its protocol (src/hypervisor/xen/switch), from C, one line after the other. */
#include "floor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int switch_connect(void)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/shoal/switch.sock" };
  int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (handle < 0 || connect(handle, (struct sockaddr *)&address, sizeof address)) {
    perror(address.sun_path);
    exit(1);
  }
  return handle;
}

void switch_ask(int handle, unsigned replies, const char *format, ...)
{
  char text[1024];
  va_list arguments;
  ssize_t length;

  va_start(arguments, format);
  length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (write(handle, text, (size_t)length) != length) perror("floor: switch");
  while (replies > 0) {
    length = read(handle, text, sizeof text - 1);
    if (length <= 0) {
      perror("floor: switch");
      exit(1);
    }
    text[length] = 0;
    if (strstr(text, "error")) {
      fprintf(stderr, "floor: switch: %s", text);
      exit(1);
    }
    for (ssize_t i = 0; i < length; i++) replies -= text[i] == '\n';
  }
}
