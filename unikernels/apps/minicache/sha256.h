/* SHA-256 (FIPS 180-4) and HMAC (RFC 2104) over it, in plain C: the guest has no vector registers. Pure. */
#ifndef MINICACHE_SHA256_H
#define MINICACHE_SHA256_H

#include "shoal.h"

struct sha256 {
  uint32_t state[8];
  uint64_t bytes;
  uint8_t block[64];
};
void sha256_begin(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *data, size_t length);
void sha256_end(struct sha256 *sha, uint8_t digest[32]);
void hmac_sha256(const void *key, size_t key_length, const void *data, size_t length, uint8_t code[32]);

#endif
