/*
 * The frames of a netif device. Buffers are granted once and stay granted: nothing is mapped, granted or revoked per frame. The
 * rings are memory that the backend can write at any time, so whatever is read from them is copied, then checked against what
 * this end knows itself; a backend that breaks the protocol loses the device, and the guest lives on.
 */
#include "netfront.h"
#include "events.h"
#include "grants.h"
#include "pages.h"

/* Frames taken in one turn, so that timers and other devices have theirs. */
#define TURN_FRAMES 256u

static void break_device(struct shoal_net *net, const char *why) {
  if (net->broken) return;
  shoal_print("net %u: backend broke the protocol (%s); device given up\n", net->index, why);
  net->broken = true;
  netfront_down(net);
}

static void flush(void *context) {
  struct shoal_net *net = context;
  int notify_tx = 0, notify_rx = 0;
  if (!net->linked || net->broken) return;
  if (net->tx.req_prod_pvt != net->tx_pushed) {
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&net->tx, notify_tx);
    net->tx_pushed = net->tx.req_prod_pvt;
  }
  if (net->rx.req_prod_pvt != net->rx_pushed) {
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&net->rx, notify_rx);
    net->rx_pushed = net->rx.req_prod_pvt;
  }
  if (notify_tx) event_notify(net->link.tx_port);
  if (notify_rx) event_notify(net->link.rx_port);
}

static void post_receive(struct shoal_net *net, uint16_t id) {
  netif_rx_request_t *request = RING_GET_REQUEST(&net->rx, net->rx.req_prod_pvt);
  request->id = id;
  request->gref = net->rx_buffers[id].ref;
  net->rx_buffers[id].lent = true;
  net->rx.req_prod_pvt++;
}

/* False when the backend broke the protocol. */
static bool receive(struct shoal_net *net, const netif_rx_response_t *response) {
  if (response->id >= net->buffer_count || !net->rx_buffers[response->id].lent) {
    break_device(net, "a receive buffer that it does not have");
    return false;
  }
  if (response->flags & NETRXF_extra_info) {
    break_device(net, "extra information that was not agreed on");
    return false;
  }
  struct netfront_buffer *buffer = &net->rx_buffers[response->id];
  buffer->lent = false;
  bool skip = net->rx_skipping;
  /* Frames over several buffers were not agreed on (no feature-sg): pass over all their parts. */
  net->rx_skipping = (response->flags & NETRXF_more_data) != 0;
  if (response->status > 0) {
    if ((size_t)response->offset + (size_t)response->status > PAGE_BYTES) {
      break_device(net, "a frame beyond its page");
      return false;
    }
    uint32_t flags = 0;
    if (response->flags & NETRXF_csum_blank) flags |= SHOAL_NET_CSUM_BLANK;
    if (response->flags & (NETRXF_csum_blank | NETRXF_data_validated)) flags |= SHOAL_NET_CSUM_VALID;
    if (!skip && !net->rx_skipping && net->sending && response->status <= (int)SHOAL_NET_FRAME_BYTES) {
      net->events->frame(net->context, buffer->bytes + response->offset, (size_t)response->status, flags);
    }
  }
  /* The callback may have closed the device's rings. */
  if (!net->linked || net->broken) return false;
  post_receive(net, response->id);
  return true;
}

static void receive_all(struct shoal_net *net) {
  unsigned budget = TURN_FRAMES;
  int more = 1;
  while (more) {
    RING_IDX producer = *(volatile RING_IDX *)&net->rx.sring->rsp_prod;
    xen_rmb();
    if (producer - net->rx.rsp_cons > net->rx_pushed - net->rx.rsp_cons) {
      break_device(net, "more frames than buffers");
      return;
    }
    while (net->rx.rsp_cons != producer) {
      netif_rx_response_t response;
      if (budget-- == 0) {
        shoal_timer_set(&net->again, 0);
        loop_flush_later(&net->batch);
        return;
      }
      RING_COPY_RESPONSE(&net->rx, net->rx.rsp_cons, &response);
      net->rx.rsp_cons++;
      if (!receive(net, &response)) return;
    }
    RING_FINAL_CHECK_FOR_RESPONSES(&net->rx, more);
  }
  if (net->rx.req_prod_pvt != net->rx_pushed) loop_flush_later(&net->batch);
}

