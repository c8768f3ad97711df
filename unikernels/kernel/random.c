/*
 * A pool of 128 bits, used as a SipHash key over a counter. Enough against guessing of ports and sequence numbers by an attacker
 * off the path; the contract says that it is not for keys.
 */
#include "random.h"

static uint64_t pool[2];
static uint64_t counter;
static uint64_t hash_key[2];
static bool has_hash_key;

static uint64_t rotate(uint64_t value, int by) { return value << by | value >> (64 - by); }

static void round_of(uint64_t v[4]) {
  v[0] += v[1], v[2] += v[3];
  v[1] = rotate(v[1], 13) ^ v[0], v[3] = rotate(v[3], 16) ^ v[2];
  v[0] = rotate(v[0], 32);
  v[2] += v[1], v[0] += v[3];
  v[1] = rotate(v[1], 17) ^ v[2], v[3] = rotate(v[3], 21) ^ v[0];
  v[2] = rotate(v[2], 32);
}

uint64_t siphash24(const uint64_t key[2], const void *bytes, size_t size) {
  const uint8_t *at = bytes;
  uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
                   key[1] ^ 0x7465646279746573};
  for (size_t left = size;; left -= 8, at += 8) {
    uint64_t word = left < 8 ? (uint64_t)size << 56 : 0;
    if (left >= 8) memcpy(&word, at, 8); /* little-endian, as x86 is */
    for (size_t i = 0; left < 8 && i < left; i++) word |= (uint64_t)at[i] << (8 * i);
    v[3] ^= word;
    round_of(v), round_of(v);
    v[0] ^= word;
    if (left < 8) break;
  }
  v[2] ^= 0xff;
  for (int i = 0; i < 4; i++) round_of(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t shoal_siphash(const uint64_t key[2], const void *bytes, size_t size_bytes) { return siphash24(key, bytes, size_bytes); }

void random_stir(const void *bytes, size_t size) {
  uint64_t low = siphash24(pool, bytes, size);
  pool[1] ^= low + ++counter;
  pool[0] ^= siphash24(pool, bytes, size);
}

void shoal_random(void *bytes, size_t size) {
  uint8_t *at = bytes;
  while (size > 0) {
    uint64_t seed[2] = {++counter, shoal_now_ns()};
    uint64_t word = siphash24(pool, seed, sizeof seed);
    size_t take = size < sizeof word ? size : sizeof word;
    memcpy(at, &word, take);
    at += take;
    size -= take;
  }
}

void random_renew_key(void) { has_hash_key = false; }

uint64_t random_keyed_hash(const void *bytes, size_t size) {
  if (!has_hash_key) {
    shoal_random(hash_key, sizeof hash_key);
    has_hash_key = true;
  }
  return siphash24(hash_key, bytes, size);
}
