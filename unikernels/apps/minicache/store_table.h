/*
 * Minicache has both stores and chooses one when it starts. Each store is written against store.h as if it were the only one; where both
 * are linked (STORE_TABLE) its functions carry a prefix (store_own.h) and stand in a table, and store_table.c has the plain names, which
 * go by the table of the store that was opened. One store is open at a time.
 */
#ifndef MINICACHE_STORE_TABLE_H
#define MINICACHE_STORE_TABLE_H

#include "store.h"

/* F(type, name, parameters, arguments) of every function of store.h but store_open. */
#define STORE_FUNCTIONS(F)                                                                                                       \
  F(void, store_close, (struct store *store), (store))                                                                           \
  F(struct object *, store_find, (struct store *store, const uint8_t key[STORE_KEY_BYTES]), (store, key))                        \
  F(struct object *, store_create,                                                                                               \
    (struct store *store, const uint8_t key[STORE_KEY_BYTES], const void *meta, size_t meta_length, uint64_t length, int *error), \
    (store, key, meta, meta_length, length, error))                                                                              \
  F(void, object_hold, (struct object *object), (object))                                                                        \
  F(void, object_release, (struct object *object), (object))                                                                     \
  F(void, store_remove, (struct store *store, struct object *object), (store, object))                                           \
  F(void, store_touch, (struct object *object), (object))                                                                        \
  F(void, store_each, (struct store *store, int (*visit)(void *arg, struct object *object), void *arg), (store, visit, arg))     \
  F(const uint8_t *, object_key, (const struct object *object), (object))                                                        \
  F(const void *, object_meta, (const struct object *object, size_t *length), (object, length))                                  \
  F(int, object_set_meta, (struct object *object, const void *meta, size_t length), (object, meta, length))                      \
  F(uint64_t, object_length, (const struct object *object), (object))                                                            \
  F(uint64_t, object_available, (const struct object *object), (object))                                                         \
  F(int, object_state, (const struct object *object), (object))                                                                  \
  F(int64_t, object_append, (struct object *object, const void *data, size_t length), (object, data, length))                    \
  F(int, object_complete, (struct object *object, const uint8_t digest[32]), (object, digest))                                   \
  F(void, object_abandon, (struct object *object, int reason), (object, reason))                                                 \
  F(void, object_watch, (struct object *object, struct watcher *watcher), (object, watcher))                                     \
  F(void, object_unwatch, (struct object *object, struct watcher *watcher), (object, watcher))                                   \
  F(int, object_read, (struct object *object, uint64_t offset, struct chunk **out, struct reading *reading), (object, offset, out, reading)) \
  F(void, object_unread, (struct object *object, struct reading *reading), (object, reading))                                    \
  F(void, chunk_release, (struct chunk *chunk), (chunk))                                                                         \
  F(void, store_count, (const struct store *store, struct store_counts *counts), (store, counts))

/* Members by position only: where a store has prefixes, their names have too. */
struct store_table {
  int (*open)(struct store **out, const struct store_config *config);
#define STORE_MEMBER(type, name, parameters, arguments) type(*name) parameters;
  STORE_FUNCTIONS(STORE_MEMBER)
#undef STORE_MEMBER
};

extern const struct store_table store_in_ram, store_on_disk;

#endif
