/*
 * wiring.h: what a builder lays out for a guest before its first instruction, so that the guest wakes up with its devices connected
 * and speaks to no store: ring pages, event channels, addresses, and the word by which the host asks it to stop. It lies in the page
 * of Xen's start_info, behind that structure; start_info.store_evtchn is 0 in a guest that is wired. A kernel says by an ELF note
 * (owner "Shoal", type WIRING_NOTE, value the version as 4 bytes) that it understands this; others are never given it.
 *
 * Shared by the kernel and the toolstack; freestanding. Frames are guest frame numbers (page n of the guest's memory), which stay
 * the same when a guest is saved and restored; ports may differ after a restore, so a guest reads all of this again when it resumes.
 */
#ifndef SHOAL_WIRING_H
#define SHOAL_WIRING_H

#include <stddef.h>
#include <stdint.h>

#define WIRING_NOTE 1u
#define WIRING_MAGIC 0x52574853u /* "SHWR" */
#define WIRING_VERSION 1u
/* Where in the page of start_info, which is itself page aligned. */
#define WIRING_OFFSET 2048u
#define WIRING_VIFS 4u

/* Orders of the host, in wiring.order: written by the host, which then rings the console's event channel. The guest sets the word
 * back to WIRING_NOTHING once it has read it, and then obeys. A word it does not know is set back too, and told on the console. */
#define WIRING_NOTHING 0u
#define WIRING_POWEROFF 1u
#define WIRING_REBOOT 2u
#define WIRING_SUSPEND 3u
#define WIRING_READDRESS 4u /* take the addresses of struct wiring_addresses */

/* One network device on Xen's netif rings (xen/io/netif.h), a single page each. Both rings lie initialised (SHARED_RING_INIT) before the
 * guest runs, and a backend in domain `backend` may look at them already. One event channel serves both directions; the guest's buffers are
 * granted to `backend` by the guest, each for as long as the device is up, for a backend may keep those of a busy guest mapped. Agreed on without a word: frames are copied into one receive buffer each, checksums may be left
 * blank in both directions, no scatter-gather, no segmentation, no extra information. The backend needs no event for posted
 * receive buffers. */
struct wiring_vif {
  uint32_t handle;             /* number of the device in the guest */
  uint32_t port;               /* the guest's, unbound or bound to the backend */
  uint32_t tx_frame, rx_frame; /* guest frames of the two ring pages */
  uint16_t backend;            /* domain */
  uint8_t mac[6];
};

struct wiring {
  uint32_t magic;
  uint32_t version;
  uint32_t order; /* WIRING_* above */
  uint32_t vif_count;
  struct wiring_vif vifs[WIRING_VIFS];
};

/* Right behind struct wiring: the IPv4 addresses that device 0 is to have now, its first one among them or not (it is never taken away). The
 * host writes them, changes `wanted` last, and orders WIRING_READDRESS; a guest that has them says so by `taken`. A guest that does not
 * know the order never does. */
#define WIRING_ADDRESSES 8u
struct wiring_addresses {
  uint32_t wanted; /* another number for each list */
  uint32_t taken;  /* by the guest */
  uint32_t count;
  uint32_t addresses[WIRING_ADDRESSES]; /* in network order */
};

/* Right behind that: which of the guest's pages are in use, so that whoever saves the guest need not look at the others, nor the guest clear them. A
 * guest that keeps such a map says where it is as it starts; the magic is there last. The host sets `is_read` before it orders WIRING_SUSPEND
 * when it will leave out what is free; the guest sets it back as it suspends itself. What is free is zero wherever the guest goes on. */
#define WIRING_MAP_MAGIC 0x4d504853u /* "SHPM" */
struct wiring_map {
  uint32_t magic;
  uint32_t is_read;
  uint64_t offset; /* of the map in the guest's memory, frame * 4096 and so on; bit n of byte m is set when page 8m + n is in use */
  uint64_t pages;  /* that it has a bit of */
};

struct wiring_page {
  struct wiring wiring;
  struct wiring_addresses addresses;
  struct wiring_map map;
};

_Static_assert(sizeof(struct wiring_vif) == 24, "wiring ABI");
_Static_assert(sizeof(struct wiring) == 16 + 24 * WIRING_VIFS, "wiring ABI");
_Static_assert(sizeof(struct wiring_addresses) == 12 + 4 * WIRING_ADDRESSES, "wiring ABI");
_Static_assert(sizeof(struct wiring_map) == 24 && offsetof(struct wiring_page, map) % 8 == 0, "wiring ABI");
_Static_assert(offsetof(struct wiring_page, addresses) == sizeof(struct wiring), "right behind");
_Static_assert(WIRING_OFFSET + sizeof(struct wiring_page) <= 4096, "in one page");

#endif
