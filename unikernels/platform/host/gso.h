/*
 * Segments of one TCP flow put together into one long frame for the kernel, which cuts it again as late as it can (or never, on a
 * virtual wire): one system call for up to 64 KB instead of one for 1,460 bytes. Each segment is written by its sender right where
 * it has to lie, so that nothing is copied for it. Pure but for the callback.
 */
#ifndef HOST_GSO_H
#define HOST_GSO_H

#include "../../kernel/segments.h"

#define GSO_FRAME_BYTES 65535u

struct gso_header { /* struct virtio_net_hdr, little-endian */
  uint8_t flags, type;
  uint16_t header_bytes, segment_bytes, checksum_start, checksum_offset;
};
_Static_assert(sizeof(struct gso_header) == 10, "as the kernel has it");

struct gso {
  void (*send)(void *context, const struct gso_header *header, const uint8_t *frame, size_t length);
  void *context;
  struct segment_run run; /* of length 0: none */
  uint8_t saved[128];  /* what lay where the next segment's headers were written */
  uint8_t frame[GSO_FRAME_BYTES + SHOAL_NET_FRAME_BYTES];
};

uint8_t *gso_reserve(struct gso *gso);
void gso_commit(struct gso *gso, size_t length, uint32_t flags);
void gso_flush(struct gso *gso);

/* Fills in a checksum that SHOAL_NET_CSUM_BLANK left open, for a wire whose other end does not. */
void gso_fill_checksum(uint8_t *frame, size_t length);

#endif
