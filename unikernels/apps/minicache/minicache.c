/*
 * Minicache: a pull-through HTTP cache that is a guest of 5 MiB. What it is asked for and does not have it fetches from its origin, to
 * RFC 9111; viewers that ask meanwhile join. viewer.c speaks with clients, fetch.c with the origin, serve.c decides, store.h keeps.
 */
#include "minicache.h"
#include "allowance.h"
#include "fetch.h"
#include "playout.h"
#include "store_disk.h"
#include "viewer.h"

struct cache cache;
static int64_t clock_base;

void clock_set(void) { clock_base = (int64_t)((shoal_wall_ns() - shoal_now_ns()) / 1000000ull); }
int64_t clock_seconds(void) { return (clock_base + (int64_t)(shoal_now_ns() / 1000000ull)) / 1000; }
uint64_t clock_ms(void) { return shoal_now_ns() / 1000000ull; }

static void no_memory(void) {
  shoal_print("minicache: not enough memory for ram=%u KiB, connections=%u, fetches=%u\n", (unsigned)(cache.settings.ram_bytes / 1024),
              (unsigned)cache.settings.connections, (unsigned)cache.settings.fetches);
}

static void serve(void) {
  if (!viewers_open() || !fetches_open()) {
    no_memory();
    return;
  }
  allowance_open();
  if (!viewers_listen(cache.settings.port, false) || !viewers_listen(cache.settings.admin_port, true)) shoal_panic("minicache: no memory to listen");
  shoal_print("minicache: serving on port %u\n", (unsigned)cache.settings.port);
}

/* ---- objects on a disk: it comes up, its volume is read, then viewers are served ---- */

#define DISK_PATIENCE_NS 15000000000ull

static struct block_device *disk;

static void on_no_disk(void *context) {
  (void)context;
  shoal_print("minicache: no disk came up; without the word disk objects are kept in RAM\n");
}

static struct shoal_timer no_disk = {.fire = on_no_disk};

static void on_mounted(void *context, int status) {
  (void)context;
  if (status == 1) {
    struct store_counts counts;
    store_count(cache.store, &counts);
    shoal_print("minicache: %llu objects on the disk, %llu torn ones dropped\n", (unsigned long long)counts.objects, (unsigned long long)counts.torn);
    serve();
  } else if (status == STORE_FULL) {
    shoal_print("minicache: ram=%u KiB do not hold the index of this disk\n", (unsigned)(cache.settings.ram_bytes / 1024));
  } else {
    shoal_print("minicache: %s\n", status == STORE_CORRUPT ? "the disk holds something that is no object store; it is left alone" : "the disk cannot be read");
  }
}

static void on_disk(void *context) {
  (void)context;
  struct store_config config = {.ram_bytes = cache.settings.ram_bytes, .device = disk};
  if (cache.store != NULL) return; /* it was away for a while */
  shoal_timer_cancel(&no_disk);
  if (store_open(&cache.store, &config) != 0) no_memory();
  else store_when_mounted(cache.store, on_mounted, NULL);
}

/* ---- the network device is lwIP's; streams of datagrams want to know when it has room, and what memory is too short for is lost here ---- */

static bool on_frame(void *context, const uint8_t *frame, size_t length_bytes, uint32_t flags) {
  (void)context, (void)frame, (void)flags;
  return !allowance_takes(length_bytes);
}

static void on_writable(void *context) {
  (void)context;
  playouts_writable();
}

static void on_up(void *context, const uint8_t *mac) {
  (void)context, (void)mac;
  playouts_writable();
}

static void start(void) {
  static const struct shoal_block_events events = {.up = on_disk};
  static const struct shoal_ip_share share = {.frame = on_frame, .up = on_up, .writable = on_writable};
  clock_set();
  if (!settings_read(&cache.settings) || !shoal_ip_start_shared(&share, NULL)) return;
  if (cache.settings.on_disk) {
    disk = shoal_block_open(0, &events, NULL, NULL, 0);
    shoal_timer_set(&no_disk, shoal_now_ns() + (disk == NULL ? 0 : DISK_PATIENCE_NS));
    return;
  }
  struct store_config config = {.ram_bytes = cache.settings.ram_bytes};
  if (store_open(&cache.store, &config) != 0) no_memory();
  else serve();
}

/* Time stood still while it was away. */
static void resumed(bool as_clone) {
  clock_set();
  if (!as_clone) return;
  playouts_end();
  struct settings settings;
  if (settings_read(&settings)) {
    /* What memory was taken for stays. */
    settings.connections = cache.settings.connections;
    settings.fetches = cache.settings.fetches;
    settings.ram_bytes = cache.settings.ram_bytes;
    settings.on_disk = cache.settings.on_disk;
    cache.settings = settings;
  } else { /* its texts are void */
    shoal_print("minicache: goes on without a secret, a key and a name\n");
    cache.settings.secret = cache.settings.origin_host = SLICE("");
    cache.settings.name = SLICE("minicache");
  }
}

const struct shoal_app shoal_app = {.name = "minicache", .version = APP_VERSION, .start = start, .resumed = resumed};
