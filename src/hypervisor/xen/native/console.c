/* See console.h. */
#include "console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>

#include <xen/grant_table.h>
#include <xen/io/console.h>

#include "control.h"
#include "logger.h"
#include "wiring.h"

_Static_assert(sizeof(((struct xencons_interface *)0)->out) == CONSOLE_OUT_BYTES, "size of the output ring");
_Static_assert(sizeof(((struct xencons_interface *)0)->in) == CONSOLE_IN_BYTES, "size of the input ring");

struct consoles {
  xenforeignmemory_handle *memory;
  xengnttab_handle *grants;
  xenevtchn_handle *events;
};

struct consoles *consoles_open(struct failure *failure)
{
  struct consoles *consoles = calloc(1, sizeof *consoles);

  if (!consoles) {
    failed(failure, "calloc");
    return NULL;
  }
  if (!(consoles->memory = xenforeignmemory_open(&quiet_logger, 0))) {
    failed(failure, "xenforeignmemory_open");
  } else if (!(consoles->grants = xengnttab_open(&quiet_logger, 0))) {
    failed(failure, "xengnttab_open");
  } else if (!(consoles->events = xenevtchn_open(&quiet_logger, 0))) {
    failed(failure, "xenevtchn_open");
  } else {
    return consoles;
  }
  consoles_close(consoles);
  return NULL;
}

void consoles_close(struct consoles *consoles)
{
  if (!consoles) return;
  if (consoles->events) xenevtchn_close(consoles->events);
  if (consoles->grants) xengnttab_close(consoles->grants);
  if (consoles->memory) xenforeignmemory_close(consoles->memory);
  free(consoles);
}

struct mapping {
  struct xencons_interface *ring;
  int by_grant;
};

/* A signal may come between the two halves of a mapping; then it is undone, and is asked for again. */
static void *map_grant(struct consoles *consoles, uint16_t domid, uint32_t reference)
{
  void *page = NULL;

  for (int tries = 0; tries < 100 && !page; tries++) {
    page = xengnttab_map_grant_ref(consoles->grants, domid, reference, PROT_READ | PROT_WRITE);
    if (!page && errno != EINTR) break;
  }
  return page;
}

static int map_ring(struct consoles *consoles, uint16_t domid, uint64_t mfn, struct mapping *mapping, struct failure *failure)
{
  int error = 0;

  mapping->by_grant = 0;
  mapping->ring = NULL;
  if (mfn) {
    mapping->ring = xenforeignmemory_map(consoles->memory, domid, PROT_READ | PROT_WRITE, 1, &mfn, &error);
    if (mapping->ring && !error) return 0;
    if (mapping->ring) xenforeignmemory_unmap(consoles->memory, mapping->ring, 1);
  }
  mapping->by_grant = 1;
  mapping->ring = map_grant(consoles, domid, GNTTAB_RESERVED_CONSOLE);
  return mapping->ring ? 0 : failed(failure, "xengnttab_map_grant_ref");
}

static void unmap_ring(struct consoles *consoles, const struct mapping *mapping)
{
  if (mapping->by_grant) {
    xengnttab_unmap(consoles->grants, mapping->ring, 1);
  } else {
    xenforeignmemory_unmap(consoles->memory, mapping->ring, 1);
  }
}

int console_read(struct consoles *consoles, uint16_t domid, uint64_t mfn, uint32_t *cursor, uint8_t text[CONSOLE_OUT_BYTES], size_t *length,
                 struct failure *failure)
{
  struct mapping mapping;
  uint32_t end, count;

  if (map_ring(consoles, domid, mfn, &mapping, failure)) return -1;
  end = __atomic_load_n(&mapping.ring->out_prod, __ATOMIC_ACQUIRE);
  count = end - *cursor;
  /* A cursor ahead of the guest is one of an earlier life of this domid: begin again. */
  if (count > CONSOLE_OUT_BYTES) count = end < CONSOLE_OUT_BYTES ? end : CONSOLE_OUT_BYTES;
  for (uint32_t i = 0; i < count; i++) text[i] = (uint8_t)mapping.ring->out[(end - count + i) % CONSOLE_OUT_BYTES];
  *length = count;
  *cursor = end;
  unmap_ring(consoles, &mapping);
  return 0;
}

/* Bound for the moment only: letting go makes the guest's port free for the next caller again. */
static int ring_bell(struct consoles *consoles, uint16_t domid, uint32_t port, struct failure *failure)
{
  int local = xenevtchn_bind_interdomain(consoles->events, domid, port), result = 0;

  if (local < 0) return failed(failure, "xenevtchn_bind_interdomain");
  if (xenevtchn_notify(consoles->events, (evtchn_port_t)local)) result = failed(failure, "xenevtchn_notify");
  xenevtchn_unbind(consoles->events, (evtchn_port_t)local);
  return result;
}

