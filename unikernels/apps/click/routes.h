/* A table of IPv4 and IPv6 routes: the longest prefix that an address begins with. A binary tree without nodes of one branch, so that a look-up takes as many steps as prefixes lie within
 * each other on the way, whatever their number. Pure but for memory. */
#ifndef CLICK_ROUTES_H
#define CLICK_ROUTES_H

#include "shoal.h"

#define ROUTES_MAX 262144u
#define ROUTE_NONE 0xffffffffu

struct route_key {
  uint32_t words[4]; /* host's order, highest bits first; IPv4 uses the first */
};

struct route {
  struct route_key key;
  uint8_t length;
  bool is_used;
  uint16_t output;
  uint8_t gateway[16]; /* as it lies in a header; IPv4 in the first 4; zero: none */
};

struct routes {
  struct route_node *nodes;
  uint32_t node_count, node_capacity;
  struct route *all;
  uint32_t count, capacity; /* of `all`, those not used any more included */
  uint32_t live;
  uint32_t root;
};

enum routes_result { ROUTES_OK, ROUTES_EXISTS, ROUTES_MISSING, ROUTES_FULL };

/* All of it zeroed is an empty table. */
void routes_end(struct routes *routes);
/* The prefix's bits beyond its length are ignored. `replace`: a route of the same prefix is changed; otherwise ROUTES_EXISTS. */
enum routes_result routes_add(struct routes *routes, const struct route *route, bool replace);
enum routes_result routes_remove(struct routes *routes, const struct route_key *key, uint8_t length);
/* NULL: none. */
const struct route *routes_find(const struct routes *routes, const struct route_key *key);
/* The route of exactly that prefix. */
const struct route *routes_exact(const struct routes *routes, const struct route_key *key, uint8_t length);

#endif
