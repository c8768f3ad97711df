/*
 * Vifs on Linux bridges, for thousands of them: which messages connect a vif, disconnect it, and make further bridges.
 *
 * A broadcast must not be copied to a thousand guests, yet each guest's address must be found by ARP from everywhere. So a guest port whose
 * addresses are known gets nothing by flooding: the bridge has a static forwarding entry for its MAC, a permanent neighbour entry for each of
 * its addresses, and the port flags `proxy_arp` (nothing is flooded to it; its own questions are answered from the neighbour table) and
 * `proxy_arp_wifi` (questions about it, from whichever port, are answered by the bridge). A guest whose addresses are not known (DHCP) gets
 * broadcasts and answers for itself. Multicasts go to
 * guests that have an IPv6 address, whose port is without `proxy_arp` then, and into all shards.
 *
 * One bridge takes 1,024 ports. Further bridges ("shards") hang on the first by a veth pair; neighbours are kept on the first bridge only, and
 * it has a forwarding entry towards the shard for each guest there, so that ARP from inside a shard is answered one hop up.
 */
#ifndef SHOAL_BRIDGE_H
#define SHOAL_BRIDGE_H

#include <stdint.h>

#include "failure.h"
#include "netlink.h"

enum { PORT_ADDRESSES = 8 };

struct port {
  int32_t vif;          /* link index of the vif */
  int32_t bridge;       /* of the bridge it joins: the root or a shard */
  int32_t root;         /* of the bridge that has the uplink and the neighbours */
  int32_t way_to_shard; /* of the root's port towards the shard; 0 when the vif joins the root itself */
  uint8_t mac[6];
  int multicast;        /* the guest gets the network's multicasts: neighbours are asked for by them in IPv6 */
  unsigned address_count; /* 0: the guest configures itself */
  uint8_t addresses[PORT_ADDRESSES][4];
};

/* Connects a vif and sets it up. May be repeated. */
void bridge_attach(struct batch *batch, const struct port *port);
/* Takes away what outlives the vif itself: the root's neighbours and its forwarding entry towards a shard. May be repeated. */
void bridge_detach(struct batch *batch, const struct port *port);

/* A bridge without spanning tree, forwarding delay and multicast snooping, up. Fails with EEXIST when there is a link of this name. */
void bridge_create(struct batch *batch, const char *name);
/* A veth pair; EEXIST as above. */
void bridge_create_pair(struct batch *batch, const char *root_side, const char *shard_side);
/* Puts the ends of a pair into the root and the shard, and up. Unknown addresses are not flooded into the shard: the root knows its guests. */
void bridge_join(struct batch *batch, int32_t root, int32_t root_side, int32_t shard, int32_t shard_side);
void bridge_delete(struct batch *batch, int32_t link);

#endif
