/*
 * The cache's objects, wherever their bytes are (RAM, or a block device with RAM before it). Single-threaded: every callback comes
 * from the main loop, never from inside the call that asked. All memory is taken at store_open.
 */
#ifndef MINICACHE_STORE_H
#define MINICACHE_STORE_H
#include <stddef.h>
#include <stdint.h>

#define STORE_KEY_BYTES 32          /* SHA-256 of the cache key */
#define STORE_CHUNK_BYTES 16384u    /* bodies are kept and handed out in chunks of this size; the last is shorter */
#define STORE_META_BYTES 8192u      /* the longest meta */
#define STORE_UNKNOWN UINT64_MAX    /* a length not known yet */

enum store_error { STORE_FULL = -1, STORE_IO = -2, STORE_CORRUPT = -3, STORE_TOO_LONG = -4, STORE_EXISTS = -5, STORE_ABANDONED = -6 };

struct store;
struct object;
struct chunk { const uint8_t *data; uint32_t length; };   /* valid until chunk_release */

struct store_config { uint64_t ram_bytes; struct block_device *device; /* NULL: RAM only */ };
int store_open(struct store **out, const struct store_config *config);
void store_close(struct store *store);

/* Objects. A found or created object is held; release it. A removed or evicted object lives on until its last holder lets go. */
struct object *store_find(struct store *store, const uint8_t key[STORE_KEY_BYTES]);    /* complete or still filling; NULL when none */
struct object *store_create(struct store *store, const uint8_t key[STORE_KEY_BYTES], const void *meta, size_t meta_length,
                            uint64_t length, int *error);       /* takes the key's place at once; length may be STORE_UNKNOWN */
void object_hold(struct object *object);
void object_release(struct object *object);
void store_remove(struct store *store, struct object *object);  /* not found any more, from now on and after a restart */
void store_touch(struct object *object);                        /* a hit: what eviction (SIEVE) goes by */
void store_each(struct store *store, int (*visit)(void *arg, struct object *object), void *arg);   /* until visit gives non-zero */

const uint8_t *object_key(const struct object *object);
const void *object_meta(const struct object *object, size_t *length);
int object_set_meta(struct object *object, const void *meta, size_t length);   /* after a 304; kept over a restart */
uint64_t object_length(const struct object *object);        /* STORE_UNKNOWN until known */
uint64_t object_available(const struct object *object);     /* bytes that can be read now or soon */
int object_state(const struct object *object);              /* 0 filling, 1 complete, negative: abandoned and why */

/* Filling. One filler; any number of readers meanwhile. */
int64_t object_append(struct object *object, const void *data, size_t length);  /* bytes taken: fewer when the device is behind; negative: error */
int object_complete(struct object *object, const uint8_t digest[32] /* SHA-256 of the body */);
void object_abandon(struct object *object, int reason);     /* never found again; watchers are told */

struct watcher { void (*changed)(void *arg, struct object *object); void *arg; struct watcher *next, *previous; };
void object_watch(struct object *object, struct watcher *watcher);      /* more bytes, complete, abandoned, or room to append again */
void object_unwatch(struct object *object, struct watcher *watcher);

/* Reading. 1: *out is there. 0: ready() comes later (cancel with object_unread). Negative: error. The chunk starts at `offset`. */
struct reading { void (*ready)(void *arg, int status, struct chunk *chunk); void *arg; void *private[4]; };
int object_read(struct object *object, uint64_t offset, struct chunk **out, struct reading *reading);
void object_unread(struct object *object, struct reading *reading);
void chunk_release(struct chunk *chunk);

struct store_counts { uint64_t objects, bytes, capacity, evicted, torn, io_errors, device_reads, device_writes; };
void store_count(const struct store *store, struct store_counts *counts);
#endif
