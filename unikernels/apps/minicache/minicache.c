/*
 * Minicache: a pull-through HTTP cache that is a guest of 5 MiB. What it is asked for and does not have it fetches from its origin, to
 * RFC 9111; viewers that ask meanwhile join. viewer.c speaks with clients, fetch.c with the origin, serve.c decides, store.h keeps.
 */
#include "minicache.h"
#include "fetch.h"
#include "viewer.h"

struct cache cache;
static int64_t clock_base;

void clock_set(void) { clock_base = (int64_t)((shoal_wall_ns() - shoal_now_ns()) / 1000000ull); }
int64_t clock_seconds(void) { return (clock_base + (int64_t)(shoal_now_ns() / 1000000ull)) / 1000; }
uint64_t clock_ms(void) { return shoal_now_ns() / 1000000ull; }

static void start(void) {
  clock_set();
  if (!settings_read(&cache.settings) || !shoal_ip_start(NULL)) return;
  struct store_config config = {.ram_bytes = cache.settings.ram_bytes};
  if (store_open(&cache.store, &config) != 0 || !viewers_open() || !fetches_open()) {
    shoal_print("minicache: not enough memory for ram=%u KiB, connections=%u, fetches=%u\n", (unsigned)(cache.settings.ram_bytes / 1024),
                (unsigned)cache.settings.connections, (unsigned)cache.settings.fetches);
    return;
  }
  if (!viewers_listen(cache.settings.port, false) || !viewers_listen(cache.settings.admin_port, true)) shoal_panic("minicache: no memory to listen");
  shoal_print("minicache: serving on port %u\n", (unsigned)cache.settings.port);
}

/* Time stood still while it was away. */
static void resumed(bool as_clone) {
  clock_set();
  if (!as_clone) return;
  struct settings settings;
  if (settings_read(&settings)) {
    /* What memory was taken for stays. */
    settings.connections = cache.settings.connections;
    settings.fetches = cache.settings.fetches;
    settings.ram_bytes = cache.settings.ram_bytes;
    cache.settings = settings;
  } else { /* its texts are void */
    shoal_print("minicache: goes on without a secret, a key and a name\n");
    cache.settings.secret = cache.settings.origin_host = SLICE("");
    cache.settings.name = SLICE("minicache");
  }
}

const struct shoal_app shoal_app = {.name = "minicache", .version = APP_VERSION, .start = start, .resumed = resumed};
