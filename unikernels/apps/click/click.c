/*
 * Click: a middlebox that is told by a configuration in Click's language what it is. One comes by the command line, from a disk, or through the
 * admin port, at any time; docs/formats/click.md has the words and requests.
 */
#include "admin.h"
#include "arguments.h"
#include "boot_disk.h"
#include "requests.h"
#include "devices.h"
#include "own_words.h"
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

/* ---- the guest's own addresses in the configuration ---- */

static const char *boot_text; /* waits for the devices that it names; NULL */
static bool is_stale;         /* what runs was built for other addresses */

/* In a turn of its own: whoever told may be in the middle of a frame. */
static void look_again(void *context) {
  (void)context;
  if (!devices_ready()) return;
  if (boot_text != NULL) {
    struct slice text = {boot_text, strlen(boot_text)};
    boot_text = NULL;
    install(text);
  } else if (is_stale && router_running() != NULL && own_words_in(router_running()->source)) {
    struct slice source = router_running()->source;
    char *text = shoal_alloc(source.length + 1);
    if (text == NULL) {
      shoal_print("click: no memory to take the new addresses\n");
      return;
    }
    memcpy(text, source.at, source.length);
    install((struct slice){text, source.length});
    shoal_free(text);
  }
  is_stale = false;
}

static struct shoal_timer look_timer = {.fire = look_again};

static void came_up(bool with_another_mac) {
  is_stale = is_stale || with_another_mac;
  shoal_timer_set(&look_timer, shoal_now_ns());
}

/* Devices go on by themselves; a clone has words of its own. */
static void resumed(bool as_clone) {
  if (!as_clone) return;
  read_secret();
  came_up(true);
}

static void start(void) {
  uint64_t packets = shoal_memory().free_bytes / 2 / PACKET_BUFFER_BYTES;
  const char *config = shoal_config("config");
  uint16_t port = (uint16_t)word("admin", 65535, ADMIN_PORT);
  packets = packets < PACKETS_LEAST ? PACKETS_LEAST : packets > PACKETS_MOST ? PACKETS_MOST : packets;
  packet_set_limit((uint32_t)word("packets", PACKETS_MOST * 16, packets));
  bench_ns = word("bench", 3600, 0) * 1000000000ull;
  read_secret();
  devices_listen(came_up);
  /* Without an address the devices are Click's alone. */
  if (shoal_config("ip") != NULL && devices_share(port) && !admin_listen(port)) shoal_panic("click: no memory to listen");
  own_words_open();
  if (config != NULL && strcmp(config, "disk") == 0) {
    boot_disk_read(from_disk);
    return;
  }
  if (config != NULL && own_words_in((struct slice){config, strlen(config)})) boot_text = config, came_up(false);
  else if (config != NULL) install((struct slice){config, strlen(config)});
  start_bench();
}

const struct shoal_app shoal_app = {.name = "click", .version = APP_VERSION, .start = start, .resumed = resumed, .stack_bytes = STACK_BYTES};
