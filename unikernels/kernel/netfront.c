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

/* ---- free transmit buffers ---- */

/* Whether a half of a page is free alone; then it is no more, if so wanted. */
static bool find_half(struct shoal_net *net, unsigned id, bool take) {
  for (unsigned i = 0; i < net->tx_half_count; i++) {
    if (net->tx_halves[i] != id) continue;
    if (take) net->tx_halves[i] = net->tx_halves[--net->tx_half_count];
    return true;
  }
  return false;
}

void netfront_free_transmit(struct shoal_net *net, unsigned id) {
  net->tx_free_count++;
  if (find_half(net, id ^ 1u, true)) net->tx_pages[net->tx_page_count++] = (uint16_t)(id & ~1u);
  else net->tx_halves[net->tx_half_count++] = (uint16_t)id;
}

/* The one to be used next; there is one. */
static uint16_t next_transmit(struct shoal_net *net) {
  if (net->tx_last % 2 == 0 && find_half(net, net->tx_last + 1u, false)) return (uint16_t)(net->tx_last + 1u);
  return net->tx_page_count > 0 ? net->tx_pages[net->tx_page_count - 1] : net->tx_halves[net->tx_half_count - 1];
}

static uint16_t take_transmit(struct shoal_net *net) {
  uint16_t id = next_transmit(net);
  net->tx_free_count--;
  net->tx_last = id;
  if (find_half(net, id, true)) return id;
  net->tx_page_count--;
  net->tx_halves[net->tx_half_count++] = (uint16_t)(id + 1u);
  return id;
}

/* ---- sending ---- */

/* Whether the i-th buffer of a group of so many lies in one piece with the next one, the other half of its page. */
static bool is_page(const struct netfront_group *group, unsigned count, unsigned i) {
  return i + 1 < count && group->ids[i] % 2 == 0 && group->ids[i + 1] == group->ids[i] + 1u;
}

/* Slots that so many bytes take when all pieces but the last are full, with one more buffer than the group has. */
static unsigned slots_for(const struct netfront_group *group, size_t bytes) {
  unsigned slots = 0;
  for (unsigned i = 0; bytes > 0; slots++) {
    bool page = is_page(group, group->count + 1u, i);
    size_t room = page ? 2 * NETFRONT_TX_BYTES : NETFRONT_TX_BYTES;
    bytes -= bytes < room ? bytes : room;
    i += page ? 2 : 1;
  }
  return slots;
}

/* Moves data to the front, into as few pieces as can be: of a piece at bytes[0], *used bytes are. The data of a frame never lies before where it goes. */
static void fill_piece(struct shoal_net *net, const struct netfront_group *group, unsigned count, unsigned *frame, size_t *taken, uint8_t *to, size_t room, size_t *used) {
  *used = 0;
  while (*frame < count && *used < room) {
    size_t headers = *frame == 0 ? 0 : group->run.head, left = group->lengths[*frame] - headers - *taken;
    size_t part = left < room - *used ? left : room - *used;
    const uint8_t *from = net->tx_buffers[group->ids[*frame]].bytes + headers + *taken;
    if (from != to + *used) memmove(to + *used, from, part);
    *used += part;
    *taken += part;
    if (part < left) return;
    *taken = 0;
    ++*frame;
  }
}

static void put_long(struct shoal_net *net, struct netfront_group *group) {
  struct netif_extra_info *extra = (struct netif_extra_info *)next_request(net);
  *extra = (struct netif_extra_info){.type = XEN_NETIF_EXTRA_TYPE_GSO};
  extra->u.gso.size = group->run.each;
  extra->u.gso.type = group->run.tcp == 54 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4;
}

/*
 * Puts the frames that wait into the ring: one, or several segments as one long frame, of which all but the first give their data only. That is moved
 * together: a slot costs the backend more than moving data costs us, and it takes so many only. Buffers that are empty then are free at once.
 */
