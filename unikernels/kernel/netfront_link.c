/*
 * How a device comes to its rings and leaves them: buffers granted once and for all, fresh rings for each connection, made by the
 * guest (link) or found where the builder laid them (adopt). In another domain nothing of the old one counts: grants and channels
 * are gone with it (forget), and the buffers are granted anew.
 */
#include "netfront.h"
#include "events.h"
#include "grants.h"
#include "pages.h"

static void on_event(void *context) { netfront_poll(context); }

static void poll_again(void *context) { netfront_poll(context); }

bool netfront_init(struct shoal_net *net, unsigned index, const struct shoal_net_events *events, void *context) {
  size_t count = pages_total_count() / 16;
  if (count > NETFRONT_BUFFERS_MAX) count = NETFRONT_BUFFERS_MAX;
  if (count < NETFRONT_BUFFERS_MIN) count = NETFRONT_BUFFERS_MIN;
  memset(net, 0, sizeof *net);
  net->index = index;
  net->events = events;
  net->context = context;
  count &= ~1ul;
  net->buffer_count = (unsigned)count;
  size_t bytes = count * (2 * sizeof *net->tx_buffers + sizeof *net->tx_pages);
  net->tx_buffers = shoal_alloc(bytes);
  if (net->tx_buffers == NULL) return false;
  memset(net->tx_buffers, 0, bytes);
  net->rx_buffers = net->tx_buffers + count;
  net->tx_pages = (uint16_t *)(net->rx_buffers + count);
  net->tx_halves = net->tx_pages + count / 2;
  net->batch = (struct loop_batch){.flush = netfront_flush, .context = net};
  net->again = (struct shoal_timer){.fire = poll_again, .context = net};
  for (unsigned i = 0; i < net->buffer_count; i++) {
    net->rx_buffers[i].bytes = pages_alloc(1);
    if (net->rx_buffers[i].bytes == NULL) return false;
    if (i % 2 == 0) {
      uint8_t *page = pages_alloc(1);
      if (page == NULL) return false;
      net->tx_buffers[i].bytes = page;
      net->tx_buffers[i + 1].bytes = page + NETFRONT_TX_BYTES;
      net->tx_buffers[i + 1].offset = NETFRONT_TX_BYTES;
    }
  }
  return true;
}

static bool grant_buffers(struct shoal_net *net, domid_t backend) {
  for (unsigned i = 0; i < net->buffer_count; i++) {
    net->rx_buffers[i].ref = grant_access(backend, net->rx_buffers[i].bytes, false);
    net->tx_buffers[i].ref = i % 2 == 0 ? grant_access(backend, net->tx_buffers[i].bytes, true) : net->tx_buffers[i - 1].ref;
    if (net->rx_buffers[i].ref == 0 || net->tx_buffers[i].ref == 0) return false;
  }
  return true;
}

/* To another domain than before: the old one must give all of them back. */
static bool move_buffers(struct shoal_net *net, domid_t backend) {
  for (unsigned i = 0; i < net->buffer_count; i++) {
    if (!grant_end(net->rx_buffers[i].ref) || (i % 2 == 0 && !grant_end(net->tx_buffers[i].ref))) return false;
  }
  return grant_buffers(net, backend);
}

/* Rings that are empty on both sides: all receive buffers are posted, all transmit buffers free. */
static void start_rings(struct shoal_net *net, netif_tx_sring_t *tx, netif_rx_sring_t *rx) {
  FRONT_RING_INIT(&net->tx, tx, PAGE_BYTES);
  FRONT_RING_INIT(&net->rx, rx, PAGE_BYTES);
  net->tx_pushed = 0;
  net->tx_starved = net->rx_skipping = net->long_ipv4 = net->long_ipv6 = false;
  net->group.count = 0;
  net->tx_page_count = net->tx_half_count = net->tx_free_count = 0;
  net->tx_last = 1;
  for (unsigned i = net->buffer_count; i-- > 0;) {
    net->tx_buffers[i].lent = net->tx_buffers[i].joined = false;
    netfront_free_transmit(net, i);
  }
  for (unsigned i = 0; i < net->buffer_count; i++) netfront_post_receive(net, (uint16_t)i);
  RING_PUSH_REQUESTS(&net->rx);
  net->rx_pushed = net->rx.req_prod_pvt;
}

