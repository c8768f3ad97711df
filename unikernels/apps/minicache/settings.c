/* The words of the command line. docs/formats/minicache.md lists them. */
#include "minicache.h"

#define LEAST_RAM_KIB 512u

static bool read_number(const char *key, uint32_t least, uint32_t most, uint32_t otherwise, uint32_t *value) {
  const char *word = shoal_config(key);
  uint64_t number = otherwise;
  if (word != NULL && (!slice_number((struct slice){word, strlen(word)}, most, &number) || number < least)) {
    shoal_print("minicache: %s=%s is no number from %u to %u\n", key, word, least, most);
    return false;
  }
  *value = (uint32_t)number;
  return true;
}

static struct slice read_text(const char *key, const char *otherwise) {
  const char *word = shoal_config(key);
  if (word == NULL) word = otherwise;
  return (struct slice){word, strlen(word)};
}

/* "A.B.C.D:PORT" or "[v6]:PORT" */
static bool read_origin(struct settings *settings) {
  char host[64];
  const char *word = shoal_config("origin");
  uint64_t port = 80;
  if (word == NULL) {
    shoal_print("minicache: origin= is missing\n");
    return false;
  }
  struct slice text = {word, strlen(word)};
  size_t end = text.length > 0 && text.at[0] == '[' ? slice_find(text, ']') : slice_find(text, ':'), start = text.at[0] == '[' ? 1 : 0;
  struct slice rest = slice_from(text, end + start);
  bool sound = end > start && end - start < sizeof host && (rest.length == 0 || (rest.at[0] == ':' && slice_number(slice_from(rest, 1), 65535, &port) && port > 0));
  if (sound) {
    memcpy(host, text.at + start, end - start);
    host[end - start] = '\0';
    sound = ipaddr_aton(host, &settings->origin) != 0;
  }
  if (!sound) shoal_print("minicache: origin=%s is no A.B.C.D:PORT and no [IPv6]:PORT\n", word);
  settings->origin_port = (uint16_t)port;
  return sound;
}

bool settings_read(struct settings *settings) {
  uint32_t port, admin, ram, cors, prefetch;
  memset(settings, 0, sizeof *settings);
  uint32_t free_kib = (uint32_t)(shoal_memory().free_bytes / 1024);
  /* Half of what is free, at most 64 MiB, unless it is said. */
  uint32_t usual = free_kib / 2 > 65536 ? 65536 : free_kib / 2 < LEAST_RAM_KIB ? LEAST_RAM_KIB : free_kib / 2;
  bool sound = read_origin(settings) && read_number("port", 1, 65535, 80, &port) && read_number("admin", 1, 65535, 8081, &admin) &&
               read_number("ram", LEAST_RAM_KIB, 64u << 20, usual, &ram) && read_number("connections", 1, 20000, 100, &settings->connections) &&
               read_number("fetches", 1, 512, 16, &settings->fetches) && read_number("idle", 1, 3600, 15, &settings->idle_seconds) &&
               read_number("hold", 1, 120, 15, &settings->hold_seconds) && read_number("negative", 0, 3600, 2, &settings->policy.negative_seconds) &&
               read_number("cors", 0, 1, 1, &cors) && read_number("prefetch", 0, 1, 1, &prefetch);
  if (!sound) return false;
  settings->port = (uint16_t)port;
  settings->admin_port = (uint16_t)admin;
  settings->ram_bytes = (uint64_t)ram * 1024;
  settings->cors = cors != 0;
  settings->prefetch = prefetch != 0;
  settings->on_disk = shoal_config("disk") != NULL;
  settings->policy.heuristic_most_seconds = 86400;
  settings->origin_host = read_text("originhost", "");
  settings->name = read_text("via", "minicache");
  settings->secret = read_text("secret", "");
  settings->sign_key = read_text("sign", "");
  return true;
}