/* Takes back the transmit buffers that the backend has done with. */
static void reclaim(struct shoal_net *net) {
  RING_IDX producer = *(volatile RING_IDX *)&net->tx.sring->rsp_prod;
  xen_rmb();
  if (producer - net->tx.rsp_cons > net->tx_pushed - net->tx.rsp_cons) {
    break_device(net, "more answers than frames");
    return;
  }
  for (; net->tx.rsp_cons != producer; net->tx.rsp_cons++) {
    netif_tx_response_t response;
    RING_COPY_RESPONSE(&net->tx, net->tx.rsp_cons, &response);
    if (response.status == NETIF_RSP_NULL) continue;
    if (response.id >= net->buffer_count || !net->tx_buffers[response.id].lent) {
      break_device(net, "a transmit buffer that it does not have");
      return;
    }
    net->tx_buffers[response.id].lent = false;
    net->tx_free[net->tx_free_count++] = response.id;
  }
}

void netfront_poll(struct shoal_net *net) {
  if (!net->linked || net->broken) return;
  receive_all(net);
  if (!net->linked || net->broken) return;
  reclaim(net);
  if (!net->broken && net->tx_starved && net->tx_free_count > 0 && net->sending) {
    net->tx_starved = false;
    if (net->events->writable != NULL) net->events->writable(net->context);
  }
}

static void on_event(void *context) { netfront_poll(context); }

uint8_t *shoal_net_reserve(struct shoal_net *net) {
  if (!net->linked || net->broken || !net->sending) return NULL;
  if (net->tx_free_count == 0) reclaim(net);
  if (net->tx_free_count == 0 && !net->broken) {
    /* Completions raise no event as a rule; now ask for one when half of them are there, and look once more. */
    flush(net);
    net->tx.sring->rsp_event = net->tx.rsp_cons + net->buffer_count / 2;
    xen_mb();
    reclaim(net);
    net->tx_starved = net->tx_free_count == 0;
  }
  if (net->broken || net->tx_free_count == 0) return NULL;
  return net->tx_buffers[net->tx_free[net->tx_free_count - 1]].bytes;
}

void shoal_net_commit(struct shoal_net *net, size_t length_bytes, uint32_t flags) {
  if (net->tx_free_count == 0 || length_bytes < 14 || length_bytes > SHOAL_NET_FRAME_BYTES) {
    shoal_panic("net %u: commit of %zu bytes", net->index, length_bytes);
  }
  uint16_t id = net->tx_free[--net->tx_free_count];
  struct netfront_buffer *buffer = &net->tx_buffers[id];
  netif_tx_request_t *request = RING_GET_REQUEST(&net->tx, net->tx.req_prod_pvt);
  request->gref = buffer->ref;
  request->offset = buffer->offset;
  request->flags = flags & SHOAL_NET_CSUM_BLANK    ? NETTXF_csum_blank | NETTXF_data_validated
                   : flags & SHOAL_NET_CSUM_VALID ? NETTXF_data_validated
                                                  : 0;
  request->id = id;
  request->size = (uint16_t)length_bytes;
  buffer->lent = true;
  net->tx.req_prod_pvt++;
  if (!net->tx_starved) net->tx.sring->rsp_event = net->tx.req_prod_pvt + 1; /* past all that can be answered: no event */
  loop_flush_later(&net->batch);
}

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
  size_t bytes = count * (2 * sizeof *net->tx_buffers + sizeof *net->tx_free);
  net->tx_buffers = shoal_alloc(bytes);
  if (net->tx_buffers == NULL) return false;
  memset(net->tx_buffers, 0, bytes);
  net->rx_buffers = net->tx_buffers + count;
  net->tx_free = (uint16_t *)(net->rx_buffers + count);
  net->batch = (struct loop_batch){.flush = flush, .context = net};
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

