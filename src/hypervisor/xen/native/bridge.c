/* See bridge.h. Attributes are those of <linux/if_link.h>; the meaning of the port flags is that of net/bridge in Linux 6.1. */
#include "bridge.h"

#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/socket.h>

static void set_master_and_up(struct batch *batch, const char *name, int32_t link, int32_t master)
{
  struct ifinfomsg fixed = { .ifi_family = AF_UNSPEC, .ifi_index = link, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };

  batch_message(batch, name, RTM_NEWLINK, 0, &fixed, sizeof fixed);
  batch_u32(batch, IFLA_MASTER, (uint32_t)master);
}

struct port_flags {
  uint8_t learning, flood, multicast, broadcast, proxy;
};

static void set_port_flags(struct batch *batch, int32_t link, struct port_flags flags)
{
  struct ifinfomsg fixed = { .ifi_family = AF_BRIDGE, .ifi_index = link };
  uint32_t opened;

  batch_message(batch, "set bridge port", RTM_SETLINK, 0, &fixed, sizeof fixed);
  opened = batch_open(batch, IFLA_PROTINFO | NLA_F_NESTED);
  batch_u8(batch, IFLA_BRPORT_LEARNING, flags.learning);
  batch_u8(batch, IFLA_BRPORT_UNICAST_FLOOD, flags.flood);
  batch_u8(batch, IFLA_BRPORT_MCAST_FLOOD, flags.multicast);
  batch_u8(batch, IFLA_BRPORT_BCAST_FLOOD, flags.broadcast);
  batch_u8(batch, IFLA_BRPORT_PROXYARP, flags.proxy & 1);
  batch_u8(batch, IFLA_BRPORT_PROXYARP_WIFI, flags.proxy >> 1);
  batch_close(batch, opened);
}

/* Static entries still move to the port on which their address is seen as a sender; sticky ones do not, so nobody takes a guest's address. */
static void forwarding_entry(struct batch *batch, const char *name, uint16_t type, int32_t link, const uint8_t mac[6])
{
  struct ndmsg fixed = { .ndm_family = AF_BRIDGE, .ndm_ifindex = link, .ndm_state = NUD_NOARP, .ndm_flags = NTF_MASTER | NTF_STICKY };

  batch_message(batch, name, type, type == RTM_NEWNEIGH ? NLM_F_CREATE | NLM_F_REPLACE : 0, &fixed, sizeof fixed);
  batch_attribute(batch, NDA_LLADDR, mac, 6);
}

static void neighbour_entry(struct batch *batch, const char *name, uint16_t type, int32_t link, const uint8_t address[4], const uint8_t mac[6])
{
  struct ndmsg fixed = { .ndm_family = AF_INET, .ndm_ifindex = link, .ndm_state = NUD_PERMANENT };

  batch_message(batch, name, type, type == RTM_NEWNEIGH ? NLM_F_CREATE | NLM_F_REPLACE : 0, &fixed, sizeof fixed);
  batch_attribute(batch, NDA_DST, address, 4);
  if (type == RTM_NEWNEIGH) batch_attribute(batch, NDA_LLADDR, mac, 6);
}

void bridge_attach(struct batch *batch, const struct port *port)
{
  int known = port->address_count > 0;
  /* Nothing at all is flooded to a port with proxy_arp. */
  uint8_t proxy = !known ? 0 : port->multicast ? 2 : 3;

  set_master_and_up(batch, "set master", port->vif, port->bridge);
  set_port_flags(batch, port->vif, (struct port_flags){ .multicast = port->multicast != 0, .broadcast = !known, .proxy = proxy });
  forwarding_entry(batch, "add forwarding entry", RTM_NEWNEIGH, port->vif, port->mac);
  if (port->way_to_shard) forwarding_entry(batch, "add forwarding entry", RTM_NEWNEIGH, port->way_to_shard, port->mac);
  for (unsigned i = 0; i < port->address_count; i++)
    neighbour_entry(batch, "add neighbour", RTM_NEWNEIGH, port->root, port->addresses[i], port->mac);
}

void bridge_detach(struct batch *batch, const struct port *port)
{
  for (unsigned i = 0; i < port->address_count; i++)
    neighbour_entry(batch, "forget neighbour", RTM_DELNEIGH, port->root, port->addresses[i], port->mac);
  if (port->way_to_shard) forwarding_entry(batch, "forget forwarding entry", RTM_DELNEIGH, port->way_to_shard, port->mac);
}

void bridge_create(struct batch *batch, const char *name)
{
  struct ifinfomsg fixed = { .ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
  uint32_t info, data;

  batch_message(batch, "create bridge", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &fixed, sizeof fixed);
  batch_text(batch, IFLA_IFNAME, name);
  info = batch_open(batch, IFLA_LINKINFO);
  batch_text(batch, IFLA_INFO_KIND, "bridge");
  data = batch_open(batch, IFLA_INFO_DATA);
  batch_u32(batch, IFLA_BR_STP_STATE, 0);
  batch_u32(batch, IFLA_BR_FORWARD_DELAY, 0);
  batch_u8(batch, IFLA_BR_MCAST_SNOOPING, 0);
  batch_close(batch, data);
  batch_close(batch, info);
}

/*
 * The address that Xen's links have, too: higher than any other, so that a bridge, which takes the lowest address of its ports as its own,
 * keeps the one it has. With a new address it would lose all its neighbours.
 */
static const uint8_t highest_address[6] = { 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff };

void bridge_create_pair(struct batch *batch, const char *root_side, const char *shard_side)
{
  struct ifinfomsg fixed = { .ifi_family = AF_UNSPEC };
  uint32_t info, data, peer;

  batch_message(batch, "create veth pair", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &fixed, sizeof fixed);
  batch_text(batch, IFLA_IFNAME, root_side);
  batch_attribute(batch, IFLA_ADDRESS, highest_address, sizeof highest_address);
  info = batch_open(batch, IFLA_LINKINFO);
  batch_text(batch, IFLA_INFO_KIND, "veth");
  data = batch_open(batch, IFLA_INFO_DATA);
  /* The peer is an attribute whose value starts with an ifinfomsg of its own, followed by attributes. */
  peer = batch->length;
  batch_attribute(batch, VETH_INFO_PEER, &fixed, sizeof fixed);
  batch_text(batch, IFLA_IFNAME, shard_side);
  batch_attribute(batch, IFLA_ADDRESS, highest_address, sizeof highest_address);
  batch_close(batch, peer);
  batch_close(batch, data);
  batch_close(batch, info);
}

void bridge_join(struct batch *batch, int32_t root, int32_t root_side, int32_t shard, int32_t shard_side)
{
  set_master_and_up(batch, "set master", root_side, root);
  set_port_flags(batch, root_side, (struct port_flags){ .multicast = 1, .broadcast = 1, .proxy = 2 });
  set_master_and_up(batch, "set master", shard_side, shard);
  set_port_flags(batch, shard_side, (struct port_flags){ .learning = 1, .flood = 1, .multicast = 1, .broadcast = 1 });
}

void bridge_delete(struct batch *batch, int32_t link)
{
  struct ifinfomsg fixed = { .ifi_family = AF_UNSPEC, .ifi_index = link };

  batch_message(batch, "forget link", RTM_DELLINK, 0, &fixed, sizeof fixed);
}
