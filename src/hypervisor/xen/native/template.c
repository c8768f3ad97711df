/* See template.h. */
#include "template.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xenforeignmemory.h>

#include <xen/xen.h>

#include "layout.h"

#define TEMPLATE_MAGIC 0x3154504d54485331ull /* "1SHTMPT1" */

/* At the start of the template's shared info page: what Xen keeps there belongs to vCPUs and event channels, and a template has none. */
struct list {
  uint64_t magic; /* written last */
  uint64_t pages;
  uint8_t digest[TEMPLATE_DIGEST_BYTES];
  uint64_t mfns[TEMPLATE_PAGES_MAX];
};
_Static_assert(sizeof(struct list) <= offsetof(struct shared_info, wc_version), "the list ends before what Xen writes");

static struct list *map_list(struct builder *builder, uint16_t domid, int writable, struct failure *failure)
{
  struct domain_facts facts;
  int status = control_domain(builder_control(builder), domid, &facts, failure);

  if (status < 0) return NULL;
  if (status > 0) {
    failed_with(failure, "xc_domain_getinfolist", ESRCH);
    return NULL;
  }
  return builder_map(builder, domid, 1, &facts.shared_info_mfn, writable, failure);
}

static int fill(struct builder *builder, struct template *template, const uint8_t digest[TEMPLATE_DIGEST_BYTES], const uint8_t *image,
                struct failure *failure)
{
  struct list *list;
  void *pages;

  if (control_populate(builder_control(builder), template->domid, 0, template->pages, template->mfns, failure)) return -1;
  pages = builder_map(builder, template->domid, template->pages, template->mfns, 1, failure);
  if (!pages) return -1;
  memcpy(pages, image, template->pages * PAGE_BYTES);
  builder_unmap(builder, pages, template->pages);
  list = map_list(builder, template->domid, 1, failure);
  if (!list) return -1;
  list->pages = template->pages;
  memcpy(list->digest, digest, TEMPLATE_DIGEST_BYTES);
  memcpy(list->mfns, template->mfns, template->pages * sizeof *list->mfns);
  __atomic_store_n(&list->magic, TEMPLATE_MAGIC, __ATOMIC_RELEASE);
  builder_unmap(builder, list, 1);
  return 0;
}

int template_make(struct builder *builder, const uint8_t handle[16], const uint8_t digest[TEMPLATE_DIGEST_BYTES], const uint8_t *image,
                  uint64_t pages, struct template *template, struct failure *failure)
{
  struct control *control = builder_control(builder);
  struct failure ignored;

  if (pages == 0 || pages > TEMPLATE_PAGES_MAX) return failed_with(failure, "layout", EINVAL);
  template->pages = pages;
  if (control_create_owner(control, handle, pages, &template->domid, failure)) return -1;
  if (fill(builder, template, digest, image, failure) == 0) return 0;
  control_destroy(control, template->domid, &ignored);
  return -1;
}

int template_find(struct builder *builder, uint16_t domid, const uint8_t digest[TEMPLATE_DIGEST_BYTES], struct template *template,
                  struct failure *failure)
{
  struct list *list = map_list(builder, domid, 0, failure);
  int status = 1;

  if (!list) return -1;
  if (list->magic == TEMPLATE_MAGIC && list->pages > 0 && list->pages <= TEMPLATE_PAGES_MAX &&
      memcmp(list->digest, digest, TEMPLATE_DIGEST_BYTES) == 0) {
    template->domid = domid;
    template->pages = list->pages;
    memcpy(template->mfns, list->mfns, list->pages * sizeof *list->mfns);
    status = 0;
  }
  builder_unmap(builder, list, 1);
  return status;
}
