/* See boot_disk.h. */
#include "boot_disk.h"
#include "language.h"

#define ALIGNMENT 512u

static void (*read_then)(struct slice text);
static struct block_device *device;
static struct shoal_block_request request;
static char *memory;
static bool begun;

static void on_read(struct shoal_block_request *of, int status) {
  struct slice text = {of->bytes, of->length_bytes};
  if (status != SHOAL_BLOCK_OK) {
    shoal_print("click: the disk cannot be read (%d)\n", status);
  } else {
    text.length = slice_find(text, '\0');
    read_then(text);
  }
  shoal_free(memory);
}

static void on_up(void *context) {
  uint64_t size = shoal_block_info(device).size_bytes;
  (void)context;
  if (begun) return;
  begun = true;
  if (size > CONFIGURATION_BYTES_MAX) size = CONFIGURATION_BYTES_MAX;
  memory = shoal_alloc((size_t)size + ALIGNMENT);
  if (memory == NULL || size == 0) {
    shoal_print("click: an empty disk, or no memory to read it\n");
    return;
  }
  uintptr_t at = ((uintptr_t)memory + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
  request = (struct shoal_block_request){.operation = SHOAL_BLOCK_READ, .length_bytes = (uint32_t)size, .bytes = (void *)at, .done = on_read};
  shoal_block_submit(device, &request);
}

void boot_disk_read(void (*then)(struct slice text)) {
  static const struct shoal_block_events events = {.up = on_up};
  read_then = then;
  device = shoal_block_open(0, &events, NULL, NULL, 0);
  if (device == NULL) shoal_print("click: config=disk, but there is no disk\n");
}
