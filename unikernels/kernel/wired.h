/*
 * What the builder laid out for this guest (include/wiring.h), checked once and kept as a copy: the page lies in the host's reach, and
 * what was checked must not change afterwards. Only the order word is looked at where it lies.
 */
#ifndef KERNEL_WIRED_H
#define KERNEL_WIRED_H

#include "shoal.h"
#include "../include/wiring.h"

/* What the wiring is checked against. */
struct wired_place {
  struct wiring *wiring; /* in start_info's page */
  uint8_t *memory;       /* where guest frame 0 is mapped */
  size_t first_frame;    /* the first one behind the image */
  size_t frame_count;    /* of the guest */
  uint32_t order_port;   /* the console's event channel, 0 when there is none */
  bool has_store;        /* a guest that is wired has none */
};

/* Reads the wiring when the guest starts. A malformed one is told on the console and counts as none. */
void wired_init(const struct wired_place *place);

/* Reads it anew in another domain. Ring pages must be some of those of the start, for the others have long been given away. */
void wired_resume(const struct wired_place *place);

/* Why `wiring` cannot be taken; NULL when it can. Pure. */
const char *wired_fault(const struct wiring *wiring, const struct wired_place *place);

/* While the guest starts: the devices cannot be used after all, nor can their ring pages later. */
void wired_reject(const char *why);

/* The device of that number, or NULL. */
const struct wiring_vif *wired_vif(unsigned handle);

/* The page of a frame of a device. */
void *wired_page(uint32_t frame);

/* The channel on which orders come; 0 when the guest gets none that way. */
uint32_t wired_order_port(void);

/* Takes the order that is there (WIRING_NOTHING when there is none). */
uint32_t wired_take_order(void);

/* The addresses that device 0 is to have; the number of the list is for wired_took_addresses. 0 when the list makes no sense. */
uint32_t wired_addresses(uint32_t list[WIRING_ADDRESSES], size_t *count);
void wired_took_addresses(uint32_t number);

/* Says where the map of `pages` pages in use lies, at `offset` of the guest's memory. Nothing in a guest that is not wired. */
void wired_show_map(uint64_t offset, uint64_t pages);

/* Whether whoever ordered the suspension reads that map; asked once, before the guest suspends itself. */
bool wired_map_is_read(void);

#endif
