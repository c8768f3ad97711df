/*
 * Devices of no machine, for Click's tests and fuzz targets: NETS of them, each remembers the last SENT frames it was given. Included once, after
 * both are defined; there is no lwIP behind them.
 */
#ifndef FUZZ_CLICK_WORLD_H
#define FUZZ_CLICK_WORLD_H

#include "shoal.h"
#include "lwip/netif.h"
#include <stdlib.h>

static struct shoal_net {
  const struct shoal_net_events *events;
  void *context;
  uint8_t room[SHOAL_NET_FRAME_BYTES];
  uint8_t sent[SENT][SHOAL_NET_FRAME_BYTES];
  size_t lengths[SENT];
  unsigned count; /* of all that were sent */
  bool full;      /* no room for the next */
} nets[NETS];

struct netif *netif_list;
bool shoal_ip_start_shared(const struct shoal_ip_share *share, void (*ready)(void)) { return share == NULL && ready != NULL; }
struct shoal_net *shoal_ip_device(void) { return NULL; }

struct shoal_net *shoal_net_open(unsigned index, const struct shoal_net_events *events, void *context) {
  if (index >= NETS) return NULL;
  nets[index].events = events;
  nets[index].context = context;
  return &nets[index];
}

uint8_t *shoal_net_reserve(struct shoal_net *net) { return net->full ? NULL : net->room; }

/* Click finishes all sums itself, so there are no flags. */
void shoal_net_commit(struct shoal_net *net, size_t length, uint32_t flags) {
  if (net->full || length < 14 || length > SHOAL_NET_FRAME_BYTES || flags != 0) abort();
  memcpy(net->sent[net->count % SENT], net->room, length);
  net->lengths[net->count++ % SENT] = length;
}

#endif
