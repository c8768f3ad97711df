/* Of dom0's processors, in ticks since it started: at rest, and in all. */
#ifndef CLICK_BUSY_H
#define CLICK_BUSY_H

#include <stdint.h>
#include <stdio.h>

static inline void ticks(uint64_t *idle, uint64_t *all) {
  unsigned long long each[8] = {0};
  FILE *file = fopen("/proc/stat", "r");
  if (file == NULL || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", each, each + 1, each + 2, each + 3, each + 4, each + 5, each + 6, each + 7) != 8) perror("/proc/stat");
  if (file != NULL) fclose(file);
  *idle = each[3] + each[4], *all = 0;
  for (int i = 0; i < 8; i++) *all += each[i];
}

#endif
