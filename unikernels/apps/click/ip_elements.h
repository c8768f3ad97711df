/* What elements that work on each packet alone share: a batch is changed in place, and what is no good goes out of output 1. */
#ifndef CLICK_IP_ELEMENTS_H
#define CLICK_IP_ELEMENTS_H

#include "element.h"
#include "ip.h"

/* Keeps the packets for which `good(element, packet)` holds; rejects the others. */
static inline void keep_good(struct element *element, struct batch *batch, bool (*good)(struct element *element, struct packet *packet)) {
  struct batch kept = BATCH_EMPTY;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    if (good(element, packet)) batch_add(&kept, packet);
    else element_reject(element, packet);
  }
  *batch = kept;
}

/* A list of IPv4 addresses apart by blanks, at most ADDRESSES_MAX. */
#define ADDRESSES_MAX 32u
struct addresses {
  uint32_t count;
  uint32_t all[ADDRESSES_MAX];
};
static inline bool addresses_have(const struct addresses *addresses, uint32_t address) {
  for (uint32_t i = 0; i < addresses->count; i++) {
    if (addresses->all[i] == address) return true;
  }
  return false;
}
/* Adds those of the argument of that name; false when it was not given or is malformed, which is told. */
bool addresses_argument(struct arguments *arguments, const char *name, unsigned flags, struct addresses *addresses);

#endif
