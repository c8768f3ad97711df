/*
 * Datagrams to one address, many in a system call: the kernel cuts a buffer into datagrams of one size (UDP_SEGMENT, Linux 4.18), so that the way
 * through its layers is gone once for up to 64 of them. IPv4, unicast and multicast. Every call returns -1 and fills `failure` when it fails;
 * none blocks but udp_wait().
 */
#ifndef SHOAL_UDP_H
#define SHOAL_UDP_H

#include <stddef.h>
#include <stdint.h>

#include "failure.h"

enum {
  UDP_MOST_SEGMENTS = 64, /* of one send; the kernel's own bound */
  UDP_MOST_BYTES = 65507, /* of one send: the payload of the largest datagram */
};

struct udp_options {
  uint32_t local;      /* network order; 0: any */
  uint32_t to;         /* network order */
  uint16_t port;       /* host order */
  uint32_t interface;  /* network order, of the interface multicast leaves by; 0: as routed */
  int ttl;             /* of multicast, 0..255 */
  int loop;            /* whether this machine hears its own multicast */
  int send_buffer;     /* bytes; 0: the kernel's */
};

struct udp {
  int fd;
  int segments; /* whether the kernel cuts; else it is done here, datagram by datagram */
};

int udp_open(struct udp *udp, const struct udp_options *options, struct failure *failure);
void udp_close(struct udp *udp);
/*
 * Sends `bytes` as datagrams of `segment` bytes, the last one maybe shorter, without waiting. Returns how many bytes were taken, always at a
 * datagram's end: fewer than all when the socket's buffer is full (ENOBUFS of a full device queue counts as that).
 */
int64_t udp_send(struct udp *udp, const uint8_t *bytes, size_t length, uint16_t segment, struct failure *failure);
/* Waits until the socket takes more: 1, or 0 after `timeout_ms`. For another thread. */
int udp_wait(int fd, int timeout_ms, struct failure *failure);

#endif
