/*
 * Networks and their way out: a TAP on the network's bridge, with checksums left to whoever can do them (IFF_VNET_HDR). It lives as long
 * as the process; the next switch makes it anew under the same name. A network whose bridge is missing keeps its guests together and
 * waits to be asked for again.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "switch.h"

#define USELESS_MAX 64 /* frames passed over in one call */

struct network networks[NETWORKS_MAX];

static bool set_up(int tap, int control, const struct network_record *n)
{
    /* Higher than any other: a bridge takes the lowest address of its ports, and loses its neighbours when that changes. */
    static const unsigned char highest[6] = { 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff };
    struct ifreq r = { 0 };
    memcpy(r.ifr_name, n->interface, sizeof r.ifr_name);
    r.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (ioctl(tap, TUNSETIFF, &r) || ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM))
        return false;
    r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(r.ifr_hwaddr.sa_data, highest, sizeof highest);
    if (ioctl(control, SIOCSIFHWADDR, &r) || ioctl(control, SIOCGIFFLAGS, &r))
        return false;
    r.ifr_flags |= IFF_UP;
    return ioctl(control, SIOCSIFFLAGS, &r) == 0;
}

static bool join(int control, const struct network_record *n)
{
    struct ifreq r = { .ifr_ifindex = (int)if_nametoindex(n->interface) };
    memcpy(r.ifr_name, n->bridge, sizeof r.ifr_name);
    return ioctl(control, SIOCBRADDIF, &r) == 0 || errno == EBUSY; /* EBUSY: it is a port already */
}

static int open_tap(struct network_record *n, int *error)
{
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    bool well = control >= 0 && tap >= 0 && set_up(tap, control, n) && join(control, n);
    *error = well ? 0 : errno;
    if (control >= 0)
        close(control);
    if (well)
        return tap;
    if (tap >= 0)
        close(tap);
    return -1;
}

int (*uplink_opener)(struct network_record *n, int *error) = open_tap;

void networks_init(void)
{
    for (unsigned i = 0; i < NETWORKS_MAX; i++) {
        networks[i] = (struct network){ .index = i, .fd = -1, .record = state_network(i) };
        networks[i].flood = (struct link){ &networks[i].flood, &networks[i].flood };
    }
}

struct network *network_find(const char *name)
{
    for (unsigned i = 0; i < NETWORKS_MAX; i++)
        if (networks[i].record->used && !strcmp(networks[i].record->name, name))
            return &networks[i];
    return NULL;
}

static bool interface_taken(const char *interface)
{
    for (unsigned i = 0; i < NETWORKS_MAX; i++)
        if (networks[i].record->used && !strcmp(networks[i].record->interface, interface))
            return true;
    return false;
}

/* shoal-NAME, cut; where two networks begin alike, the end is of the hash of the whole. */
static void name_interface(struct network_record *r, const char *name)
{
    uint32_t hash = 2166136261u;
    snprintf(r->interface, sizeof r->interface, "shoal-%.9s", name);
    for (const char *c = name; *c; c++)
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    if (interface_taken(r->interface))
        snprintf(r->interface, sizeof r->interface, "shoal-%.4s%05x", name, hash & 0xfffff);
}

static void lose_uplink(struct network *n)
{
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
    n->readable = false;
}

static int open_uplink(struct network *n)
{
    int error = 0;
    n->fd = uplink_opener(n->record, &error);
    if (n->fd < 0)
        return error ? error : EIO;
    if (wait_for(n->fd, EPOLLIN, WAIT_UPLINK, n->index)) {
        error = errno;
        lose_uplink(n);
    }
    return error;
}

/* One that is there is put on its bridge again: somebody may have made the bridge anew. */
static int rejoin(struct network *n)
{
    if (uplink_opener != open_tap)
        return 0;
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int error = control >= 0 && join(control, n->record) ? 0 : errno;
    if (control >= 0)
        close(control);
    return error;
}

int network_add(const char *name, const char *bridge, struct network **found)
{
    struct network *n = network_find(name);
    if (n) {
        *found = n;
        if (strcmp(n->record->bridge, bridge))
            return EEXIST;
        return n->fd < 0 ? open_uplink(n) : rejoin(n);
    }
    for (unsigned i = 0; i < NETWORKS_MAX && !n; i++)
        if (!networks[i].record->used)
            n = &networks[i];
    if (!n)
        return ENOSPC;
    struct network_record fresh = { 0 };
    snprintf(fresh.name, sizeof fresh.name, "%s", name);
    snprintf(fresh.bridge, sizeof fresh.bridge, "%s", bridge);
    name_interface(&fresh, name);
    *n->record = fresh;
    int error = open_uplink(n);
    if (error)
        return error;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    n->record->used = 1;
    *found = n;
    return 0;
}

void network_resume(unsigned index)
{
    struct network *n = &networks[index];
    struct network_record *r = n->record;
    if (!r->used)
        return;
    r->name[sizeof r->name - 1] = r->bridge[sizeof r->bridge - 1] = r->interface[sizeof r->interface - 1] = 0;
    int error = open_uplink(n);
    if (error)
        fprintf(stderr, "shoal-switch: network %s has no uplink: %s on %s: %s\n", r->name, r->interface, r->bridge, strerror(error));
}

void networks_close(void)
{
    for (unsigned i = 0; i < NETWORKS_MAX; i++)
        lose_uplink(&networks[i]);
}

bool uplink_write(struct network *n, uint8_t *frame, size_t length, unsigned checksum)
{
    struct virtio_net_hdr h = { 0 };
    if (n->fd < 0)
        return false;
    if (checksum & CHECKSUM_BLANK) {
        uint16_t start, offset;
        if (!frame_checksum_place(frame, length, &start, &offset))
            return false;
        frame_checksum_begin(frame, length, start, offset);
        h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        h.csum_start = start;
        h.csum_offset = offset;
    }
    struct iovec v[2] = { { &h, sizeof h }, { frame, length } };
    return writev(n->fd, v, 2) == (ssize_t)(sizeof h + length);
}

size_t uplink_read(struct network *n, uint8_t *frame, unsigned *checksum)
{
    for (int tries = 0; tries < USELESS_MAX; tries++) {
        struct virtio_net_hdr h;
        struct iovec v[2] = { { &h, sizeof h }, { frame, FRAME_MAX + 1 } };
        ssize_t got = n->fd < 0 ? -1 : readv(n->fd, v, 2);
        if (got < 0) {
            /* EBADFD: somebody took the interface away. */
            if (n->fd >= 0 && errno != EAGAIN && errno != EINTR) {
                fprintf(stderr, "shoal-switch: network %s lost its uplink: %s\n", n->record->name, strerror(errno));
                lose_uplink(n);
            }
            return 0;
        }
        size_t length = (size_t)got - sizeof h;
        if ((size_t)got < sizeof h + FRAME_MIN || length > FRAME_MAX || h.gso_type != VIRTIO_NET_HDR_GSO_NONE)
            continue;
        *checksum = h.flags & VIRTIO_NET_HDR_F_DATA_VALID ? CHECKSUM_VALID : 0;
        if (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
            uint16_t start, offset;
            *checksum = CHECKSUM_VALID;
            /* A guest knows blank sums of TCP and UDP right behind the first header; others are finished for it. */
            if (frame_checksum_place(frame, length, &start, &offset) && start == h.csum_start && offset == h.csum_offset)
                *checksum |= CHECKSUM_BLANK;
            else if (!frame_checksum_finish(frame, length, h.csum_start, h.csum_offset))
                continue;
        }
        return length;
    }
    return 0;
}
