/*
 * lwIP on device 0: the address from the command line, frames in and out, checksums. A frame is copied once in each direction:
 * in, because its page goes back to the other end at once and is never judged while that end can still write to it; out, because
 * transmit buffers are granted once and for all.
 */
#include "ip.h"
#include "config.h"
#include "loop.h"
#include "random.h"
#include "resume.h"
#include "lwip/dhcp.h"
#include "lwip/etharp.h"
#include "lwip/init.h"
#include "lwip/pbuf.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/dhcp.h"
#include "netif/ethernet.h"
#if LWIP_IPV6
#include "lwip/ethip6.h"
#include "lwip/mld6.h"
#include "lwip/nd6.h"
#endif

#define CHECKED_BY_DEVICE (NETIF_CHECKSUM_CHECK_TCP | NETIF_CHECKSUM_CHECK_UDP)
/* A wire pads frames to this; a virtual one need not, and lwIP reads an IP header before it looks whether it is all there. */
#define SHORTEST_FRAME_BYTES 60u
/* lwIP gives an ARP entry up after ARP_MAXPENDING (5) seconds without an answer. */
#define ARP_MAXPENDING_SECONDS 7

static struct netif netif;
static struct shoal_net *device;
static void (*when_ready)(void);
static bool by_dhcp;
static const struct shoal_ip_share *share; /* NULL: the device is lwIP's alone */

void *ip_calloc(size_t count, size_t size_bytes) {
  size_t all;
  if (__builtin_mul_overflow(count, size_bytes, &all)) return NULL;
  void *memory = shoal_alloc(all);
  if (memory != NULL) memset(memory, 0, all);
  return memory;
}

uint32_t ip_random(void) {
  uint32_t value;
  shoal_random(&value, sizeof value);
  return value;
}

uint32_t ip_tcp_sequence(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote, uint16_t remote_port) {
  struct {
    ip_addr_t local, remote;
    uint16_t local_port, remote_port;
  } connection;
  memset(&connection, 0, sizeof connection);
  connection.local = *local;
  connection.remote = *remote;
  connection.local_port = local_port;
  connection.remote_port = remote_port;
  /* RFC 6528: a clock of 4 microseconds plus a keyed hash of the connection. */
  return (uint32_t)(shoal_now_ns() / 4000) + (uint32_t)random_keyed_hash(&connection, sizeof connection);
}

static uint16_t big_endian16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

#ifdef NET_FILLS_CHECKSUMS
/* lwIP leaves the checksum of TCP at 0 here: puts the pseudo header's sum there and says so. 0: nothing to fill in. */
static uint32_t ip_blank_checksum(uint8_t *frame, size_t length) {
  size_t start, addresses, span;
  uint32_t sum = 6;
  if (length >= 54 && big_endian16(frame + 12) == ETHTYPE_IP && frame[23] == 6 && (big_endian16(frame + 20) & 0x3fff) == 0) {
    start = 14 + (frame[14] & 15u) * 4u, addresses = 26, span = 8;
    sum += big_endian16(frame + 16) - (start - 14);
  } else if (length >= 74 && big_endian16(frame + 12) == ETHTYPE_IPV6 && frame[20] == 6) {
    start = 54, addresses = 22, span = 32;
    sum += big_endian16(frame + 18);
  } else {
    return 0;
  }
  for (size_t i = 0; i < span; i += 2) sum += big_endian16(frame + addresses + i);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  frame[start + 16] = (uint8_t)(sum >> 8);
  frame[start + 17] = (uint8_t)sum;
  return SHOAL_NET_CSUM_BLANK;
}
#endif

