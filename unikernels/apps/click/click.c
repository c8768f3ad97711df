/*
 * Click: a middlebox that is told by a configuration in Click's language what it is. One comes by the command line, from a disk, or through the
 * admin port, at any time; docs/formats/click.md has the words and requests.
 */
#include "admin.h"
#include "arguments.h"
#include "boot_disk.h"
#include "requests.h"
#include "devices.h"
#include "router.h"

#define ADMIN_PORT 8081u
#define PACKETS_LEAST 64u
#define PACKETS_MOST 65536u
/* CLICK_DEPTH_MAX calls, each with what element.h allows and what the core adds, and the kernel below them. */
#define STACK_BYTES 131072u

static uint64_t word(const char *name, uint64_t most, uint64_t otherwise) {
  const char *text = shoal_config(name);
  uint64_t value;
  if (text == NULL) return otherwise;
  if (parse_u64((struct slice){text, strlen(text)}, most, &value)) return value;
  shoal_print("click: %s=%s is not a number up to %llu\n", name, text, (unsigned long long)most);
  return otherwise;
}

static void install(struct slice text) {
  static struct errors errors;
  if (requests_install(text, &errors)) {
    shoal_print("click: %u elements run\n", router_running()->count);
    return;
  }
  for (unsigned i = 0; i < errors.count && i < ERRORS_MAX; i++) {
    shoal_print("click: %u:%u: %s\n", errors.kept[i].place.line, errors.kept[i].place.column, errors.kept[i].text);
  }
}

/* ---- bench=SECONDS: how many packets were made in that time ---- */

static uint64_t bench_ns, bench_start_ns, bench_made;

static void tell_bench(void *context) {
  uint64_t made = packet_counts().made - bench_made, ns = shoal_now_ns() - bench_start_ns;
  (void)context;
  shoal_print("bench: %llu packets in %llu us, %llu packets/s\n", (unsigned long long)made, (unsigned long long)(ns / 1000),
              (unsigned long long)(ns < 1000 ? 0 : made * 1000000 / (ns / 1000)));
  shoal_shutdown(SHOAL_POWEROFF);
}

static struct shoal_timer bench_timer = {.fire = tell_bench};

static void start_bench(void) {
  if (bench_ns == 0) return;
  bench_start_ns = shoal_now_ns();
  bench_made = packet_counts().made;
  shoal_timer_set(&bench_timer, bench_start_ns + bench_ns);
}

static void from_disk(struct slice text) {
  install(text);
  start_bench();
}

static void read_secret(void) {
  const char *secret = shoal_config("secret");
  requests_start((struct slice){secret == NULL ? "" : secret, secret == NULL ? 0 : strlen(secret)});
}

/* Devices go on by themselves; a clone has words of its own. */
static void resumed(bool as_clone) {
  if (as_clone) read_secret();
}

static void start(void) {
  uint64_t packets = shoal_memory().free_bytes / 2 / PACKET_BUFFER_BYTES;
  const char *config = shoal_config("config");
  uint16_t port = (uint16_t)word("admin", 65535, ADMIN_PORT);
  packets = packets < PACKETS_LEAST ? PACKETS_LEAST : packets > PACKETS_MOST ? PACKETS_MOST : packets;
  packet_set_limit((uint32_t)word("packets", PACKETS_MOST * 16, packets));
  bench_ns = word("bench", 3600, 0) * 1000000000ull;
  read_secret();
  /* Without an address the devices are Click's alone. */
  if (shoal_config("ip") != NULL && devices_share(port) && !admin_listen(port)) shoal_panic("click: no memory to listen");
  if (config != NULL && strcmp(config, "disk") == 0) {
    boot_disk_read(from_disk);
    return;
  }
  if (config != NULL) install((struct slice){config, strlen(config)});
  start_bench();
}

const struct shoal_app shoal_app = {.name = "click", .version = APP_VERSION, .start = start, .resumed = resumed, .stack_bytes = STACK_BYTES};
