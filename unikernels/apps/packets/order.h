/*
 * What the benchmark asks of this guest and what it is told, each in one Ethernet frame of the local experimental type: shared by the guest and by
 * the program in dom0 (bench/click/ask.c). Both run on x86-64, so numbers are as they lie there.
 */
#ifndef PACKETS_ORDER_H
#define PACKETS_ORDER_H

#include <stdint.h>

#define ORDER_TYPE 0x88b5u
#define ORDER_ASK "shoalask"
#define ORDER_TELL "shoaltld"
#define ORDER_FLOWS_MOST 4096u

struct order_ask {
  char magic[8];
  uint32_t id;        /* another for each order */
  uint32_t run_ms;
  uint32_t window;    /* packets under way at most; 0: as many as the device takes */
  uint32_t flows;
  uint8_t to[6];      /* whose Ethernet address packets bear */
  uint8_t spare[2];
  uint32_t source, source_mask; /* what they are from when they come, in host order */
};

struct order_tell {
  char magic[8];
  uint32_t id;
  uint32_t spare;
  /* in_time: received before the end; lost: given up after a tenth of a second without any. */
  uint64_t sent, received, in_time, wrong, looked_at, lost, took_us;
};

_Static_assert(sizeof(struct order_ask) == 40 && sizeof(struct order_tell) == 72, "both ends mean the same");

#endif
