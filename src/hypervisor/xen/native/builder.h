/*
 * Makes an empty PV domain bootable: memory, image, p2m list, start_info, rings, page tables, grant table, vCPU. Our own, because
 * libxenguest parses the image each time, maps page by page and refuses guests under 4 MiB; here an image is a block of bytes to copy,
 * everything the builder writes is mapped in one go, and memory is honoured to the page.
 *
 * A domain is built without knowing whose it will be; builder_name says that later, so that it can wait as a shell in between.
 */
#ifndef SHOAL_BUILDER_H
#define SHOAL_BUILDER_H

#include <stddef.h>
#include <stdint.h>

#include "control.h"
#include "failure.h"
#include "wiring.h"

#define COMMAND_LINE_BYTES 1024u /* with the terminating NUL */

struct template;

struct build_request {
  uint16_t domid;
  uint64_t memory_pages;
  const uint8_t *image; /* what to lay in from guest frame 0 on */
  size_t image_bytes;
  uint64_t image_memory_bytes; /* image with .bss, a multiple of 4,096, not less than image_bytes */
  uint64_t virt_base;
  uint64_t entry;
  int has_hypercall_page;
  uint64_t hypercall_page;         /* virtual address, inside the image */
  const struct template *template; /* whose pages are the first of the image; NULL: all of it is the domain's own */
  int wired;                       /* devices are laid out here (wiring.h), and the guest is given no store */
  unsigned vif_count;              /* of a wired domain; their ports are FIRST_VIF_PORT and up */
  uint32_t vif_handles[WIRING_VIFS];
};

struct build_result {
  uint64_t store_mfn; /* 0 in a wired domain */
  uint64_t console_mfn;
  uint64_t start_info_mfn;
  struct {
    uint64_t tx_mfn, rx_mfn;
  } vifs[WIRING_VIFS];
};

struct builder;

struct builder *builder_open(struct control *control, struct failure *failure);
void builder_close(struct builder *builder);
struct control *builder_control(struct builder *builder);

/* Pages of a domain; NULL on failure. builder_unmap takes back what one builder_map gave. */
void *builder_map(struct builder *builder, uint16_t domid, size_t count, const uint64_t *mfns, int writable, struct failure *failure);
int builder_unmap(struct builder *builder, void *pages, size_t count);

/*
 * Blocking; grows with the memory (page tables for all of it). Failure "layout" with ENOSPC: memory too small for the image and its boot
 * data; with EINVAL: an address of the image is impossible. The domain is left as it is: the caller destroys it.
 */
int builder_build(struct builder *builder, const struct build_request *request, struct build_result *result, struct failure *failure);

/* Who a domain is: its command line, and the MAC addresses of its wired vifs, in the order they were wired in. */
struct naming {
  const char *command_line;
  const uint8_t (*macs)[6];
  unsigned vif_count;
};

/* Into the page of its start_info. */
void builder_write_name(uint8_t *start_info, const struct naming *naming);

/* Of a domain that was built and has not run. */
int builder_name(struct builder *builder, uint16_t domid, uint64_t start_info_mfn, const struct naming *naming, struct failure *failure);

/* Both ring pages of a wired vif as SHARED_RING_INIT leaves them. */
void builder_clear_rings(uint8_t *tx_page, uint8_t *rx_page);

/* The domain's fresh shared info and grant table: events masked until the guest has a handler, and dom0 alone may reach the console's ring
 * (grant 0) and one more page (grant 1: the store's ring, of a wired domain start_info) without a foreign mapping. */
void builder_open_to_dom0(uint8_t *shared_info_page, uint8_t *grant_page, uint64_t console_mfn, uint64_t second_mfn);

#endif
