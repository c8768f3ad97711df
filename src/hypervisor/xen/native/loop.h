/*
 * A file as a block device. Linux lets go of it by itself when its last user closes it (LO_FLAGS_AUTOCLEAR), so that no end of the agent, at
 * whatever moment, leaves one behind: until blkback has opened the device the agent is its user, then blkback is.
 */
#ifndef SHOAL_LOOP_H
#define SHOAL_LOOP_H

#include <stdint.h>

#include "failure.h"

struct loop_device {
  int fd; /* the device, open: keep it until somebody else has opened it */
  uint32_t major, minor;
};

/* 0, or -1 with what failed: `open` (the file), `open(/dev/loop-control)`, `LOOP_CTL_GET_FREE`, `open(/dev/loop)`, `LOOP_CONFIGURE`. */
int loop_attach(const char *path, int readonly, struct loop_device *device, struct failure *failure);

#endif
