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

void netfront_flush(void *context) {
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
  if (notify_rx && !(notify_tx && net->link.rx_port == net->link.tx_port)) event_notify(net->link.rx_port);
}

void netfront_post_receive(struct shoal_net *net, uint16_t id) {
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
  netfront_post_receive(net, response->id);
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

uint8_t *shoal_net_reserve(struct shoal_net *net) {
  if (!net->linked || net->broken || !net->sending) return NULL;
  if (net->tx_free_count == 0) reclaim(net);
  if (net->tx_free_count == 0 && !net->broken) {
    /* Completions raise no event as a rule; now ask for one when half of them are there, and look once more. */
    netfront_flush(net);
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

void netfront_scribble(struct shoal_net *net) {
  if (!net->linked) return;
  shoal_random(net->tx.sring, PAGE_BYTES);
  shoal_random(net->rx.sring, PAGE_BYTES);
  event_notify(net->link.tx_port);
}