static err_t send_frame(struct netif *from, struct pbuf *packet) {
  (void)from;
  if (packet->tot_len > SHOAL_NET_FRAME_BYTES) return ERR_IF;
  uint8_t *room = shoal_net_reserve(device);
  if (room == NULL) return ERR_MEM;
  pbuf_copy_partial(packet, room, packet->tot_len, 0);
  /* An ARP request (operation 1) has lwIP count seconds for its retries, unless it asks for the guest's own address (sender and
   * target are the same), which only announces it. */
  if (packet->tot_len >= 42 && big_endian16(room + 12) == ETHTYPE_ARP && big_endian16(room + 20) == 1 &&
      memcmp(room + 28, room + 38, 4) != 0) {
    ip_timers_need_seconds(ARP_MAXPENDING_SECONDS);
  }
#ifdef NET_FILLS_CHECKSUMS
  shoal_net_commit(device, packet->tot_len, ip_blank_checksum(room, packet->tot_len));
#else
  shoal_net_commit(device, packet->tot_len, 0);
#endif
  return ERR_OK;
}

static void on_frame(void *context, const uint8_t *frame, size_t length_bytes, uint32_t flags) {
  (void)context;
  if (share != NULL && share->frame(share->context, frame, length_bytes, flags)) return;
  size_t padded_bytes = length_bytes < SHORTEST_FRAME_BYTES ? SHORTEST_FRAME_BYTES : length_bytes;
  struct pbuf *packet = pbuf_alloc(PBUF_RAW, (u16_t)padded_bytes, PBUF_RAM);
  if (packet == NULL) return; /* a full guest drops frames, as a full wire does */
  uint8_t *bytes = packet->payload;
  memcpy(bytes, frame, length_bytes);
  memset(bytes + length_bytes, 0, padded_bytes - length_bytes);
  ip_timers_catch_up();
  /* A fragment (more to come, or an offset) has lwIP count seconds for its reassembly. */
  if (big_endian16(bytes + 12) == ETHTYPE_IP && (big_endian16(bytes + 20) & 0x3fff) != 0) {
    ip_timers_need_seconds(IP_REASS_MAXAGE + 1);
  }
  uint16_t checks = flags & SHOAL_NET_CSUM_VALID ? NETIF_CHECKSUM_ENABLE_ALL & ~CHECKED_BY_DEVICE : NETIF_CHECKSUM_ENABLE_ALL;
#ifdef NET_FILLS_CHECKSUMS
  checks &= (uint16_t)~NETIF_CHECKSUM_GEN_TCP;
#endif
  NETIF_SET_CHECKSUM_CTRL(&netif, checks);
  /* A question for another address is answered by its own interface. */
  uint32_t asked_for = 0;
  if (big_endian16(bytes + 12) == ETHTYPE_ARP) memcpy(&asked_for, bytes + 38, sizeof asked_for);
  struct netif *to = asked_for == 0 ? &netif : ip_addresses_find(asked_for);
  if (to->input(packet, to) != ERR_OK) pbuf_free(packet);
  if (by_dhcp) ip_timers_check_dhcp();
}

/* Connections looked at in one go, of those that wait for room. */
#define WAITING_MOST 64u

/*
 * Those that have waited longest come last in lwIP's list, for what is heard of moves to its front. They go first: else connections that are acknowledged
 * take all the room, and one that has nothing on its way waits for seconds.
 */
static void send_waiting(void) {
  struct tcp_pcb *waiting[WAITING_MOST];
  unsigned count = 0;
  for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) {
    if (pcb->flags & TF_NAGLEMEMERR) waiting[count++ % WAITING_MOST] = pcb;
  }
  unsigned some = count < WAITING_MOST ? count : WAITING_MOST;
  while (some-- > 0) tcp_output(waiting[--count % WAITING_MOST]);
  tcp_txnow(); /* if there is room still */
}

static void on_writable(void *context) {
  (void)context;
  send_waiting();
  if (share != NULL && share->writable != NULL) share->writable(share->context);
}

static void on_down(void *context) {
  (void)context;
  netif_set_link_down(&netif);
  ip_addresses_link(false);
  if (share != NULL && share->down != NULL) share->down(share->context);
}

