/*
 * The way out of a network as Linux makes it: a veth pair with one end on the bridge, and a packet socket on the other. The other end is alone
 * in a network namespace that nothing but the socket keeps: no stack there answers what is meant for guests, and when the process ends, however
 * it ends, socket, namespace and both ends go.
 *
 * Functions give 0 or an errno value.
 */
#ifndef SWITCH_PACKET_H
#define SWITCH_PACKET_H
#include <stdint.h>

#define PACKET_SLOTS 512u      /* frames that wait for us; what comes when all are full is dropped by the kernel before it is copied */
#define PACKET_SLOT_BYTES 2048u /* two a page, so that no frame crosses one */

struct packet {
    int fd, guard;  /* -1: none; guard: says to other switches that the interface is in use */
    uint8_t *ring;  /* PACKET_SLOTS slots of TPACKET_V2, a virtio_net_hdr before each frame */
};
/* EBUSY: another switch has the interface, or it is not of the kind that we make; ENODEV: no such bridge. */
int packet_open(struct packet *p, const char *interface, const char *bridge);
int packet_join(const char *interface, const char *bridge); /* again is well */
void packet_close(struct packet *p, const char *interface);
uint32_t packet_lost(const struct packet *p); /* frames that found the ring full, since it was last asked */

#endif
