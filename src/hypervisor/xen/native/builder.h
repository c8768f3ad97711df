/*
 * Makes an empty PV domain bootable: memory, image, p2m list, start_info, rings, page tables, grant table, vCPU. Our own, because
 * libxenguest parses the image each time, maps page by page and refuses guests under 4 MiB; here an image is a block of bytes to copy,
 * everything the builder writes is mapped in one go, and memory is honoured to the page.
 */
#ifndef SHOAL_BUILDER_H
#define SHOAL_BUILDER_H

#include <stddef.h>
#include <stdint.h>

#include "control.h"
#include "failure.h"

#define COMMAND_LINE_BYTES 1024u /* with the terminating NUL */

struct build_request {
  uint16_t domid;
  uint64_t memory_pages;
  const uint8_t *image; /* what to lay in from guest frame 0 on */
  size_t image_bytes;
  uint64_t image_memory_bytes; /* image with .bss, a multiple of 4,096, not less than image_bytes */
  uint64_t virt_base;
  uint64_t entry;
  int has_hypercall_page;
  uint64_t hypercall_page; /* virtual address, inside the image */
  char command_line[COMMAND_LINE_BYTES];
};

struct build_result {
  uint64_t store_mfn;
  uint64_t console_mfn;
};

struct builder;

struct builder *builder_open(struct control *control, struct failure *failure);
void builder_close(struct builder *builder);

/*
 * Blocking; grows with the memory (page tables for all of it). Failure "layout" with ENOSPC: memory too small for the image and its boot
 * data; with EINVAL: an address of the image is impossible. The domain is left as it is: the caller destroys it.
 */
int builder_build(struct builder *builder, const struct build_request *request, struct build_result *result, struct failure *failure);

#endif