static void tell_ready(void) {
  const uint8_t *ip = (const uint8_t *)&netif_ip4_addr(&netif)->addr;
  const uint8_t *gw = (const uint8_t *)&netif_ip4_gw(&netif)->addr;
  const uint8_t *mac = netif.hwaddr;
  uint32_t mask = lwip_ntohl(netif_ip4_netmask(&netif)->addr);
  unsigned bits = mask == 0 ? 0 : 32 - (unsigned)__builtin_ctz(mask);
  shoal_print("net 0: up after %u us, ip %u.%u.%u.%u/%u gw %u.%u.%u.%u mac %02x:%02x:%02x:%02x:%02x:%02x\n",
              (unsigned)(shoal_now_ns() / 1000), ip[0], ip[1], ip[2], ip[3], bits, gw[0], gw[1], gw[2], gw[3], mac[0], mac[1],
              mac[2], mac[3], mac[4], mac[5]);
  if (when_ready != NULL) when_ready();
}

#if LWIP_IPV6
static ip6_addr_t gateway6;

/* For lwIP (lwipopts.h): who passes on what is not for this link; NULL where only routers' advertisements say so. */
const ip6_addr_t *ip_gateway6(void) {
  return ip6_addr_isany(&gateway6) ? NULL : &gateway6;
}

static bool parse_ip6(const char *name, ip6_addr_t *address) {
  const char *word = shoal_config(name);
  char text[48];
  size_t length = 0;
  if (word == NULL) return false;
  while (word[length] != '\0' && word[length] != '/' && length < sizeof text - 1) text[length] = word[length], length++;
  text[length] = '\0';
  if (ip6addr_aton(text, address) != 0) return true;
  shoal_print("net 0: %s=%s is no IPv6 address\n", name, word);
  return false;
}

/*
 * A link-local address from the MAC address; a global one from the word ip6=ADDRESS[/64], of which a prefix (fd00:1::) is completed from the MAC
 * address, else from a router's advertisement. What is not for this link goes to gw6=ADDRESS.
 */
static void start_ip6(void) {
  ip6_addr_t given;
  ip6_addr_set_zero(&gateway6);
  if (parse_ip6("gw6", &given)) ip6_addr_copy(gateway6, given);
  netif_create_ip6_linklocal_address(&netif, 1);
  netif.ip6_autoconfig_enabled = 1;
  if (!parse_ip6("ip6", &given)) return;
  if (given.addr[2] == 0 && given.addr[3] == 0) memcpy(&given.addr[2], &netif_ip6_addr(&netif, 0)->addr[2], 8);
  netif_ip6_addr_set(&netif, 1, &given);
  netif_ip6_addr_set_state(&netif, 1, IP6_ADDR_PREFERRED);
}
#endif

static void on_link(const uint8_t *mac) {
  memcpy(netif.hwaddr, mac, 6);
#if LWIP_IPV6
  start_ip6();
#endif
  netif_set_link_up(&netif); /* lwIP announces the address with a gratuitous ARP request */
  ip_addresses_link(true);
  if (!netif_is_up(&netif)) return; /* a clone without a usable address */
  if (by_dhcp) {
    const struct dhcp *dhcp = netif_dhcp_data(&netif);
    if ((dhcp == NULL || dhcp->state == DHCP_STATE_OFF) && dhcp_start(&netif) != ERR_OK) shoal_print("net 0: DHCP does not start\n");
    ip_timers_check_dhcp();
  } else {
    loop_flush(); /* the announcement goes out before anything is printed */
    tell_ready();
  }
}

static void on_up(void *context, const uint8_t *mac) {
  (void)context;
  on_link(mac);
  if (share != NULL && share->up != NULL) share->up(share->context, mac);
}

static void on_address(struct netif *changed) {
  if (by_dhcp && !ip4_addr_isany_val(*netif_ip4_addr(changed))) tell_ready();
}

static err_t init_netif(struct netif *to) {
  to->name[0] = 'n';
  to->name[1] = 'e';
  to->output = etharp_output;
  to->linkoutput = send_frame;
  to->mtu = SHOAL_NET_MTU_BYTES;
  to->hwaddr_len = 6;
  to->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET;
#if LWIP_IPV6
  to->output_ip6 = ethip6_output;
  to->flags |= NETIF_FLAG_MLD6;
#endif
  return ERR_OK;
}

