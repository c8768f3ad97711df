/* What the store over a block device has beside store.h: it comes up later, and its work can be awaited. */
#ifndef MINICACHE_STORE_DISK_H
#define MINICACHE_STORE_DISK_H

#include "store.h"

/*
 * store_open over a device returns while the volume is still being read. Until that has ended nothing is found and store_create gives
 * STORE_IO. A blank device (its first 8 KiB are zero) is made a volume; one that holds something else is left alone: STORE_CORRUPT.
 * STORE_FULL: ram_bytes is not enough for the index of this volume.
 */

/* 1: ready; 0: not yet; negative: the volume cannot be used, and why. RAM only: 1 at once. */
int store_mounted(const struct store *store);

/* Calls `mounted` once, from the main loop, when store_mounted is no longer 0. One caller at a time. */
void store_when_mounted(struct store *store, void (*mounted)(void *arg, int status), void *arg);

/* Nothing is being written or waits for it: what is complete is found after a restart, what was removed is not. */
int store_settled(const struct store *store);

#endif
