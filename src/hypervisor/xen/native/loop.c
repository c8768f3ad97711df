/* See loop.h. */
#define _GNU_SOURCE
#include "loop.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Somebody else may take the free device before we do. */
enum { MOST_TRIES = 64 };

static int configure(int control, int file, const char *path, int readonly, struct loop_device *device, struct failure *failure)
{
  struct loop_config config = {.fd = (uint32_t)file, .block_size = 512, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR | (readonly ? LO_FLAGS_READ_ONLY : 0)}};
  char name[32];
  struct stat about;

  snprintf((char *)config.info.lo_file_name, sizeof config.info.lo_file_name, "%.60s", path);
  for (int i = 0; i < MOST_TRIES; i++) {
    int number = ioctl(control, LOOP_CTL_GET_FREE);

    if (number < 0) return failed(failure, "LOOP_CTL_GET_FREE");
    snprintf(name, sizeof name, "/dev/loop%d", number);
    device->fd = open(name, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (device->fd < 0) return failed(failure, "open(/dev/loop)");
    if (ioctl(device->fd, LOOP_CONFIGURE, &config) == 0 && fstat(device->fd, &about) == 0) {
      device->major = major(about.st_rdev);
      device->minor = minor(about.st_rdev);
      return 0;
    }
    failed(failure, "LOOP_CONFIGURE");
    close(device->fd);
    if (failure->error != EBUSY) return -1;
  }
  return -1;
}

int loop_attach(const char *path, int readonly, struct loop_device *device, struct failure *failure)
{
  int file = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW);

  if (file < 0) return failed(failure, "open");
  int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), result = -1;
  if (control < 0) failed(failure, "open(/dev/loop-control)");
  else result = configure(control, file, path, readonly, device, failure);
  if (control >= 0) close(control);
  close(file);
  return result;
}
