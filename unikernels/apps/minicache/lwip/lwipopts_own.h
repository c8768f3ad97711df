/* Minicache's lwIP: IPv6, windows that fill a long path, and queues to match. Bodies are sent by reference, so a large send buffer
 * costs a segment's bookkeeping and not its bytes. */
#ifndef MINICACHE_LWIPOPTS_H
#define MINICACHE_LWIPOPTS_H

#define LWIP_IPV6 1
#define LWIP_IPV6_MLD 1
#define LWIP_IPV6_AUTOCONFIG 1
#define LWIP_IPV6_DHCP6 0
#define LWIP_ICMP6 1
#define LWIP_IPV6_REASS 0
#define LWIP_IPV6_FRAG 0
#define LWIP_IPV6_ADDRESS_LIFETIMES 1
#define LWIP_IPV6_SCOPES 0 /* there is one device */
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 2
#define TCP_WND (44 * TCP_MSS) /* what is held back of it fits into one chain of pbufs: 65,535 bytes */
#define TCP_SND_BUF (132 * TCP_MSS) /* three long frames of 44 segments (sending.c) */
#define TCP_SNDLOWAT (8 * TCP_MSS)
#define TCP_SND_QUEUELEN 400
#define TCP_OOSEQ_MAX_PBUFS 64
#define MEMP_NUM_MLD6_GROUP 8
#define ARP_TABLE_SIZE 64
#define LWIP_ND6_NUM_NEIGHBORS 32
#define LWIP_ND6_NUM_DESTINATIONS 64

#endif
