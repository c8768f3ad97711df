/*
 * lwIP for guests of a MiB: one thread, no operating system, memory from the guest's heap as it is needed instead of pools.
 * What is off here is missing when an application links against it.
 */
#ifndef LWIPOPTS_H
#define LWIPOPTS_H

#include "shoal.h"

/* An application with a lwIP of its own (Makefile: own_lwip) says there what differs. */
#ifdef LWIP_OWN_OPTIONS
#include "lwipopts_own.h"
#endif

/* One thread; time comes from kernel/ip_timers.c, which wakes the guest only when something is due. */
#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_TIMERS 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0
#define LWIP_STATS 0
#define LWIP_NETIF_LOOPBACK 0
#define LWIP_HAVE_LOOPIF 0

/* Memory: the guest's allocator bounds it. */
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 16
void *ip_calloc(size_t count, size_t size_bytes);
#define mem_clib_malloc shoal_alloc
#define mem_clib_free shoal_free
#define mem_clib_calloc ip_calloc

/* Protocols. */
#define LWIP_IPV4 1
#ifndef LWIP_IPV6
#define LWIP_IPV6 0
#endif
#define LWIP_ARP 1
#ifndef ARP_TABLE_SIZE
#define ARP_TABLE_SIZE 16
#endif
#define ARP_QUEUEING 0
#define LWIP_ICMP 1
#define LWIP_IGMP 0
#define LWIP_RAW 0
#define LWIP_UDP 1
#define LWIP_TCP 1
#define LWIP_DHCP 1
#define DHCP_DOES_ARP_CHECK 0
#define LWIP_DNS 0
#define LWIP_NETIF_HOSTNAME 1
#define LWIP_NETIF_STATUS_CALLBACK 1
#define IP_REASSEMBLY 1
#define IP_REASS_MAX_PBUFS 16
#define IP_FRAG 1
#define IP_DEFAULT_TTL 64

/* TCP: windows of eight segments; held-back segments bounded, so that a peer cannot make a guest keep much. */
#define TCP_MSS 1460
#ifndef TCP_WND
#define TCP_WND (8 * TCP_MSS)
#endif
#ifndef TCP_SND_BUF
#define TCP_SND_BUF (8 * TCP_MSS)
#endif
#ifndef TCP_SND_QUEUELEN
#define TCP_SND_QUEUELEN 32
#endif
#define TCP_QUEUE_OOSEQ 1
#ifndef TCP_OOSEQ_MAX_PBUFS
#define TCP_OOSEQ_MAX_PBUFS 8
#endif
#define TCP_LISTEN_BACKLOG 1
#define TCP_MSL 2000UL /* milliseconds; TIME_WAIT is twice that */
#define LWIP_TCP_KEEPALIVE 1

/* Checksums: made in software; verified unless the device says that it was done (SHOAL_NET_CSUM_VALID), frame by frame. */
#define LWIP_CHECKSUM_CTRL_PER_NETIF 1
#define LWIP_CHKSUM_ALGORITHM 3

/* Sequence numbers nobody can guess (RFC 6528). */
#include "lwip/ip_addr.h"
uint32_t ip_tcp_sequence(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote, uint16_t remote_port);
#define LWIP_HOOK_TCP_ISN(local, local_port, remote, remote_port) ip_tcp_sequence(local, local_port, remote, remote_port)

#if LWIP_IPV6
/* A router that the command line names (ip.c). */
const ip6_addr_t *ip_gateway6(void);
#define LWIP_HOOK_ND6_GET_GW(netif, destination) ip_gateway6()
#endif

#endif
