/*
 * Requests of a blkif device. A request of the caller becomes one or more of the ring: up to 11 pages in one, or up to 64 by a page of
 * segments where the backend takes that. The ring is memory that the backend can write at any time: responses are copied, then checked
 * against what this end knows it asked for.
 */
#include "blkfront.h"
#include "events.h"
#include "grants.h"
#include "pages.h"

static void break_device(struct block_device *device, const char *why) {
  if (device->broken) return;
  shoal_print("disk %u: backend broke the protocol (%s); device given up\n", device->index, why);
  bool was_ready = device->ready;
  device->broken = true;
  device->ready = false;
  shoal_timer_set(&device->patience, 0); /* nothing will come any more: all that waits ends */
  if (was_ready && device->events->down != NULL) device->events->down(device->context);
}

void blkfront_end(struct block_device *device, struct shoal_block_request *request, int status) {
  request->status = status;
  request->next = device->ended;
  device->ended = request;
  shoal_timer_set(&device->tell, 0);
}

/* One part of a request has ended; the worst of its parts is how it ended. */
static void end_part(struct block_device *device, struct shoal_block_request *request, int status) {
  if (status != SHOAL_BLOCK_OK) request->status = status;
  if (--request->parts_left == 0 && request != device->waiting) blkfront_end(device, request, request->status);
}

bool blkfront_end_grants(struct block_device *device, struct blkfront_slot *slot) {
  bool all = true;
  for (unsigned i = 0; i < slot->grant_count && device->lasting == NULL; i++) all &= grant_end(slot->grants[i]);
  if (device->lasting == NULL) device->grants_in_force -= slot->grant_count;
  slot->grant_count = 0;
  return all;
}

/* False when the backend broke the protocol. */
static bool take_response(struct block_device *device, const blkif_response_t *response) {
  struct blkfront_slot *slot = response->id < BLKFRONT_SLOTS ? &device->slots[response->id] : NULL;
  if (slot == NULL || slot->request == NULL) {
    break_device(device, "an answer to nothing");
    return false;
  }
  struct shoal_block_request *request = slot->request;
  if (!blkfront_end_grants(device, slot)) {
    break_device(device, "it keeps the buffer of what it has answered");
    return false;
  }
  slot->request = NULL;
  device->free_slots++;
  int status = response->status == BLKIF_RSP_OKAY ? SHOAL_BLOCK_OK : SHOAL_BLOCK_FAILED;
  if (response->status == BLKIF_RSP_EOPNOTSUPP && request->operation == SHOAL_BLOCK_FLUSH) {
    /* It said it could, and cannot: as if it had never said so. */
    if (slot->operation == BLKIF_OP_FLUSH_DISKCACHE) device->features.flush = false;
    else device->features.barrier = false;
    status = SHOAL_BLOCK_OK;
  }
  end_part(device, request, status);
  return true;
}

void blkfront_poll(struct block_device *device) {
  int more = 1;
  while (more && device->linked && !device->broken) {
    RING_IDX producer = *(volatile RING_IDX *)&device->ring.sring->rsp_prod;
    xen_rmb();
    if (producer - device->ring.rsp_cons > device->pushed - device->ring.rsp_cons) {
      break_device(device, "more answers than requests");
      return;
    }
    for (; device->ring.rsp_cons != producer; device->ring.rsp_cons++) {
      blkif_response_t response;
      RING_COPY_RESPONSE(&device->ring, device->ring.rsp_cons, &response);
      if (!take_response(device, &response)) return;
    }
    RING_FINAL_CHECK_FOR_RESPONSES(&device->ring, more);
  }
  if (device->ready && device->waiting != NULL) loop_flush_later(&device->batch);
}

/* ---- into the ring ---- */

/* A grant for the page, of the request or for good; 0 when there is none. */
static grant_ref_t grant_page(struct block_device *device, const uint8_t *page, bool is_write) {
  if (device->lasting == NULL) return grant_access(device->backend, page, is_write);
  grant_ref_t *ref = &device->lasting_refs[(size_t)(page - device->lasting) / PAGE_BYTES];
  if (*ref == 0) *ref = grant_access(device->backend, page, false);
  return *ref;
}

