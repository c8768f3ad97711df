/* What the RAM store's two files share: objects and their bytes (store_ram.c), finding and evicting them (store_ram_find.c). */
#ifndef MINICACHE_STORE_RAM_H
#define MINICACHE_STORE_RAM_H

#define STORE_PREFIX ram_
#include "arena.h"
#include "store_own.h"
#include "store.h"

#define NODE_CHUNKS 2046u /* of a full node of the list of chunks: 16 KiB of pointers */

/* Pointers to an object's chunks; every node but the last is full. */
struct node {
  struct node *next;
  uint64_t order;
  uint8_t *chunks[];
};

struct object {
  uint8_t key[STORE_KEY_BYTES];
  struct store *store;
  struct object *next_in_bucket;
  struct object *newer, *older; /* SIEVE's queue */
  struct object *next_dirty;
  struct node *first, *last;
  void *meta;
  struct watcher *watchers;
  uint64_t length, available, reserved; /* reserved: bytes of the arena that the rest of a known length will take */
  uint32_t holders, last_count; /* last_count: chunks in the last node */
  int32_t state;
  uint16_t meta_length;
  uint8_t meta_order, tail_order; /* tail_order: of the last chunk */
  bool listed, visited, dirty;
};

struct handle {
  struct chunk chunk; /* first: a chunk is its handle */
  struct object *object;
  struct handle *next;
};

struct store {
  struct arena arena;
  struct object *objects, *free_objects;
  struct handle *handles, *free_handles;
  struct object **buckets;
  uint32_t bucket_mask;
  struct object *newest, *oldest, *hand;
  struct object *dirty;
  uint64_t committed;      /* sum of what is reserved */
  struct reading *waiting; /* for a handle */
  struct shoal_timer timer;
  struct store_counts counts;
};

/* Room of an order, by evicting if need be; NULL: nothing more can go. */
void *ram_alloc(struct store *store, unsigned order);
bool ram_evict(struct store *store);
void ram_unlist(struct object *object); /* not found, not in the queue any more */
void ram_list(struct object *object);
void ram_free_object(struct object *object);
void ram_tell_later(struct object *object);

#endif
