/*
 * Cache-Control of requests and responses (RFC 9111 5.2, RFC 5861, RFC 8246), and its targeted kin (RFC 9213), as one set of
 * directives. What is malformed is read the safe way: a freshness nobody can read is none. Pure.
 */
#ifndef MINICACHE_CACHE_CONTROL_H
#define MINICACHE_CACHE_CONTROL_H

#include "slice.h"

enum {
  CC_NO_STORE = 1u << 0, CC_NO_CACHE = 1u << 1, CC_PRIVATE = 1u << 2, CC_PUBLIC = 1u << 3, CC_MUST_REVALIDATE = 1u << 4,
  CC_PROXY_REVALIDATE = 1u << 5, CC_MUST_UNDERSTAND = 1u << 6, CC_ONLY_IF_CACHED = 1u << 7, CC_IMMUTABLE = 1u << 8, CC_MAX_AGE = 1u << 9,
  CC_S_MAXAGE = 1u << 10, CC_STALE_WHILE_REVALIDATE = 1u << 11, CC_STALE_IF_ERROR = 1u << 12, CC_MIN_FRESH = 1u << 13,
  CC_MAX_STALE = 1u << 14, CC_NO_TRANSFORM = 1u << 15
};

#define CC_MOST_SECONDS 2147483648u /* RFC 9111 1.2.2: what a larger number counts as */

struct cache_control {
  uint32_t set; /* CC_… */
  uint32_t max_age, s_maxage, stale_while_revalidate, stale_if_error, min_fresh, max_stale; /* seconds; valid when set */
};

/* Adds one field line. Of a directive that comes again the more restrictive value stays. */
void cache_control_read(struct cache_control *control, struct slice value);

/* One line of a targeted field, a dictionary of RFC 8941: false, and nothing is changed, when it is malformed. `devices`: a parameter names
 * the cache that a directive is for (Surrogate-Control), and that is not this one. */
bool cache_control_read_targeted(struct cache_control *control, struct slice value, bool devices);

#endif