/* Fills `segments` with as much of the request from `offset` on as fits; how many bytes that is, 0 without grants. */
static uint32_t make_segments(struct block_device *device, struct blkfront_slot *slot, const struct shoal_block_request *request, uint32_t offset,
                              unsigned most, struct blkif_request_segment *segments) {
  uint32_t length = 0;
  unsigned count = 0;
  for (; count < most && offset + length < request->length_bytes; count++) {
    uint8_t *at = (uint8_t *)request->bytes + offset + length;
    uint32_t within = (uint32_t)((uintptr_t)at % PAGE_BYTES), rest = request->length_bytes - offset - length;
    uint32_t take = rest < PAGE_BYTES - within ? rest : (uint32_t)PAGE_BYTES - within;
    if (device->lasting == NULL && device->grants_in_force == BLKFRONT_GRANTS) break;
    grant_ref_t ref = grant_page(device, at - within, request->operation == SHOAL_BLOCK_WRITE);
    if (ref == 0) break;
    if (device->lasting == NULL) device->grants_in_force++;
    slot->grants[slot->grant_count++] = ref;
    segments[count] = (struct blkif_request_segment){.gref = ref, .first_sect = (uint8_t)(within / SHOAL_BLOCK_SECTOR_BYTES),
                                                     .last_sect = (uint8_t)((within + take) / SHOAL_BLOCK_SECTOR_BYTES - 1)};
    length += take;
  }
  return length;
}

/* One request of the ring for as much of the caller's as fits; bytes, or 0 when there is no room now. */
static uint32_t put_part(struct block_device *device, struct blkfront_slot *slot, uint64_t id, struct shoal_block_request *request, uint32_t offset) {
  struct blkif_request_segment segments[BLKFRONT_SEGMENTS];
  unsigned most = slot->indirect != NULL && slot->indirect_ref != 0 ? device->features.segments_most : 0;
  if (most > BLKFRONT_SEGMENTS) most = BLKFRONT_SEGMENTS;
  if (most < BLKIF_MAX_SEGMENTS_PER_REQUEST) most = BLKIF_MAX_SEGMENTS_PER_REQUEST;
  slot->grant_count = 0;
  uint32_t length = make_segments(device, slot, request, offset, most, segments);
  if (length == 0) return 0;
  uint64_t sector = (request->offset_bytes + offset) / SHOAL_BLOCK_SECTOR_BYTES;
  slot->operation = request->operation == SHOAL_BLOCK_WRITE ? BLKIF_OP_WRITE : BLKIF_OP_READ;
  blkif_request_t *entry = RING_GET_REQUEST(&device->ring, device->ring.req_prod_pvt);
  if (slot->grant_count > BLKIF_MAX_SEGMENTS_PER_REQUEST) {
    blkif_request_indirect_t *indirect = (blkif_request_indirect_t *)entry;
    memcpy(slot->indirect, segments, slot->grant_count * sizeof *segments);
    *indirect = (blkif_request_indirect_t){.operation = BLKIF_OP_INDIRECT, .indirect_op = slot->operation, .nr_segments = slot->grant_count,
                                           .id = id, .sector_number = sector, .handle = 0, .indirect_grefs = {slot->indirect_ref}};
  } else {
    *entry = (blkif_request_t){.operation = slot->operation, .nr_segments = (uint8_t)slot->grant_count, .id = id, .sector_number = sector};
    memcpy(entry->seg, segments, slot->grant_count * sizeof *segments);
  }
  device->ring.req_prod_pvt++;
  return length;
}

static void put_flush(struct block_device *device, struct blkfront_slot *slot, uint64_t id) {
  slot->operation = device->features.flush ? BLKIF_OP_FLUSH_DISKCACHE : BLKIF_OP_WRITE_BARRIER;
  slot->grant_count = 0;
  *RING_GET_REQUEST(&device->ring, device->ring.req_prod_pvt++) = (blkif_request_t){.operation = slot->operation, .id = id};
}

