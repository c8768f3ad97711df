/* See own_words.h. */
#include "own_words.h"
#include "arguments.h"
#include "devices.h"

#define VALUE_BYTES 40u

static bool define(struct memory *memory, struct scope *root, const char *name, unsigned index, const struct output *value) {
  struct definition *definition = memory_take(memory, sizeof *definition);
  char both[8];
  struct output text = {.at = both, .capacity = sizeof both};
  output_print(&text, "%s%u", name, index);
  char *kept = memory_text(memory, both, text.length), *copy = memory_text(memory, value->at, value->length);
  if (definition == NULL || kept == NULL || copy == NULL) return false;
  /* The one that is first in this list counts least. */
  *definition = (struct definition){.name = {kept, text.length}, .value = {copy, value->length}, .next = root->definitions};
  root->definitions = definition;
  return true;
}

/* The word of one device: "ip" of the first, "ip1" of the second. */
static const char *word_of(const char *key, unsigned index) {
  char name[8];
  struct output text = {.at = name, .capacity = sizeof name - 1};
  output_print(&text, "%s", key);
  if (index > 0) output_print(&text, "%u", index);
  name[text.length] = '\0';
  return shoal_config(name);
}

static bool define_addresses(struct memory *memory, struct scope *root, unsigned index) {
  const char *ip = word_of("ip", index), *gw = word_of("gw", index);
  uint32_t address, mask, gateway;
  char bytes[VALUE_BYTES];
  struct output value = {.at = bytes, .capacity = sizeof bytes};
  struct slice host = {ip, ip == NULL ? 0 : strlen(ip)}, length = slice_from(host, slice_find(host, '/'));
  if (ip == NULL || !parse_prefix4(host, &address, &mask)) return true;
  output_ip4(&value, address);
  if (!define(memory, root, "IP", index, &value)) return false;
  value.length = 0;
  output_ip4(&value, address & mask);
  output_slice(&value, length);
  if (!define(memory, root, "NET", index, &value)) return false;
  if (gw == NULL || !parse_ip4((struct slice){gw, strlen(gw)}, &gateway)) return true;
  value.length = 0;
  output_ip4(&value, gateway);
  return define(memory, root, "GW", index, &value);
}

bool own_words_define(struct memory *memory, struct scope *root) {
  for (unsigned index = 0; index < DEVICES; index++) {
    const uint8_t *mac = device_mac(index);
    char bytes[VALUE_BYTES];
    struct output value = {.at = bytes, .capacity = sizeof bytes};
    if (!define_addresses(memory, root, index)) return false;
    if (mac == NULL) continue;
    output_print(&value, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    if (!define(memory, root, "MAC", index, &value)) return false;
  }
  return true;
}

bool own_words_in(struct slice text) {
  static const char *const names[] = {"IP", "NET", "GW", "MAC"};
  for (;;) {
    size_t at = slice_find(text, '$');
    if (at == text.length) return false;
    text = slice_from(text, at + 1);
    if (text.length > 0 && text.at[0] == '{') text = slice_from(text, 1);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
      if (slice_starts(text, (struct slice){names[i], strlen(names[i])})) return true;
    }
  }
}

void own_words_open(void) {
  for (unsigned index = 1; index < DEVICES; index++) {
    if (word_of("ip", index) != NULL) device_open(index);
  }
}
