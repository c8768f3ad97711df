/* The glue between lwIP and a network device, in three files: ip.c (frames, the first address), ip_addresses.c (the others)
 * and ip_timers.c (lwIP's time). */
#ifndef KERNEL_IP_H
#define KERNEL_IP_H

#include "shoal.h"
#include "lwip/netif.h"

/* The address of device 0 is to come from DHCP on `netif`; NULL: not from DHCP. Called again when that changes. */
void ip_timers_start(struct netif *dhcp_netif);

/* Makes up for the seconds that nobody counted while the guest slept. Before every frame that lwIP gets. */
void ip_timers_catch_up(void);

/* lwIP waits for something that only the clock ends (an ARP answer, missing fragments): count seconds for so long. */
void ip_timers_need_seconds(unsigned seconds);

/* Looks whether DHCP waits for an answer. After every frame. */
void ip_timers_check_dhcp(void);

/* Addresses of device 0 beside its first. */
#define IP_OTHERS_MAX 7u

/* Reads the word ips= and listens for what the host changes later. Again in a clone, whose words are others. `init` as for netif_add. */
void ip_addresses_start(struct netif *first, netif_init_fn init);

/* The first interface has its MAC address, and its link is so. */
void ip_addresses_link(bool up);

/* The interface that has the address (network order), or the first one. */
struct netif *ip_addresses_find(uint32_t address);

/* From now on these (network order), and the first one. One that is taken away takes its connections along. False, and nothing changed: too
 * many, or not a host's. */
bool ip_addresses_set(const uint32_t *list, size_t count);

#endif