/* Reads the words ip= and gw=. */
static bool read_words(uint32_t *address, uint32_t *mask, uint32_t *gateway) {
  const char *ip = shoal_config("ip");
  const char *gw = shoal_config("gw");
  *address = *mask = *gateway = 0;
  if (ip == NULL) {
    shoal_print("net 0: no ip= on the command line; no network\n");
    return false;
  }
  by_dhcp = strcmp(ip, "dhcp") == 0;
  if (by_dhcp) return true;
  if (!config_parse_host(ip, address, mask)) {
    shoal_print("net 0: ip=%s is neither dhcp nor A.B.C.D/LEN; no network\n", ip);
    return false;
  }
  if (gw != NULL && (!config_parse_ipv4(gw, gateway) || ((*gateway ^ *address) & *mask) != 0)) {
    shoal_print("net 0: gw=%s is no address in the network of ip=%s; no network\n", gw, ip);
    return false;
  }
  return true;
}

/*
 * Another identity, taken while the device is down, so that nothing leaves under the old one: lwIP aborts the connections of an address
 * that changes, and its resets would end those of the guest that this one was cloned from.
 */
static void on_resumed(bool as_clone) {
  uint32_t address, mask, gateway;
  random_renew_key();
  if (!as_clone) return;
  netif_set_hostname(&netif, shoal_config("name"));
  if (netif_dhcp_data(&netif) != NULL) dhcp_release_and_stop(&netif); /* the lease is the original's; the release is lost */
  etharp_cleanup_netif(&netif);
  if (!read_words(&address, &mask, &gateway)) {
    netif_set_addr(&netif, IP4_ADDR_ANY4, IP4_ADDR_ANY4, IP4_ADDR_ANY4);
    ip_addresses_set(NULL, 0);
    netif_set_down(&netif);
    return;
  }
  ip4_addr_t ip = {lwip_htonl(address)}, netmask = {lwip_htonl(mask)}, gw = {lwip_htonl(gateway)};
  netif_set_addr(&netif, &ip, &netmask, &gw);
  netif_set_up(&netif);
  ip_addresses_start(&netif, init_netif);
  ip_timers_start(by_dhcp ? &netif : NULL);
}

bool shoal_ip_start(void (*ready)(void)) {
  static const struct shoal_net_events events = {.up = on_up, .down = on_down, .frame = on_frame, .writable = on_writable};
  uint32_t address, mask, gateway;
  if (!read_words(&address, &mask, &gateway)) return false;
  when_ready = ready;
  lwip_init();
  ip4_addr_t ip = {lwip_htonl(address)}, netmask = {lwip_htonl(mask)}, gw = {lwip_htonl(gateway)};
  netif_add(&netif, &ip, &netmask, &gw, NULL, init_netif, ethernet_input);
  netif_set_default(&netif);
#ifdef NET_FILLS_CHECKSUMS
  NETIF_SET_CHECKSUM_CTRL(&netif, NETIF_CHECKSUM_ENABLE_ALL & ~NETIF_CHECKSUM_GEN_TCP);
#endif
  netif_set_status_callback(&netif, on_address);
  netif_set_hostname(&netif, shoal_config("name"));
  netif_set_up(&netif);
  ip_addresses_start(&netif, init_netif);
  ip_timers_start(by_dhcp ? &netif : NULL);
  static struct resume_hook hook = {.resumed = on_resumed};
  resume_listen(&hook);
  device = shoal_net_open(0, &events, NULL);
  if (device == NULL) shoal_print("net 0: no such device\n");
  return device != NULL;
}

bool shoal_ip_start_shared(const struct shoal_ip_share *with, void (*ready)(void)) {
  share = with;
  return shoal_ip_start(ready);
}

struct shoal_net *shoal_ip_device(void) { return device; }
