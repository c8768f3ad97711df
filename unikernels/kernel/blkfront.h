/*
 * One block device on Xen's blkif ring protocol (xen/io/blkif.h). blkfront.c moves requests over a ring and knows nothing of how the two
 * ends found each other; blkfront_link.c grants and makes rings, and keeps what is under way over their loss; blkfront_store.c finds the
 * backend by the store. There is no wired form: Linux's blkback needs the store.
 */
#ifndef KERNEL_BLKFRONT_H
#define KERNEL_BLKFRONT_H

#include "shoal.h"
#include <xen/xen.h>
#include <xen/grant_table.h>
#include "barrier.h"
#include <xen/io/blkif.h>
#include "loop.h"

_Static_assert(sizeof(struct blkif_request) == 112 && sizeof(struct blkif_response) == 16, "blkif ABI");
_Static_assert(sizeof(struct blkif_request_indirect) <= sizeof(struct blkif_request) && sizeof(struct blkif_request_segment) == 8, "blkif ABI");

#define BLKFRONT_DEVICES 2u
#define BLKFRONT_SLOTS 32u      /* of a ring of one page */
#define BLKFRONT_SEGMENTS 64u   /* of one request at most: the pages of SHOAL_BLOCK_REQUEST_BYTES */
/* Grants for buffers that are in force at once; the guest's table has 512 for all. */
#define BLKFRONT_GRANTS 192u
/* A device that is gone for so long takes its requests with it. */
#define BLKFRONT_PATIENCE_NS 30000000000ull

/* What the backend says it can. */
struct blkfront_features {
  uint64_t sectors; /* of 512 bytes */
  uint32_t sector_bytes;
  uint32_t segments_most; /* of an indirect request; 0: none */
  bool readonly, flush, barrier, persistent;
};

struct blkfront_slot {
  struct shoal_block_request *request; /* NULL: free */
  uint32_t offset_bytes, length_bytes; /* which part of the request */
  uint16_t grant_count;
  uint8_t operation; /* BLKIF_OP_* as sent, within an indirect request too */
  grant_ref_t grants[BLKFRONT_SEGMENTS];
  struct blkif_request_segment *indirect; /* its page of segments, granted for good */
  grant_ref_t indirect_ref;
};

struct block_device {
  unsigned index;
  const struct shoal_block_events *events;
  void *context;
  bool linked, ready, broken, was_up;
  domid_t backend;
  uint32_t port;
  grant_ref_t ring_ref;
  blkif_front_ring_t ring;
  RING_IDX pushed;
  struct blkfront_features features;
  struct blkfront_slot slots[BLKFRONT_SLOTS];
  unsigned free_slots, grants_in_force;
  /* Kept mapped by the backend, one grant a page; NULL: grants last as long as their request. */
  uint8_t *lasting;
  size_t lasting_pages;
  grant_ref_t *lasting_refs;
  struct shoal_block_request *waiting, *last_waiting; /* not, or not wholly, in the ring */
  uint32_t waiting_offset;                            /* how far the first of them is */
  struct shoal_block_request *ended;                  /* to be told in the next turn */
  struct loop_batch batch;
  struct shoal_timer tell, patience;
};

/* Ring, slots and, when they suffice, a page of segments for each slot. `lasting` as in shoal_block_open. */
bool blkfront_init(struct block_device *device, unsigned index, const struct shoal_block_events *events, void *context, void *lasting,
                   size_t lasting_bytes);

/* A fresh ring and an event channel for `backend`: fills device->ring_ref and port. */
bool blkfront_link(struct block_device *device, domid_t backend);

/* Takes the ring back; what was under way waits for the next one. */
void blkfront_unlink(struct block_device *device);

/* In another domain: grants and channels of the old one are no more. What was under way waits for the next ring. */
void blkfront_forget(struct block_device *device);

/* The backend is connected: requests flow. */
void blkfront_up(struct block_device *device, const struct blkfront_features *features);

/* Takes what the backend has answered. */
void blkfront_poll(struct block_device *device);

/* Puts waiting requests into the ring: the flush of device->batch. */
void blkfront_flush(void *context);

/* Gives a slot's grants back; false when the backend still has one of them. */
bool blkfront_end_grants(struct block_device *device, struct blkfront_slot *slot);

/* Ends the first waiting request or one from a slot. */
void blkfront_end(struct block_device *device, struct shoal_block_request *request, int status);

bool blkfront_store_start(struct block_device *device);


#endif
