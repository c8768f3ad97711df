/* See wired.h. */
#include "wired.h"
#include "events.h"
#include "netfront.h"
#include "pages.h"

static struct wired_place place;
static struct wiring wiring; /* a copy; vif_count 0 when there is none */
static bool has_orders;

/* Ring pages that were set aside at the start. */
static uint32_t ring_frames[2 * WIRING_VIFS];
static size_t ring_frame_count;

static bool is_ring_frame(uint32_t frame) {
  for (size_t i = 0; i < ring_frame_count; i++) {
    if (ring_frames[i] == frame) return true;
  }
  return false;
}

static const char *vif_fault(const struct wiring_vif *vif, const struct wired_place *in) {
  if (vif->handle >= NETFRONT_DEVICES) return "a device number too high";
  if (vif->port == 0 || vif->port >= EVENT_PORTS || vif->port == in->order_port) return "an event channel that cannot be a device's";
  if (vif->tx_frame < in->first_frame || vif->tx_frame >= in->frame_count) return "a transmit ring outside of free memory";
  if (vif->rx_frame < in->first_frame || vif->rx_frame >= in->frame_count) return "a receive ring outside of free memory";
  if (vif->tx_frame == vif->rx_frame) return "one page for two rings";
  if (vif->backend >= DOMID_FIRST_RESERVED) return "a backend that is no domain";
  if (vif->mac[0] & 1) return "a group's MAC address";
  return NULL;
}

static const char *pair_fault(const struct wiring_vif *a, const struct wiring_vif *b) {
  if (a->handle == b->handle) return "two devices of one number";
  if (a->port == b->port) return "two devices on one event channel";
  if (a->tx_frame == b->tx_frame || a->tx_frame == b->rx_frame || a->rx_frame == b->tx_frame || a->rx_frame == b->rx_frame) {
    return "one page for two rings";
  }
  return NULL;
}

const char *wired_fault(const struct wiring *it, const struct wired_place *in) {
  const char *fault = NULL;
  if (it->vif_count > WIRING_VIFS) return "too many devices";
  for (uint32_t i = 0; i < it->vif_count && fault == NULL; i++) {
    fault = vif_fault(&it->vifs[i], in);
    for (uint32_t j = 0; j < i && fault == NULL; j++) fault = pair_fault(&it->vifs[i], &it->vifs[j]);
  }
  return fault;
}

static void refuse(const char *why) {
  shoal_print("wiring: malformed (%s); no wired device\n", why);
  wiring.vif_count = 0;
}

void wired_reject(const char *why) {
  refuse(why);
  ring_frame_count = 0;
}

static void take(const struct wired_place *in) {
  place = *in;
  memcpy(&wiring, place.wiring, sizeof wiring);
  has_orders = false;
  if (wiring.magic != WIRING_MAGIC) {
    wiring.vif_count = 0;
    return;
  }
  if (wiring.version != WIRING_VERSION) {
    refuse("a version that the kernel does not know");
    return;
  }
  if (place.has_store) {
    refuse("beside a store");
    return;
  }
  has_orders = place.order_port != 0 && place.order_port < EVENT_PORTS;
  const char *fault = wired_fault(&wiring, &place);
  if (fault != NULL) refuse(fault);
}

void wired_init(const struct wired_place *in) {
  take(in);
  ring_frame_count = 0;
  for (uint32_t i = 0; i < wiring.vif_count; i++) {
    ring_frames[ring_frame_count++] = wiring.vifs[i].tx_frame;
    ring_frames[ring_frame_count++] = wiring.vifs[i].rx_frame;
  }
}

void wired_resume(const struct wired_place *in) {
  take(in);
  for (uint32_t i = 0; i < wiring.vif_count; i++) {
    if (is_ring_frame(wiring.vifs[i].tx_frame) && is_ring_frame(wiring.vifs[i].rx_frame)) continue;
    refuse("a ring page that was none at the start");
    return;
  }
}

const struct wiring_vif *wired_vif(unsigned handle) {
  for (uint32_t i = 0; i < wiring.vif_count; i++) {
    if (wiring.vifs[i].handle == handle) return &wiring.vifs[i];
  }
  return NULL;
}

void *wired_page(uint32_t frame) { return place.memory + frame * PAGE_BYTES; }

uint32_t wired_order_port(void) { return has_orders ? place.order_port : 0; }

uint32_t wired_take_order(void) { return __atomic_exchange_n(&place.wiring->order, WIRING_NOTHING, __ATOMIC_SEQ_CST); }

static struct wiring_page *page(void) { return (struct wiring_page *)place.wiring; }
static struct wiring_addresses *addresses(void) { return &page()->addresses; }

uint32_t wired_addresses(uint32_t list[WIRING_ADDRESSES], size_t *count) {
  struct wiring_addresses copy;
  uint32_t number = __atomic_load_n(&addresses()->wanted, __ATOMIC_ACQUIRE);
  memcpy(&copy, addresses(), sizeof copy);
  if (copy.count > WIRING_ADDRESSES) return 0;
  memcpy(list, copy.addresses, sizeof copy.addresses);
  *count = copy.count;
  return number;
}

void wired_took_addresses(uint32_t number) { __atomic_store_n(&addresses()->taken, number, __ATOMIC_RELEASE); }

void wired_show_map(uint64_t offset, uint64_t pages) {
  if (!has_orders) return;
  struct wiring_map *map = &page()->map;
  map->offset = offset;
  map->pages = pages;
  map->is_read = 0;
  __atomic_store_n(&map->magic, WIRING_MAP_MAGIC, __ATOMIC_RELEASE);
}

bool wired_map_is_read(void) { return has_orders && __atomic_exchange_n(&page()->map.is_read, 0, __ATOMIC_SEQ_CST) == 1; }
