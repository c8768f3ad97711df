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

static netif_tx_request_t *next_request(struct shoal_net *net) { return RING_GET_REQUEST(&net->tx, net->tx.req_prod_pvt++); }

/* Whether this frame's data can follow that of the one before it in one slot: they lie in the two halves of a page. */
static bool joins(const struct netfront_group *group, unsigned i) {
  return i > 0 && group->ids[i] == group->ids[i - 1] + 1u && group->ids[i] % 2 == 1;
}

/*
 * Puts the frames that wait into the ring: one, or several segments as one long frame, of which all but the first give their data only. Each lies in
 * its own buffer, and the backend is told where its data begins; a slot costs the backend more than moving data within a page costs us.
 */
static void emit_group(struct shoal_net *net) {
  struct netfront_group *group = &net->group;
  unsigned count = group->count;
  netif_tx_request_t *request = NULL;
  if (count == 0) return;
  group->count = group->slots = 0;
  if (count > 1) segments_finish(&group->run);
  for (unsigned i = 0; i < count; i++) {
    uint16_t id = group->ids[i], headers = i == 0 ? 0 : group->run.head, data = (uint16_t)(group->lengths[i] - headers);
    struct netfront_buffer *buffer = &net->tx_buffers[id];
    if (joins(group, i)) {
      struct netfront_buffer *before = &net->tx_buffers[id - 1];
      uint16_t begins = i == 1 ? 0 : group->run.head;
      memmove(before->bytes + group->lengths[i - 1], buffer->bytes + headers, data);
      before->joined = true;
      /* The first slot tells the length of the whole. */
      if (i > 1) request->size = (uint16_t)(group->lengths[i - 1] - begins + data);
      if (i + 1 == count) request->flags &= (uint16_t)~NETTXF_more_data;
      continue;
    }
    request = next_request(net);
    request->gref = buffer->ref;
    request->offset = (uint16_t)(buffer->offset + headers);
    request->id = id;
    request->size = i == 0 ? (uint16_t)group->run.length : data;
    request->flags = i + 1 < count ? NETTXF_more_data : 0;
    buffer->lent = true;
    if (i > 0) continue;
    request->flags |= group->flags & SHOAL_NET_CSUM_BLANK    ? NETTXF_csum_blank | NETTXF_data_validated
                      : group->flags & SHOAL_NET_CSUM_VALID ? NETTXF_data_validated
                                                            : 0;
    if (count == 1) continue;
    request->flags |= NETTXF_extra_info;
    struct netif_extra_info *extra = (struct netif_extra_info *)next_request(net);
    *extra = (struct netif_extra_info){.type = XEN_NETIF_EXTRA_TYPE_GSO};
    extra->u.gso.size = group->run.each;
    extra->u.gso.type = group->run.tcp == 54 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4;
  }
  if (!net->tx_starved) net->tx.sring->rsp_event = net->tx.req_prod_pvt + 1; /* past all that can be answered: no event */
}

/* A frame that no other can follow in one slot: no group is begun for it. */
static void emit_one(struct shoal_net *net, uint16_t id, size_t length_bytes, uint32_t flags) {
  struct netfront_buffer *buffer = &net->tx_buffers[id];
  netif_tx_request_t *request = next_request(net);
  request->gref = buffer->ref;
  request->offset = buffer->offset;
  request->flags = flags & SHOAL_NET_CSUM_VALID ? NETTXF_data_validated : 0;
  request->id = id;
  request->size = (uint16_t)length_bytes;
  buffer->lent = true;
  if (!net->tx_starved) net->tx.sring->rsp_event = net->tx.req_prod_pvt + 1;
}

void netfront_flush(void *context) {
  struct shoal_net *net = context;
  int notify_tx = 0, notify_rx = 0;
  if (!net->linked || net->broken) return;
  emit_group(net);
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

void netfront_free_transmit(struct shoal_net *net, unsigned id) {
  net->tx_free[(net->tx_free_first + net->tx_free_count++) % net->buffer_count] = (uint16_t)id;
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
    struct netfront_buffer *buffer = &net->tx_buffers[response.id];
    buffer->lent = false;
    netfront_free_transmit(net, response.id);
    if (buffer->joined) netfront_free_transmit(net, response.id + 1u);
    buffer->joined = false;
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
  return net->tx_buffers[net->tx_free[net->tx_free_first]].bytes;
}

void shoal_net_commit(struct shoal_net *net, size_t length_bytes, uint32_t flags) {
  if (net->tx_free_count == 0 || length_bytes < 14 || length_bytes > SHOAL_NET_FRAME_BYTES) {
    shoal_panic("net %u: commit of %zu bytes", net->index, length_bytes);
  }
  uint16_t id = net->tx_free[net->tx_free_first];
  net->tx_free_first = (net->tx_free_first + 1) % net->buffer_count;
  net->tx_free_count--;
  struct netfront_group *group = &net->group;
  uint8_t *frame = net->tx_buffers[id].bytes;
  loop_flush_later(&net->batch);
  /* Segments are joined only where sums are left blank (segments_begin). */
  if (!(flags & SHOAL_NET_CSUM_BLANK)) {
    emit_group(net);
    emit_one(net, id, length_bytes, flags);
    return;
  }
  group->ids[group->count] = id;
  bool shares = joins(group, group->count);
  bool follows = group->count > 0 && group->slots + !shares <= NETFRONT_SLOTS && segments_follow(&group->run, frame, length_bytes, flags);
  if (!follows) {
    emit_group(net);
    group->ids[0] = id;
    segments_begin(&group->run, frame, length_bytes, flags);
    group->flags = flags;
    if (!(group->run.tcp == 54 ? net->long_ipv6 : net->long_ipv4)) group->run.closed = true;
    shares = false;
  }
  group->slots += !shares;
  group->lengths[group->count++] = (uint16_t)length_bytes;
  if (group->run.closed) emit_group(net);
}

void netfront_scribble(struct shoal_net *net) {
  if (!net->linked) return;
  shoal_random(net->tx.sring, PAGE_BYTES);
  shoal_random(net->rx.sring, PAGE_BYTES);
  event_notify(net->link.tx_port);
}
