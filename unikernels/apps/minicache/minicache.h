/* What the parts of the cache share: settings, the store, time, counters. */
#ifndef MINICACHE_H
#define MINICACHE_H

#include "lwip/opt.h" /* first: it brings the options */
#include "lwip/ip_addr.h"
#include "policy.h"
#include "store.h"

struct settings {
  ip_addr_t origin;
  uint16_t origin_port, port, admin_port;
  struct slice origin_host; /* Host towards the origin; empty: the viewer's */
  struct slice name;        /* in Via and Cache-Status */
  struct slice secret, sign_key;
  uint64_t ram_bytes;
  uint32_t connections, fetches;
  uint32_t idle_seconds, hold_seconds;
  bool cors, prefetch;
  bool on_disk; /* objects are kept on block device 0 */
  struct policy_settings policy;
};
/* Reads the words of the command line; false, with a line on the console, when one is malformed. */
bool settings_read(struct settings *settings);

struct metrics {
  uint64_t requests, hits, misses, collapsed, revalidated, stale_served, passed, errors;
  uint64_t sent_bytes, fetched_bytes;
  uint64_t accepted, refused, timeouts, fetches, fetch_errors, prefetched, purged, by_class[6];
};

struct cache {
  struct settings settings;
  struct store *store;
  struct metrics metrics;
  uint32_t viewers;
};
extern struct cache cache;

/* Seconds since 1970 that go on evenly: the wall clock as it was at the start (or when the guest went on elsewhere) plus the time since.
 * Ages are made of it, so that a step of the host's clock makes nothing fresh or stale. */
int64_t clock_seconds(void);
void clock_set(void);
uint64_t clock_ms(void);

#endif