static void emit_group(struct shoal_net *net) {
  struct netfront_group *group = &net->group;
  unsigned count = group->count, frame = 0;
  size_t taken = 0, used;
  if (count == 0) return;
  group->count = 0;
  if (count > 1) segments_finish(&group->run);
  for (unsigned i = 0; i < count;) {
    bool page = is_page(group, count, i);
    struct netfront_buffer *buffer = &net->tx_buffers[group->ids[i]];
    fill_piece(net, group, count, &frame, &taken, buffer->bytes, page ? 2 * NETFRONT_TX_BYTES : NETFRONT_TX_BYTES, &used);
    if (used == 0) { /* here and after this */
      netfront_free_transmit(net, group->ids[i++]);
      continue;
    }
    netif_tx_request_t *request = next_request(net);
    request->gref = buffer->ref;
    request->offset = buffer->offset;
    request->id = group->ids[i];
    request->size = (uint16_t)(i == 0 ? group->run.length : used); /* the first slot tells the length of the whole */
    request->flags = frame < count ? NETTXF_more_data : 0;
    buffer->lent = true;
    buffer->joined = page;
    if (i == 0) {
      request->flags |= group->flags & SHOAL_NET_CSUM_BLANK ? NETTXF_csum_blank | NETTXF_data_validated : group->flags & SHOAL_NET_CSUM_VALID ? NETTXF_data_validated : 0;
      if (count > 1) request->flags |= NETTXF_extra_info, put_long(net, group);
    }
    i += page ? 2 : 1;
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

/* Room for those who wait for it, before what came has others ask for it. */
static void make_room(struct shoal_net *net) {
  reclaim(net);
  if (net->broken || !net->tx_starved || net->tx_free_count == 0 || !net->sending) return;
  net->tx_starved = false;
  if (net->events->writable != NULL) net->events->writable(net->context);
}

void netfront_poll(struct shoal_net *net) {
  if (!net->linked || net->broken) return;
  make_room(net);
  if (!net->linked || net->broken) return;
  receive_all(net);
  if (!net->linked || net->broken) return;
  make_room(net);
}

uint8_t *shoal_net_reserve(struct shoal_net *net) {
  if (!net->linked || net->broken || !net->sending) return NULL;
  if (net->tx_free_count == 0) reclaim(net);
  if (net->tx_free_count == 0 && !net->broken) {
    /* Completions raise no event as a rule; now ask for one when half of them are there, and look once more. */
    netfront_flush(net);
    net->tx.sring->rsp_event = net->tx.rsp_cons + (net->tx.req_prod_pvt - net->tx.rsp_cons + 1) / 2;
    xen_mb();
    reclaim(net);
    net->tx_starved = net->tx_free_count == 0;
  }
  if (net->broken || net->tx_free_count == 0) return NULL;
  return net->tx_buffers[next_transmit(net)].bytes;
}

void shoal_net_commit(struct shoal_net *net, size_t length_bytes, uint32_t flags) {
  if (net->tx_free_count == 0 || length_bytes < 14 || length_bytes > SHOAL_NET_FRAME_BYTES) {
    shoal_panic("net %u: commit of %zu bytes", net->index, length_bytes);
  }
  uint16_t id = take_transmit(net);
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
  bool fits = group->count > 0 && group->count + 1 < NETFRONT_GROUP && slots_for(group, group->run.length + length_bytes - group->run.head) <= NETFRONT_SLOTS;
  if (!fits || !segments_follow(&group->run, frame, length_bytes, flags)) {
    emit_group(net);
    group->ids[0] = id;
    segments_begin(&group->run, frame, length_bytes, flags);
    group->flags = flags;
    if (!(group->run.tcp == 54 ? net->long_ipv6 : net->long_ipv4)) group->run.closed = true;
  }
  group->lengths[group->count++] = (uint16_t)length_bytes;
  if (group->run.closed) emit_group(net);
}

void netfront_scribble(struct shoal_net *net) {
  if (!net->linked) return;
  shoal_random(net->tx.sring, PAGE_BYTES);
  shoal_random(net->rx.sring, PAGE_BYTES);
  event_notify(net->link.tx_port);
}
