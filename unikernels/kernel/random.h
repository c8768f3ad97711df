/* Randomness from what little a young guest has; the platform stirs in what it knows (clocks, frame numbers, ports). */
#ifndef KERNEL_RANDOM_H
#define KERNEL_RANDOM_H

#include "shoal.h"

/* Mixes bytes in; every call changes all that comes after. */
void random_stir(const void *bytes, size_t size_bytes);

/* SipHash-2-4 of `bytes` under a key drawn once from the pool (Aumasson, Bernstein 2012): for sequence numbers (RFC 6528). */
uint64_t random_keyed_hash(const void *bytes, size_t size_bytes);

/* Draws another key the next time: a clone must not number its connections as its original does. */
void random_renew_key(void);

/* SipHash-2-4 itself, for its test vectors. */
uint64_t siphash24(const uint64_t key[2], const void *bytes, size_t size_bytes);

#endif
