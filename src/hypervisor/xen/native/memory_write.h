/*
 * Makes an empty domain what a suspended one was, from the pieces and the state that memory_read.h gives: in place of builder_build. The guest
 * wakes up as from a suspension that ended elsewhere, with rings, console and event channels of its own and no command line yet.
 */
#ifndef SHOAL_MEMORY_WRITE_H
#define SHOAL_MEMORY_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "builder.h"
#include "failure.h"
#include "template.h"

struct memory_writer;

/* Takes the memory of an empty domain: `pages` less those of `template`. ENOMEM when Xen has no more. */
struct memory_writer *memory_writer_open(struct builder *builder, uint16_t domid, uint64_t pages, const struct template *template,
                                         struct failure *failure);
void memory_writer_free(struct memory_writer *writer);

/* Failure "memory" with EINVAL: malformed. The domain is then good for nothing but its end. */
int memory_writer_piece(struct memory_writer *writer, const uint8_t *piece, size_t length, struct failure *failure);

/* All pages are there. Once only; afterwards the domain is a shell as builder_build leaves it, or named when it is known who it is (not NULL). */
int memory_writer_finish(struct memory_writer *writer, const uint8_t *state, size_t length, unsigned vif_count, const struct naming *naming,
                         struct build_result *result, struct failure *failure);

#endif