int console_write(struct consoles *consoles, uint16_t domid, uint64_t mfn, uint32_t port, const uint8_t *text, size_t length, size_t *taken,
                  struct failure *failure)
{
  struct mapping mapping;
  uint32_t consumed, produced, room;

  *taken = 0;
  if (map_ring(consoles, domid, mfn, &mapping, failure)) return -1;
  consumed = __atomic_load_n(&mapping.ring->in_cons, __ATOMIC_ACQUIRE);
  produced = mapping.ring->in_prod;
  room = produced - consumed <= CONSOLE_IN_BYTES ? CONSOLE_IN_BYTES - (produced - consumed) : 0;
  if (length > room) length = room;
  for (size_t i = 0; i < length; i++) mapping.ring->in[(produced + i) % CONSOLE_IN_BYTES] = (char)text[i];
  __atomic_store_n(&mapping.ring->in_prod, produced + (uint32_t)length, __ATOMIC_RELEASE);
  unmap_ring(consoles, &mapping);
  *taken = length;
  if (length == 0) return 0;
  return ring_bell(consoles, domid, port, failure);
}

int console_order(struct consoles *consoles, uint16_t domid, uint32_t order, struct failure *failure)
{
  /* The builder put the page of start_info where the store's ring would be granted. */
  uint8_t *page = map_grant(consoles, domid, GNTTAB_RESERVED_XENSTORE);
  struct wiring_page *shared;
  int wired;

  if (!page) return failed(failure, "xengnttab_map_grant_ref");
  shared = (struct wiring_page *)(page + WIRING_OFFSET);
  wired = shared->wiring.magic == WIRING_MAGIC;
  /* Whoever reads a guest's memory here (memory_read.h) leaves out what is free. */
  if (wired && order == WIRING_SUSPEND && shared->map.magic == WIRING_MAP_MAGIC) shared->map.is_read = 1;
  if (wired) __atomic_store_n(&shared->wiring.order, order, __ATOMIC_RELEASE);
  xengnttab_unmap(consoles->grants, page, 1);
  return wired ? ring_bell(consoles, domid, CONSOLE_PORT, failure) : failed_with(failure, "wiring", EINVAL);
}

/* The page of a wired guest's start_info; NULL with the failure said. */
static uint8_t *map_wiring(struct consoles *consoles, uint16_t domid, struct wiring **wiring, struct wiring_addresses **addresses,
                           struct failure *failure)
{
  uint8_t *page = map_grant(consoles, domid, GNTTAB_RESERVED_XENSTORE);

  if (!page) {
    failed(failure, "xengnttab_map_grant_ref");
    return NULL;
  }
  *wiring = (struct wiring *)(page + WIRING_OFFSET);
  *addresses = (struct wiring_addresses *)(*wiring + 1);
  if ((*wiring)->magic == WIRING_MAGIC) return page;
  xengnttab_unmap(consoles->grants, page, 1);
  failed_with(failure, "wiring", EINVAL);
  return NULL;
}

int console_readdress(struct consoles *consoles, uint16_t domid, const uint32_t *addresses, uint32_t count, int ring, uint32_t *number,
                      struct failure *failure)
{
  struct wiring_addresses *list;
  struct wiring *wiring;
  uint8_t *page = map_wiring(consoles, domid, &wiring, &list, failure);
  uint32_t order = WIRING_NOTHING;
  int mine;

  if (!page) return -1;
  if (list->wanted == 0 || list->count != count || memcmp(list->addresses, addresses, count * sizeof *addresses)) {
    list->count = count;
    memcpy(list->addresses, addresses, count * sizeof *addresses);
    __atomic_store_n(&list->wanted, list->wanted == UINT32_MAX ? 1 : list->wanted + 1, __ATOMIC_RELEASE);
  }
  *number = list->wanted;
  if (!ring) {
    xengnttab_unmap(consoles->grants, page, 1);
    return 0;
  }
  mine = __atomic_compare_exchange_n(&wiring->order, &order, WIRING_READDRESS, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) || order == WIRING_READDRESS;
  xengnttab_unmap(consoles->grants, page, 1);
  return mine ? ring_bell(consoles, domid, CONSOLE_PORT, failure) : failed_with(failure, "wiring", EBUSY);
}

int console_readdressed(struct consoles *consoles, uint16_t domid, uint32_t *number, struct failure *failure)
{
  struct wiring_addresses *list;
  struct wiring *wiring;
  uint8_t *page = map_wiring(consoles, domid, &wiring, &list, failure);

  if (!page) return -1;
  *number = __atomic_load_n(&list->taken, __ATOMIC_ACQUIRE);
  xengnttab_unmap(consoles->grants, page, 1);
  return 0;
}