static struct blkfront_slot *free_slot(struct block_device *device, uint64_t *id) {
  for (*id = 0; *id < BLKFRONT_SLOTS; ++*id) {
    if (device->slots[*id].request == NULL) return &device->slots[*id];
  }
  return NULL;
}

static void take_first(struct block_device *device) {
  struct shoal_block_request *request = device->waiting;
  device->waiting = request->next;
  device->waiting_offset = 0;
  if (request->parts_left == 0) blkfront_end(device, request, request->status);
}

/* False when there is no room for more. */
static bool put_first(struct block_device *device) {
  struct shoal_block_request *request = device->waiting;
  bool is_flush = request->operation == SHOAL_BLOCK_FLUSH;
  uint64_t id;
  if (is_flush && !device->features.flush && !device->features.barrier) {
    take_first(device);
    return true;
  }
  struct blkfront_slot *slot = device->free_slots > 0 ? free_slot(device, &id) : NULL;
  if (slot == NULL || RING_FULL(&device->ring)) return false;
  uint32_t length = 0;
  if (is_flush) put_flush(device, slot, id);
  else if ((length = put_part(device, slot, id, request, device->waiting_offset)) == 0) return false;
  slot->request = request;
  slot->offset_bytes = device->waiting_offset;
  slot->length_bytes = length;
  device->free_slots--;
  request->parts_left++;
  device->waiting_offset += length;
  if (device->waiting_offset == request->length_bytes) take_first(device);
  return true;
}

void blkfront_flush(void *context) {
  struct block_device *device = context;
  int notify = 0;
  if (!device->linked || !device->ready || device->broken) return;
  while (device->waiting != NULL && put_first(device)) continue;
  if (device->ring.req_prod_pvt != device->pushed) {
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&device->ring, notify);
    device->pushed = device->ring.req_prod_pvt;
  }
  if (notify) event_notify(device->port);
}

/* ---- the contract ---- */

struct shoal_block_info shoal_block_info(const struct block_device *device) {
  if (!device->was_up) return (struct shoal_block_info){0};
  return (struct shoal_block_info){device->features.sectors * SHOAL_BLOCK_SECTOR_BYTES, device->features.readonly,
                                   device->features.flush || device->features.barrier};
}

static bool is_lasting(const struct block_device *device, const struct shoal_block_request *request) {
  const uint8_t *at = request->bytes;
  if (device->lasting == NULL) return true;
  return at >= device->lasting && at + request->length_bytes <= device->lasting + device->lasting_pages * PAGE_BYTES;
}

void shoal_block_submit(struct block_device *device, struct shoal_block_request *request) {
  struct shoal_block_info info = shoal_block_info(device);
  request->parts_left = 0;
  request->status = SHOAL_BLOCK_OK;
  request->next = NULL;
  uint64_t rest = request->offset_bytes <= info.size_bytes ? info.size_bytes - request->offset_bytes : 0;
  if (device->broken) {
    blkfront_end(device, request, SHOAL_BLOCK_GONE);
  } else if (request->operation != SHOAL_BLOCK_FLUSH &&
             (request->length_bytes == 0 || request->length_bytes > SHOAL_BLOCK_REQUEST_BYTES || request->length_bytes > rest ||
              (request->length_bytes | request->offset_bytes | (uintptr_t)request->bytes) % device->features.sector_bytes != 0 ||
              (request->operation == SHOAL_BLOCK_WRITE && info.readonly) || !is_lasting(device, request))) {
    blkfront_end(device, request, SHOAL_BLOCK_REFUSED);
  } else {
    if (request->operation == SHOAL_BLOCK_FLUSH) request->length_bytes = 0;
    *(device->waiting != NULL ? &device->last_waiting->next : &device->waiting) = request;
    device->last_waiting = request;
    loop_flush_later(&device->batch);
  }
}
