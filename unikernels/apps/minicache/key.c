/* See key.h. The keys of the URLs asked for last are remembered: a hash costs more than the rest of a hit. */
#include "key.h"
#include "sha256.h"

#define REMEMBERED 256u
#define REMEMBERED_BYTES 176u

static struct {
  uint8_t key[STORE_KEY_BYTES];
  uint16_t host, target;
  char text[REMEMBERED_BYTES];
} remembered[REMEMBERED];

static uint32_t quick_hash(struct slice a, struct slice b) {
  uint64_t hash = 0x9e3779b97f4a7c15ull ^ a.length ^ b.length << 32;
  struct slice parts[2] = {a, b};
  for (unsigned i = 0; i < 2; i++) {
    for (; parts[i].length >= 8; parts[i] = slice_from(parts[i], 8)) {
      uint64_t word;
      memcpy(&word, parts[i].at, 8);
      hash = (hash ^ word) * 0xff51afd7ed558ccdull;
      hash ^= hash >> 29;
    }
    for (size_t j = 0; j < parts[i].length; j++) hash = (hash ^ (uint8_t)parts[i].at[j]) * 0x100000001b3ull;
  }
  return (uint32_t)(hash ^ hash >> 32);
}

void key_of_url(uint8_t key[STORE_KEY_BYTES], struct slice host, struct slice target) {
  unsigned slot = quick_hash(host, target) % REMEMBERED;
  bool fits = host.length + target.length <= REMEMBERED_BYTES && target.length > 0;
  if (fits && remembered[slot].host == host.length && remembered[slot].target == target.length && memcmp(remembered[slot].text, host.at, host.length) == 0 &&
      memcmp(remembered[slot].text + host.length, target.at, target.length) == 0) {
    memcpy(key, remembered[slot].key, STORE_KEY_BYTES);
    return;
  }
  struct sha256 sha;
  sha256_begin(&sha);
  for (size_t i = 0; i < host.length; i++) {
    char c = slice_lower(host.at[i]);
    sha256_add(&sha, &c, 1);
  }
  sha256_add(&sha, "\n", 1);
  sha256_add(&sha, target.at, target.length);
  sha256_end(&sha, key);
  if (!fits) return;
  memcpy(remembered[slot].key, key, STORE_KEY_BYTES);
  remembered[slot].host = (uint16_t)host.length;
  remembered[slot].target = (uint16_t)target.length;
  memcpy(remembered[slot].text, host.at, host.length);
  memcpy(remembered[slot].text + host.length, target.at, target.length);
}

static void add_values(struct sha256 *sha, const struct http_head *request, struct slice name) {
  bool lower = name.length >= 6 && slice_same((struct slice){name.at, 6}, SLICE("accept"));
  for (unsigned i = 0; i < request->line_count; i++) {
    struct slice value = http_value(request, i), element;
    if (!slice_same(http_name(request, i), name)) continue;
    while (slice_next(&value, &element)) {
      for (size_t j = 0; j < element.length; j++) {
        char c = lower ? slice_lower(element.at[j]) : element.at[j];
        if (lower && (c == ' ' || c == '\t')) continue;
        sha256_add(sha, &c, 1);
      }
      sha256_add(sha, ",", 1);
    }
  }
}

void key_of_variant(uint8_t key[STORE_KEY_BYTES], const uint8_t url[STORE_KEY_BYTES], uint64_t generation, struct slice names, const struct http_head *request) {
  struct sha256 sha;
  struct slice name;
  sha256_begin(&sha);
  sha256_add(&sha, url, STORE_KEY_BYTES);
  sha256_add(&sha, &generation, sizeof generation);
  while (slice_next(&names, &name)) {
    for (size_t i = 0; i < name.length; i++) {
      char c = slice_lower(name.at[i]);
      sha256_add(&sha, &c, 1);
    }
    sha256_add(&sha, ":", 1);
    add_values(&sha, request, name);
    sha256_add(&sha, "\n", 1);
  }
  sha256_end(&sha, key);
}
