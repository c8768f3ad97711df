/* The glue between lwIP and a network device, in two files: ip.c (frames, addresses) and ip_timers.c (lwIP's time). */
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

#endif
