/*
 * One network device on Xen's netif ring protocol (xen/io/netif.h). netfront.c moves frames over rings and knows nothing of how
 * the two ends found each other; netfront_link.c grants, and makes or adopts rings; netfront_store.c finds the backend by the store,
 * netfront_wired.c finds all laid out by the builder; netfront_open.c chooses between the two.
 */
#ifndef KERNEL_NETFRONT_H
#define KERNEL_NETFRONT_H

#include "shoal.h"
#include <xen/xen.h>
#include <xen/grant_table.h>
#include "barrier.h"
#include <xen/io/netif.h>
#include "loop.h"
#include "segments.h"

_Static_assert(sizeof(struct netif_tx_request) == 12 && sizeof(struct netif_tx_response) == 4, "netif ABI");
_Static_assert(sizeof(struct netif_rx_request) == 8 && sizeof(struct netif_rx_response) == 8, "netif ABI");

#define NETFRONT_DEVICES 4u
/* Most buffers in each direction; a small guest has fewer (see netfront_init). */
#define NETFRONT_BUFFERS_MAX 168u
/* A ring has 256 slots, and the shortest long frame takes three for two buffers. */
_Static_assert(NETFRONT_BUFFERS_MAX / 2 * 3 <= 256, "all buffers find room in the ring");
#define NETFRONT_BUFFERS_MIN 8u
/* Two transmit buffers share a page: a frame fits in half of one. A receive buffer is a page, for the protocol has no offset. */
#define NETFRONT_TX_BYTES 2048u

/* Slots that any backend takes for a frame (XEN_NETIF_NR_SLOTS_MIN), but one. */
#define NETFRONT_SLOTS 17u
/* Frames that go out as one at most. 64 KB are 45 of the usual size. */
#define NETFRONT_GROUP 64u

/* What both ends must know of each other to exchange frames. */
struct netfront_link {
  domid_t backend;
  /* One event channel a direction (see link_to), or the same one twice in a wired device. */
  uint32_t tx_port, rx_port;
  grant_ref_t tx_ring_ref, rx_ring_ref; /* 0 in a wired device: the backend reaches the rings without */
  uint8_t mac[6];
};

struct netfront_buffer {
  uint8_t *bytes;
  grant_ref_t ref;
  uint16_t offset; /* in its page */
  bool lent;       /* the backend has it */
  bool joined;     /* with the other half of its page, which is the next buffer */
};

/* Frames that were committed and are not in the ring yet, for the next one may be the next segment of the same flow. */
struct netfront_group {
  struct segment_run run;
  unsigned count;
  uint32_t flags;
  uint16_t ids[NETFRONT_GROUP], lengths[NETFRONT_GROUP];
};

struct shoal_net {
  unsigned index;
  const struct shoal_net_events *events;
  void *context;
  struct netfront_link link;
  bool open;    /* shoal_net_open has given it to the application */
  bool linked;  /* rings are set up */
  bool own_rings; /* their pages are the guest's to free */
  bool sending; /* the application was told that it can send */
  bool broken;  /* the backend broke the protocol: the device is not used any more */
  bool long_ipv4, long_ipv6; /* the backend takes frames of several segments, and buffers */

  netif_tx_front_ring_t tx;
  netif_rx_front_ring_t rx;
  RING_IDX tx_pushed, rx_pushed; /* our own copy of req_prod: the shared one can be written by the backend */
  unsigned buffer_count;
  struct netfront_buffer *tx_buffers, *rx_buffers; /* one allocation, tx_buffers first */
  /* Free transmit buffers: pages of two, by the first, and others; in the same allocation. Pages stay whole where they can: a long frame takes a slot for each. */
  uint16_t *tx_pages, *tx_halves;
  unsigned tx_page_count, tx_half_count, tx_free_count;
  uint16_t tx_last; /* that was sent: the other half of its page comes next */
  bool tx_starved, rx_skipping;
  struct netfront_group group;
  struct loop_batch batch;
  struct shoal_timer again;
};

/* Allocates rings and buffers: a sixteenth of the guest's pages, within the limits above, for each direction. */
bool netfront_init(struct shoal_net *net, unsigned index, const struct shoal_net_events *events, void *context);

/* Fresh rings, granted to `backend`, with all receive buffers posted and event channels: fills net->link but for the MAC.
 * May be called again after netfront_unlink. */
bool netfront_link(struct shoal_net *net, domid_t backend);

/* The same over ring pages that lie there initialised, shared already, and one event channel for both directions. Such a device is
 * never unlinked. */
bool netfront_adopt(struct shoal_net *net, domid_t backend, uint32_t port, void *tx, void *rx);

/* Takes the rings back. The backend must have left them. */
void netfront_unlink(struct shoal_net *net);

/* The guest is in another domain: grants, channels and backend of the old one are no more, and no faults either. The device is
 * down until it is linked or adopted anew. */
void netfront_forget(struct shoal_net *net);

/* The address is known: frames can be sent (they wait in the ring until the backend looks). */
void netfront_up(struct shoal_net *net, const uint8_t mac[6]);
void netfront_down(struct shoal_net *net);

/* Takes what the backend has put into the rings. */
void netfront_poll(struct shoal_net *net);

/* A transmit buffer is free. */
void netfront_free_transmit(struct shoal_net *net, unsigned id);

/* Puts a receive buffer into the ring; not seen by the backend until it is pushed. */
void netfront_post_receive(struct shoal_net *net, uint16_t id);

/* Pushes what was put into the rings and notifies: the flush of net->batch. */
void netfront_flush(void *context);

/* Fault injection: fills both rings with garbage and notifies the backend. */
void netfront_scribble(struct shoal_net *net);

/* ---- the two ways to a backend; false when there is no memory, grant or channel for it ---- */

bool netfront_store_start(struct shoal_net *net);
bool netfront_wired_start(struct shoal_net *net);

/* ---- all devices (netfront_open.c) ---- */

/* The open device, or NULL. */
struct shoal_net *netfront_device(unsigned index);

/* In another domain: all go down, and are looked for anew. */
void netfront_forget_all(void);
void netfront_start_all(void);

/* The domain in "/local/domain/N/…". */
bool netfront_parse_backend(const char *path, domid_t *domain);

#endif