/* Fresh ring pages with all receive buffers posted. */
static bool make_rings(struct shoal_net *net) {
  netif_tx_sring_t *tx = pages_alloc(1);
  netif_rx_sring_t *rx = pages_alloc(1);
  if (tx == NULL || rx == NULL) return false;
  memset(tx, 0, PAGE_BYTES);
  memset(rx, 0, PAGE_BYTES);
  SHARED_RING_INIT(tx);
  SHARED_RING_INIT(rx);
  FRONT_RING_INIT(&net->tx, tx, PAGE_BYTES);
  FRONT_RING_INIT(&net->rx, rx, PAGE_BYTES);
  net->tx_pushed = 0;
  net->tx_starved = net->rx_skipping = false;
  net->tx_free_count = 0;
  for (unsigned i = net->buffer_count; i > 0; i--) {
    net->tx_buffers[i - 1].lent = false;
    net->tx_free[net->tx_free_count++] = (uint16_t)(i - 1);
  }
  for (unsigned i = 0; i < net->buffer_count; i++) post_receive(net, (uint16_t)i);
  RING_PUSH_REQUESTS(&net->rx);
  net->rx_pushed = net->rx.req_prod_pvt;
  return true;
}

/*
 * One event channel a direction, for Linux's netback loses a shared one: Xen raises an event when netback binds it, netback finds our
 * first frame and leaves the acknowledgement of that event to whichever of its threads ends first; the receiving one may do it before
 * netback has noted which interrupt it is, and the channel stays masked for good (seen once in a thousand starts of a busy host). With
 * two, the transmit event is acknowledged by the transmit side only, and the receive side's has nothing to wait for.
 */
static bool link_to(struct shoal_net *net, domid_t backend) {
  bool granted = net->rx_buffers[0].ref != 0;
  if (granted && net->link.backend != backend && !move_buffers(net, backend)) return false;
  if (!granted && !grant_buffers(net, backend)) return false;
  net->link.backend = backend;
  if (!make_rings(net)) return false;
  net->link.tx_ring_ref = grant_access(backend, net->tx.sring, false);
  net->link.rx_ring_ref = grant_access(backend, net->rx.sring, false);
  net->link.tx_port = event_listen(backend);
  net->link.rx_port = event_listen(backend);
  return net->link.tx_ring_ref != 0 && net->link.rx_ring_ref != 0 && net->link.tx_port != 0 && net->link.rx_port != 0;
}

bool netfront_link(struct shoal_net *net, domid_t backend) {
  if (net->broken) return false;
  if (!link_to(net, backend)) {
    /* What was half granted cannot be told apart any more: the device is given up as it stands. */
    net->broken = true;
    return false;
  }
  event_bind(net->link.tx_port, on_event, net);
  event_bind(net->link.rx_port, on_event, net);
  net->linked = true;
  return true;
}

void netfront_unlink(struct shoal_net *net) {
  if (!net->linked) return;
  netfront_down(net);
  net->linked = false;
  shoal_timer_cancel(&net->again);
  event_close(net->link.tx_port);
  event_close(net->link.rx_port);
  /* A ring page that a backend still has mapped is never used again: better lost than written by two. */
  if (grant_end(net->link.tx_ring_ref)) pages_free(net->tx.sring, 1);
  if (grant_end(net->link.rx_ring_ref)) pages_free(net->rx.sring, 1);
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

void netfront_scribble(struct shoal_net *net) {
  if (!net->linked) return;
  shoal_random(net->tx.sring, PAGE_BYTES);
  shoal_random(net->rx.sring, PAGE_BYTES);
  event_notify(net->link.tx_port);
}