/* Ring pages of the guest's own. */
static bool make_rings(struct shoal_net *net) {
  netif_tx_sring_t *tx = pages_alloc(1);
  netif_rx_sring_t *rx = tx == NULL ? NULL : pages_alloc(1);
  if (rx == NULL) {
    if (tx != NULL) pages_free(tx, 1);
    return false;
  }
  memset(tx, 0, PAGE_BYTES);
  memset(rx, 0, PAGE_BYTES);
  SHARED_RING_INIT(tx);
  SHARED_RING_INIT(rx);
  start_rings(net, tx, rx);
  return true;
}

static bool share_buffers(struct shoal_net *net, domid_t backend) {
  bool granted = net->rx_buffers[0].ref != 0;
  if (granted && net->link.backend != backend && !move_buffers(net, backend)) return false;
  if (!granted && !grant_buffers(net, backend)) return false;
  net->link.backend = backend;
  return true;
}

static void give_back(grant_ref_t ref, void *page) {
  /* A ring page that a backend still has mapped is never used again: better lost than written by two. */
  if (ref == 0 || grant_end(ref)) pages_free(page, 1);
}

static void drop_link(struct shoal_net *net) {
  if (net->link.tx_port != 0) event_close(net->link.tx_port);
  if (net->link.rx_port != 0) event_close(net->link.rx_port);
  give_back(net->link.tx_ring_ref, net->tx.sring);
  give_back(net->link.rx_ring_ref, net->rx.sring);
}

/*
 * One event channel a direction, for Linux's netback loses a shared one: Xen raises an event when netback binds it, netback finds our
 * first frame and leaves the acknowledgement of that event to whichever of its threads ends first; the receiving one may do it before
 * netback has noted which interrupt it is, and the channel stays masked for good (seen once in a thousand starts of a busy host). With
 * two, the transmit event is acknowledged by the transmit side only, and the receive side's has nothing to wait for.
 */
static bool link_to(struct shoal_net *net, domid_t backend) {
  if (!share_buffers(net, backend) || !make_rings(net)) return false;
  net->link.tx_ring_ref = grant_access(backend, net->tx.sring, false);
  net->link.rx_ring_ref = grant_access(backend, net->rx.sring, false);
  net->link.tx_port = event_listen(backend);
  net->link.rx_port = event_listen(backend);
  if (net->link.tx_ring_ref != 0 && net->link.rx_ring_ref != 0 && net->link.tx_port != 0 && net->link.rx_port != 0) return true;
  drop_link(net);
  return false;
}

bool netfront_link(struct shoal_net *net, domid_t backend) {
  if (net->broken) return false;
  if (!link_to(net, backend)) {
    /* Which buffers are granted, and to whom, cannot be told apart any more: the device is given up as it stands. */
    net->broken = true;
    return false;
  }
  event_bind(net->link.tx_port, on_event, net);
  event_bind(net->link.rx_port, on_event, net);
  net->linked = net->own_rings = true;
  return true;
}

bool netfront_adopt(struct shoal_net *net, domid_t backend, uint32_t port, void *tx, void *rx) {
  if (net->broken || !share_buffers(net, backend)) {
    net->broken = true;
    return false;
  }
  start_rings(net, tx, rx);
  net->link.tx_port = net->link.rx_port = port;
  event_bind(port, on_event, net);
  net->linked = true;
  net->own_rings = false;
  return true;
}

void netfront_unlink(struct shoal_net *net) {
  if (!net->linked || !net->own_rings) return;
  netfront_down(net);
  net->linked = false;
  shoal_timer_cancel(&net->again);
  drop_link(net);
}

void netfront_forget(struct shoal_net *net) {
  netfront_down(net);
  shoal_timer_cancel(&net->again);
  if (net->linked && net->own_rings) {
    pages_free(net->tx.sring, 1);
    pages_free(net->rx.sring, 1);
  }
  net->linked = net->broken = false;
  memset(&net->link, 0, sizeof net->link);
  for (unsigned i = 0; i < net->buffer_count; i++) net->tx_buffers[i].ref = net->rx_buffers[i].ref = 0;
}

void netfront_up(struct shoal_net *net, const uint8_t mac[6]) {
  if (!net->linked || net->broken || net->sending) return;
  memcpy(net->link.mac, mac, 6);
  net->sending = true;
  net->events->up(net->context, net->link.mac);
}

void netfront_down(struct shoal_net *net) {
  if (!net->sending) return;
  net->sending = false;
  if (net->events->down != NULL) net->events->down(net->context);
}
