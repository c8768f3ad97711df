/*
 * What is kept with a body: the head as it is sent again, its fitness, its validators, its tags, its URL; or, where responses vary,
 * a marker that names the request fields that choose one. Bytes as the store keeps them: little-endian, with a magic and a version.
 */
#ifndef MINICACHE_META_H
#define MINICACHE_META_H

#include "policy.h"
#include "store.h"

#define META_MAGIC 0x316d636du /* "mcm1" */
enum { META_MARKER = 1, META_OWN_ETAG = 2, META_AHEAD = 4 /* nobody asked for it yet */ };

struct meta {
  uint32_t magic;
  uint16_t status, flags;
  struct fitness fitness;
  int64_t modified;     /* Last-Modified, INT64_MIN: none */
  uint64_t generation;  /* of a marker: part of its variants' keys */
  uint16_t head, tags, url, etag_length, etag_at; /* lengths of the texts that follow, in this order; etag_at: in the head */
  uint16_t reserved[3];
};
_Static_assert(sizeof(struct fitness) == 32, "kept on disk");
_Static_assert(sizeof(struct meta) == 72, "kept on disk");

struct kept {
  struct meta meta;
  struct slice head; /* status line and field lines; of a marker the list of names */
  struct slice tags, url, etag;
};

/* False when the bytes are none of ours. The slices point into them. */
bool meta_read(struct kept *kept, const void *bytes, size_t length);

/* Writes the meta of a response into `out` (STORE_META_BYTES); its length, 0 when it does not fit. `date`: given to it when it has none. */
size_t meta_write(void *out, const struct http_head *response, const struct fitness *fitness, struct slice url, int64_t date);
size_t meta_write_marker(void *out, struct slice names, uint64_t generation, struct slice url, const struct fitness *fitness);

/* The old with another fitness. */
size_t meta_write_fitness(void *out, const struct kept *old, const struct fitness *fitness);
/* The bytes of a meta with these flags set and those cleared. */
void meta_change_flags(void *bytes, uint16_t set, uint16_t cleared);
/* The old with a strong ETag made of the body's digest. */
size_t meta_write_etag(void *out, const struct kept *old, const uint8_t digest[32]);

/* The head of the old with the fields of a 304 in their place (RFC 9111 3.2), as text with its last empty line, into `out`. 0: too long. */
size_t meta_merge(char *out, size_t capacity, const struct kept *old, const struct http_head *update);

#endif
