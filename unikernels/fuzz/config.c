/* The command line and the addresses in it. What is accepted must be what the text says when it is written out again. */
#include "config.h"
#include "world.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const keys[] = {"ip", "gw", "name", "crash", "mac"};
  char again[32];
  uint32_t address, mask;
  uint8_t mac[6];
  config_init((const char *)data, size);
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    const char *value = shoal_config(keys[i]);
    if (value == NULL) continue;
    if (strlen(value) >= CONFIG_LINE_BYTES) abort();
    if (config_parse_ipv4(value, &address)) {
      shoal_format(again, sizeof again, "%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255);
      if (strcmp(again, value) != 0) abort();
    }
    if (config_parse_host(value, &address, &mask)) {
      shoal_format(again, sizeof again, "%u.%u.%u.%u/%d", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255,
                   __builtin_popcount(mask));
      if (strcmp(again, value) != 0) abort();
    }
    if (config_parse_mac(value, mac) && (mac[0] & 1)) abort();
  }
  return 0;
}
