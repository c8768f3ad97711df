/* See guest_pages.h. */
#include "guest_pages.h"

#include <stdlib.h>
#include <string.h>

#include "frames.h"
#include "memory_stream.h"

struct mapping {
  struct mapping *next;
  void *pages;
  uint64_t count;
};

struct guest_pages {
  struct builder *builder;
  uint16_t domid;
  uint64_t count, first;
  struct frames *frames;
  struct mapping *mappings;
  const uint8_t *at[];
};

struct guest_pages *guest_pages_of(struct builder *builder, uint16_t domid, const uint64_t *mfns, uint64_t count, uint64_t first, struct failure *failure)
{
  struct guest_pages *pages = calloc(1, sizeof *pages + count * sizeof *pages->at);

  if (pages) {
    pages->builder = builder;
    pages->domid = domid;
    pages->count = count;
    pages->first = first;
    pages->frames = frames_of(mfns, count, first);
    if (pages->frames) return pages;
  }
  free(pages);
  failed(failure, "calloc");
  return NULL;
}

void guest_pages_free(struct guest_pages *pages)
{
  if (!pages) return;
  while (pages->mappings) {
    struct mapping *mapping = pages->mappings;

    pages->mappings = mapping->next;
    builder_unmap(pages->builder, mapping->pages, mapping->count);
    free(mapping);
  }
  frames_free(pages->frames);
  free(pages);
}

uint64_t guest_pages_find(struct guest_pages *pages, uint64_t mfn) { return frames_find(pages->frames, mfn); }

const uint64_t *guest_pages_list(const struct guest_pages *pages) { return frames_list(pages->frames); }

const uint8_t *guest_page(const struct guest_pages *pages, uint64_t frame)
{
  return frame >= pages->first && frame - pages->first < pages->count ? pages->at[frame - pages->first] : NULL;
}

int guest_pages_map(struct guest_pages *pages, const uint64_t *frames, uint64_t count, struct failure *failure)
{
  struct mapping *mapping = malloc(sizeof *mapping);
  uint64_t *mfns = calloc(count + 1, sizeof *mfns), wanted = 0;
  int status = -1;

  if (!mapping || !mfns) {
    failed(failure, "malloc");
    goto out;
  }
  for (uint64_t i = 0; i < count; i++) {
    if (frames[i] < pages->first || frames[i] - pages->first >= pages->count) {
      failed_with(failure, "memory", EINVAL);
      goto out;
    }
    if (!guest_page(pages, frames[i])) mfns[wanted++] = guest_pages_list(pages)[frames[i] - pages->first];
  }
  status = 0;
  if (wanted == 0) goto out;
  *mapping = (struct mapping){ pages->mappings, builder_map(pages->builder, pages->domid, wanted, mfns, 0, failure), wanted };
  status = mapping->pages ? 0 : -1;
  if (status) goto out;
  /* Backwards, for those that were mapped before must be told apart still: the last of them that is not is the last page. */
  for (uint64_t i = count, at = wanted; i-- > 0;)
    if (!pages->at[frames[i] - pages->first]) pages->at[frames[i] - pages->first] = (const uint8_t *)mapping->pages + --at * PAGE_BYTES;
  pages->mappings = mapping;
  mapping = NULL;
out:
  free(mapping);
  free(mfns);
  return status;
}
