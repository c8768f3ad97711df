/* Cache keys: of a URL, and of one of its variants (RFC 9111 2, 4.1). */
#ifndef MINICACHE_KEY_H
#define MINICACHE_KEY_H

#include "http1.h"
#include "store.h"

/* The host counts without its case. */
void key_of_url(uint8_t key[STORE_KEY_BYTES], struct slice host, struct slice target);

/* `names`: the value of Vary; the request's values count with blanks around commas taken away. */
void key_of_variant(uint8_t key[STORE_KEY_BYTES], const uint8_t url[STORE_KEY_BYTES], uint64_t generation, struct slice names, const struct http_head *request);

#endif
