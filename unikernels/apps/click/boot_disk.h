/* A configuration on block device 0: text from its first byte up to the first NUL, or its end. */
#ifndef CLICK_BOOT_DISK_H
#define CLICK_BOOT_DISK_H

#include "../minicache/slice.h"

/* Calls `then` once with what is there, when the device is up and was read. Says on the console when there is none. The text is gone afterwards. */
void boot_disk_read(void (*then)(struct slice text));

#endif
