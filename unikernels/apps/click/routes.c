/* The tree of routes: each node a prefix, its children prefixes that begin with it and go on with a 0 or a 1. */
#include "routes.h"

struct route_node {
  struct route_key key;
  uint32_t children[2]; /* index + 1; 0: none */
  uint32_t route;       /* index + 1; 0: only where two part */
  uint8_t length;
};

static unsigned bit_of(const struct route_key *key, unsigned at) { return at >= 128 ? 0 : key->words[at / 32] >> (31 - at % 32) & 1; }

static struct route_key cut(const struct route_key *key, unsigned length) {
  struct route_key result = *key;
  for (unsigned i = 0; i < 4; i++) {
    if (length <= 32 * i) result.words[i] = 0;
    else if (length < 32 * i + 32) result.words[i] &= UINT32_MAX << (32 * i + 32 - length);
  }
  return result;
}

/* How many bits, at most `most`, both begin with. */
static unsigned common(const struct route_key *a, const struct route_key *b, unsigned most) {
  for (unsigned i = 0; i < 4; i++) {
    uint32_t differ = a->words[i] ^ b->words[i];
    if (differ == 0) continue;
    unsigned bits = 32 * i + (unsigned)__builtin_clz(differ);
    return bits < most ? bits : most;
  }
  return most;
}

static bool grow(void **at, uint32_t count, uint32_t *capacity, size_t bytes) {
  uint32_t wanted = *capacity == 0 ? 16 : *capacity * 2;
  void *more = shoal_alloc(wanted * bytes);
  if (more == NULL) return false;
  if (count > 0) memcpy(more, *at, count * bytes);
  shoal_free(*at);
  *at = more;
  *capacity = wanted;
  return true;
}

void routes_end(struct routes *routes) {
  shoal_free(routes->nodes);
  shoal_free(routes->all);
  memset(routes, 0, sizeof *routes);
}

/* There is room for it. */
static uint32_t new_node(struct routes *routes, const struct route_key *key, unsigned length, uint32_t route) {
  routes->nodes[routes->node_count] = (struct route_node){.key = cut(key, length), .length = (uint8_t)length, .route = route};
  return ++routes->node_count;
}

/* The tree's place where that prefix belongs: a node of it is there, or is put there. */
static void insert(struct routes *routes, uint32_t route) {
  const struct route_key key = routes->all[route].key;
  unsigned length = routes->all[route].length;
  uint32_t *at = &routes->root;
  while (*at != 0) {
    struct route_node *node = &routes->nodes[*at - 1];
    unsigned same = common(&key, &node->key, length < node->length ? length : node->length);
    if (same == node->length && same == length) {
      node->route = route + 1;
      return;
    }
    if (same < node->length) {
      /* Between its parent and this node: the prefix itself, or where both part. */
      uint32_t below = *at;
      uint32_t above = new_node(routes, &key, same, same == length ? route + 1 : 0);
      *at = above;
      routes->nodes[above - 1].children[bit_of(&routes->nodes[below - 1].key, same)] = below;
      if (same == length) return;
      uint32_t leaf = new_node(routes, &key, length, route + 1);
      routes->nodes[above - 1].children[bit_of(&key, same)] = leaf;
      return;
    }
    at = &node->children[bit_of(&key, node->length)];
  }
  *at = new_node(routes, &key, length, route + 1);
}

/* Anew from the routes that are in use, in their order. */
static void rebuild(struct routes *routes) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < routes->count; i++) {
    if (routes->all[i].is_used) routes->all[count++] = routes->all[i];
  }
  routes->count = routes->live = count;
  routes->root = routes->node_count = 0;
  for (uint32_t i = 0; i < count; i++) insert(routes, i);
}

static struct route *find_exact(const struct routes *routes, const struct route_key *key, uint8_t length) {
  struct route_key wanted = cut(key, length);
  uint32_t at = routes->root;
  while (at != 0) {
    const struct route_node *node = &routes->nodes[at - 1];
    if (node->length > length || common(&wanted, &node->key, node->length) < node->length) return NULL;
    if (node->length == length) return node->route != 0 && routes->all[node->route - 1].is_used ? &routes->all[node->route - 1] : NULL;
    at = node->children[bit_of(&wanted, node->length)];
  }
  return NULL;
}

const struct route *routes_exact(const struct routes *routes, const struct route_key *key, uint8_t length) { return find_exact(routes, key, length); }

enum routes_result routes_add(struct routes *routes, const struct route *route, bool replace) {
  struct route *there = find_exact(routes, &route->key, route->length);
  struct route made = *route;
  made.key = cut(&route->key, route->length);
  made.is_used = true;
  if (there != NULL) {
    if (!replace) return ROUTES_EXISTS;
    *there = made;
    return ROUTES_OK;
  }
  /* Those that were removed make room before more memory does. */
  if (routes->live < routes->count && (routes->count == routes->capacity || routes->node_count + 2 > routes->node_capacity)) rebuild(routes);
  if (routes->live >= ROUTES_MAX) return ROUTES_FULL;
  if (routes->count == routes->capacity && !grow((void **)&routes->all, routes->count, &routes->capacity, sizeof *routes->all)) return ROUTES_FULL;
  if (routes->node_count + 2 > routes->node_capacity && !grow((void **)&routes->nodes, routes->node_count, &routes->node_capacity, sizeof *routes->nodes)) return ROUTES_FULL;
  routes->all[routes->count++] = made;
  routes->live++;
  insert(routes, routes->count - 1);
  return ROUTES_OK;
}

enum routes_result routes_remove(struct routes *routes, const struct route_key *key, uint8_t length) {
  struct route *there = find_exact(routes, key, length);
  if (there == NULL) return ROUTES_MISSING;
  there->is_used = false;
  routes->live--;
  return ROUTES_OK;
}

const struct route *routes_find(const struct routes *routes, const struct route_key *key) {
  const struct route *best = NULL;
  uint32_t at = routes->root;
  while (at != 0) {
    const struct route_node *node = &routes->nodes[at - 1];
    if (common(key, &node->key, node->length) < node->length) break;
    if (node->route != 0 && routes->all[node->route - 1].is_used) best = &routes->all[node->route - 1];
    if (node->length >= 128) break;
    at = node->children[bit_of(key, node->length)];
  }
  return best;
}
