/*
 * The read-only pages of an image, once a host: they belong to a template domain that never runs, and are mapped into the page tables of
 * every guest of that image. A guest is smaller by them, its start copies less, and all guests run the same machine code in
 * the same memory, which a processor's caches (and an emulator's translations) reward.
 *
 * Xen counts the mappings: a template that is destroyed keeps its pages until the last guest that maps them is gone. The template itself says
 * what it is, so that the next agent finds it: its handle names the image, and its shared info page, of which nothing else is in use,
 * lists the frames.
 */
#ifndef SHOAL_TEMPLATE_H
#define SHOAL_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>

#include "builder.h"
#include "failure.h"

/* What the list in the shared info page has room for: 1.5 MiB. */
#define TEMPLATE_PAGES_MAX 376u
#define TEMPLATE_DIGEST_BYTES 32u

struct template {
  uint16_t domid;
  uint64_t pages;
  uint64_t mfns[TEMPLATE_PAGES_MAX];
};

/* A new template with the first `pages` (at most TEMPLATE_PAGES_MAX) pages of the image. On failure there is none. */
int template_make(struct builder *builder, const uint8_t handle[16], const uint8_t digest[TEMPLATE_DIGEST_BYTES], const uint8_t *image,
                  uint64_t pages, struct template *template, struct failure *failure);

/* The template that domain `domid` is; 1 when it is none of this digest, or one that was never finished. */
int template_find(struct builder *builder, uint16_t domid, const uint8_t digest[TEMPLATE_DIGEST_BYTES], struct template *template,
                  struct failure *failure);

#endif
