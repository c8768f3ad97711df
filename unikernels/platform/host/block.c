/*
 * Block device 0 as a file or a Linux block device, named by the word disk=: read and written in the main loop, a few requests a turn. For
 * tests and comparison: a slow disk stops the whole process for as long.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <linux/fs.h>
#include <unistd.h>
#include "shoal.h"

#define TURN_REQUESTS 32u

static struct block_device {
  const struct shoal_block_events *events;
  void *context;
  int file;
  struct shoal_block_info info;
  struct shoal_block_request *first, *last;
} device = {.file = -1};

static void run(void *context);
static struct shoal_timer later = {.fire = run};

static void tell_up(void *context) {
  (void)context;
  device.events->up(device.context);
}

static struct shoal_timer up = {.fire = tell_up};

struct block_device *shoal_block_open(unsigned index, const struct shoal_block_events *events, void *context, void *lasting,
                                      size_t lasting_bytes) {
  const char *name = shoal_config("disk");
  struct stat about;
  (void)lasting, (void)lasting_bytes;
  if (index != 0 || device.events != NULL || name == NULL) return NULL;
  int file = open(name, O_RDWR | O_CLOEXEC);
  device.info.readonly = file < 0;
  if (file < 0) file = open(name, O_RDONLY | O_CLOEXEC);
  if (file < 0 || fstat(file, &about) != 0) {
    shoal_print("disk %s: error %d\n", name, errno);
    return NULL;
  }
  device.info.size_bytes = (uint64_t)about.st_size;
  if (S_ISBLK(about.st_mode) && ioctl(file, BLKGETSIZE64, &device.info.size_bytes) != 0) device.info.size_bytes = 0;
  device.info.size_bytes -= device.info.size_bytes % SHOAL_BLOCK_SECTOR_BYTES;
  device.info.flushes = true;
  device.file = file;
  device.events = events;
  device.context = context;
  shoal_timer_set(&up, 0);
  return &device;
}

struct shoal_block_info shoal_block_info(const struct block_device *of) { return of->info; }

static int execute(struct block_device *of, const struct shoal_block_request *request) {
  if (request->operation == SHOAL_BLOCK_FLUSH) return fdatasync(of->file) == 0 ? SHOAL_BLOCK_OK : SHOAL_BLOCK_FAILED;
  bool is_write = request->operation == SHOAL_BLOCK_WRITE;
  uint64_t rest = request->offset_bytes <= of->info.size_bytes ? of->info.size_bytes - request->offset_bytes : 0;
  if (request->length_bytes == 0 || request->length_bytes > SHOAL_BLOCK_REQUEST_BYTES || request->length_bytes > rest ||
      (request->length_bytes | request->offset_bytes | (uintptr_t)request->bytes) % SHOAL_BLOCK_SECTOR_BYTES != 0 ||
      (is_write && of->info.readonly)) {
    return SHOAL_BLOCK_REFUSED;
  }
  for (uint32_t at = 0; at < request->length_bytes;) {
    uint8_t *bytes = (uint8_t *)request->bytes + at;
    off_t offset = (off_t)(request->offset_bytes + at);
    ssize_t moved = is_write ? pwrite(of->file, bytes, request->length_bytes - at, offset) : pread(of->file, bytes, request->length_bytes - at, offset);
    if (moved <= 0 && errno != EINTR) return SHOAL_BLOCK_FAILED;
    if (moved > 0) at += (uint32_t)moved;
  }
  return SHOAL_BLOCK_OK;
}

static void run(void *context) {
  (void)context;
  for (unsigned i = 0; i < TURN_REQUESTS && device.first != NULL; i++) {
    struct shoal_block_request *request = device.first;
    device.first = request->next;
    request->done(request, execute(&device, request));
  }
  if (device.first != NULL) shoal_timer_set(&later, 0);
}

void shoal_block_submit(struct block_device *to, struct shoal_block_request *request) {
  request->next = NULL;
  *(to->first != NULL ? &to->last->next : &to->first) = request;
  to->last = request;
  shoal_timer_set(&later, 0);
}
