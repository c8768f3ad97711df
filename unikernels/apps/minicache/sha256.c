/* See sha256.h. */
#include "sha256.h"

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t value, unsigned by) { return value >> by | value << (32 - by); }

static void take_block(uint32_t state[8], const uint8_t *block) {
  uint32_t w[64], s[8];
  for (unsigned i = 0; i < 16; i++) {
    uint32_t word;
    memcpy(&word, block + 4 * i, 4);
    w[i] = __builtin_bswap32(word);
  }
  for (unsigned i = 16; i < 64; i++) {
    uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3, b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + a + w[i - 7] + b;
  }
  memcpy(s, state, sizeof s);
  for (unsigned i = 0; i < 64; i++) {
    uint32_t one = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + constants[i] + w[i];
    uint32_t two = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3] + one, s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = one + two;
  }
  for (unsigned i = 0; i < 8; i++) state[i] += s[i];
}

void sha256_begin(struct sha256 *sha) {
  static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(sha->state, start, sizeof start);
  sha->bytes = 0;
}

void sha256_add(struct sha256 *sha, const void *data, size_t length) {
  const uint8_t *bytes = data;
  size_t held = sha->bytes % 64;
  sha->bytes += length;
  if (held > 0) {
    size_t count = 64 - held < length ? 64 - held : length;
    memcpy(sha->block + held, bytes, count);
    bytes += count, length -= count;
    if (held + count < 64) return;
    take_block(sha->state, sha->block);
  }
  for (; length >= 64; bytes += 64, length -= 64) take_block(sha->state, bytes);
  if (length > 0) memcpy(sha->block, bytes, length);
}

void sha256_end(struct sha256 *sha, uint8_t digest[32]) {
  static const uint8_t padding[64] = {0x80};
  uint64_t bits = __builtin_bswap64(sha->bytes * 8);
  sha256_add(sha, padding, 1 + (119 - sha->bytes % 64) % 64);
  sha256_add(sha, &bits, 8);
  for (unsigned i = 0; i < 8; i++) {
    uint32_t word = __builtin_bswap32(sha->state[i]);
    memcpy(digest + 4 * i, &word, 4);
  }
}

void hmac_sha256(const void *key, size_t key_length, const void *data, size_t length, uint8_t code[32]) {
  uint8_t pad[64] = {0};
  struct sha256 sha;
  if (key_length > sizeof pad) {
    sha256_begin(&sha);
    sha256_add(&sha, key, key_length);
    sha256_end(&sha, pad);
  } else if (key_length > 0) {
    memcpy(pad, key, key_length);
  }
  for (unsigned i = 0; i < sizeof pad; i++) pad[i] ^= 0x36;
  sha256_begin(&sha);
  sha256_add(&sha, pad, sizeof pad);
  sha256_add(&sha, data, length);
  sha256_end(&sha, code);
  for (unsigned i = 0; i < sizeof pad; i++) pad[i] ^= 0x36 ^ 0x5c;
  sha256_begin(&sha);
  sha256_add(&sha, pad, sizeof pad);
  sha256_add(&sha, code, 32);
  sha256_end(&sha, code);
}
