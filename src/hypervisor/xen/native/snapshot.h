/*
 * The memory of a guest that has suspended itself, as copies of it are made from: its own pages, with page tables in a form that names guest
 * frames instead of machine frames, and the state of its vCPU. A copy shares the image's template with the original, has rings and console of
 * its own, and wakes up as from any suspension: in another domain, with another command line.
 */
#ifndef SHOAL_SNAPSHOT_H
#define SHOAL_SNAPSHOT_H

#include <stdint.h>

#include "builder.h"
#include "failure.h"
#include "template.h"

struct snapshot;

/*
 * Of a wired domain that is shut down with the reason "suspend". `template`: whose pages are its first ones, or NULL. Failure "snapshot" with
 * EINVAL: the guest is not what a suspended wired guest looks like, or its page tables refer to frames that are neither its own nor
 * the template's.
 */
struct snapshot *snapshot_take(struct builder *builder, uint16_t domid, uint64_t virt_base, const struct template *template,
                               struct failure *failure);
void snapshot_free(struct snapshot *snapshot);

uint64_t snapshot_pages(const struct snapshot *snapshot);
unsigned snapshot_vifs(const struct snapshot *snapshot);

/* An empty domain with the same memory and as many wired vifs becomes a copy; then it is a shell as builder_build leaves it. */
int snapshot_build(struct builder *builder, uint16_t domid, const struct snapshot *snapshot, struct build_result *result,
                   struct failure *failure);

#endif
