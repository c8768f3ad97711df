/*
 * How a block device comes to its ring and leaves it. Requests outlive rings: what was under way when a backend went, or when the guest was moved to
 * another domain, is asked again of the next one, for reads and writes of the same bytes can be repeated. Only when none comes for
 * long are they given up.
 */
#include "blkfront.h"
#include "events.h"
#include "grants.h"
#include "pages.h"

static void on_event(void *context) { blkfront_poll(context); }

static void on_tell(void *context) {
  struct block_device *device = context;
  struct shoal_block_request *ended = device->ended, *next;
  device->ended = NULL;
  for (; ended != NULL; ended = next) {
    next = ended->next;
    ended->done(ended, ended->status);
  }
}

/* Everything that is in the ring waits again, from its beginning. False when the backend still has one of the buffers. */
static bool call_back(struct block_device *device) {
  bool all = true;
  if (device->waiting != NULL) device->waiting->parts_left = 0, device->waiting->status = SHOAL_BLOCK_OK;
  for (unsigned i = 0; i < BLKFRONT_SLOTS; i++) {
    struct blkfront_slot *slot = &device->slots[i];
    struct shoal_block_request *request = slot->request;
    if (request == NULL) continue;
    all &= blkfront_end_grants(device, slot);
    slot->request = NULL;
    device->free_slots++;
    if (request == device->waiting || request->parts_left == 0) continue;
    request->parts_left = 0;
    request->status = SHOAL_BLOCK_OK;
    request->next = device->waiting;
    if (device->waiting == NULL) device->last_waiting = request;
    device->waiting = request;
  }
  device->waiting_offset = 0;
  return all;
}

static void on_patience(void *context) {
  struct block_device *device = context;
  if (device->ready) return;
  call_back(device);
  while (device->waiting != NULL) {
    struct shoal_block_request *request = device->waiting;
    device->waiting = request->next;
    blkfront_end(device, request, SHOAL_BLOCK_GONE);
  }
}

bool blkfront_init(struct block_device *device, unsigned index, const struct shoal_block_events *events, void *context, void *lasting,
                   size_t lasting_bytes) {
  memset(device, 0, sizeof *device);
  device->index = index;
  device->events = events;
  device->context = context;
  device->free_slots = BLKFRONT_SLOTS;
  device->batch = (struct loop_batch){.flush = blkfront_flush, .context = device};
  device->tell = (struct shoal_timer){.fire = on_tell, .context = device};
  device->patience = (struct shoal_timer){.fire = on_patience, .context = device};
  size_t count = lasting_bytes / PAGE_BYTES;
  /* So many grants stay in force, or none does. */
  if (lasting != NULL && (uintptr_t)lasting % PAGE_BYTES == 0 && count > 0 && count <= BLKFRONT_GRANTS) {
    device->lasting_refs = shoal_alloc(count * sizeof *device->lasting_refs);
    if (device->lasting_refs == NULL) return false;
    memset(device->lasting_refs, 0, count * sizeof *device->lasting_refs);
    device->lasting = lasting;
    device->lasting_pages = count;
  }
  /* A request of more than 11 pages needs one more for its segments; two segments pages of 2 KiB would do, the protocol wants whole ones. */
  for (unsigned i = 0; i < BLKFRONT_SLOTS / 4; i++) {
    if ((device->slots[i].indirect = pages_alloc(1)) == NULL) break;
  }
  return true;
}

static void drop_link(struct block_device *device) {
  if (device->port != 0) event_close(device->port);
  /* A page that a backend still has mapped is never used again: better lost than written by two. */
  if (device->ring_ref == 0 || grant_end(device->ring_ref)) pages_free(device->ring.sring, 1);
  device->port = device->ring_ref = 0;
}

/* Grants that last, of one backend to the next. False when the old one keeps a page. */
static bool end_lasting(struct block_device *device) {
  bool all = true;
  for (size_t i = 0; i < device->lasting_pages; i++) {
    if (device->lasting_refs[i] != 0) all &= grant_end(device->lasting_refs[i]);
    device->lasting_refs[i] = 0;
  }
  for (unsigned i = 0; i < BLKFRONT_SLOTS; i++) {
    if (device->slots[i].indirect_ref != 0) all &= grant_end(device->slots[i].indirect_ref);
    device->slots[i].indirect_ref = 0;
  }
  return all;
}

bool blkfront_link(struct block_device *device, domid_t backend) {
  if (device->broken || device->linked) return false;
  blkif_sring_t *ring = pages_alloc(1);
  if (ring == NULL) return false;
  memset(ring, 0, PAGE_BYTES);
  SHARED_RING_INIT(ring);
  FRONT_RING_INIT(&device->ring, ring, PAGE_BYTES);
  device->pushed = 0;
  device->backend = backend;
  device->ring_ref = grant_access(backend, ring, false);
  device->port = event_listen(backend);
  for (unsigned i = 0; i < BLKFRONT_SLOTS; i++) {
    /* Without a grant for it a slot does with 11 pages. */
    if (device->slots[i].indirect != NULL) device->slots[i].indirect_ref = grant_access(backend, device->slots[i].indirect, false);
  }
  if (device->ring_ref == 0 || device->port == 0) {
    drop_link(device);
    end_lasting(device);
    return false;
  }
  event_bind(device->port, on_event, device);
  device->linked = true;
  return true;
}

static void go_down(struct block_device *device) {
  bool was_ready = device->ready;
  device->ready = false;
  if (!device->broken) shoal_timer_set(&device->patience, shoal_now_ns() + BLKFRONT_PATIENCE_NS);
  if (was_ready && device->events->down != NULL) device->events->down(device->context);
}

void blkfront_unlink(struct block_device *device) {
  if (!device->linked) return;
  device->linked = false;
  bool all = call_back(device);
  all &= end_lasting(device);
  drop_link(device);
  go_down(device);
  if (all) return;
  shoal_print("disk %u: the backend keeps the guest's buffers; device given up\n", device->index);
  device->broken = true;
  shoal_timer_set(&device->patience, 0);
}

void blkfront_forget(struct block_device *device) {
  /* The grants went with the domain: nothing is to be ended. */
  for (unsigned i = 0; i < BLKFRONT_SLOTS; i++) device->slots[i].grant_count = 0, device->slots[i].indirect_ref = 0;
  for (size_t i = 0; i < device->lasting_pages; i++) device->lasting_refs[i] = 0;
  device->grants_in_force = 0;
  call_back(device);
  if (device->linked) pages_free(device->ring.sring, 1);
  device->port = device->ring_ref = 0;
  device->linked = device->broken = false;
  go_down(device);
}

void blkfront_up(struct block_device *device, const struct blkfront_features *features) {
  if (!device->linked || device->broken || device->ready) return;
  device->features = *features;
  /* A backend that keeps pages mapped has to be given the same ones: with others its grants would never be free again. */
  if (!features->persistent && device->lasting != NULL) device->lasting = NULL;
  device->ready = device->was_up = true;
  shoal_timer_cancel(&device->patience);
  loop_flush_later(&device->batch);
  device->events->up(device->context);
}
