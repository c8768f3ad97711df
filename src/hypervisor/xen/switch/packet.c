/*
 * See packet.h; packet(7) and Documentation/networking/packet_mmap.rst have the formats. Frames come in by a ring: one is there as soon as its
 * status says so, without a system call. They go out by sendmmsg, which copies: a ring for sending lends its pages to the kernel, and gets them
 * back when a socket of dom0 takes the frame, not when that socket has been read.
 */
#include "packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "../native/netlink.h"

#define RING_BYTES (PACKET_SLOTS * PACKET_SLOT_BYTES)
#define SEND_BYTES (1 << 20) /* on their way out at most */
#define BLOCK_BYTES 4096u    /* a page each: the kernel need not find pages that lie together */
#define TRIES 3

static const char inside[] = "uplink";

static void close_if_open(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* A name that only one process can have, and that nobody has once it ended. */
static int take_guard(int *guard, const char *interface)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int length = snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "shoal-uplink/%s", interface);
    *guard = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (*guard < 0)
        return errno;
    if (!bind(*guard, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)))
        return 0;
    return errno == EADDRINUSE ? EBUSY : errno;
}

/* A packet socket in a namespace of its own, and a descriptor of that namespace. We are back in ours at the end. */
static int open_away(int *fd, int *space)
{
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0)
        return errno;
    if (unshare(CLONE_NEWNET)) {
        int error = errno;
        close(home);
        return error;
    }
    *space = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    *fd = *space < 0 ? -1 : socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = *fd < 0 ? errno : 0;
    /* So that it says nothing of its own. Where there is no IPv6 there is no such file. */
    int silence = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (silence >= 0 && write(silence, "1", 1) != 1)
        error = error ? error : errno;
    close_if_open(&silence);
    if (setns(home, CLONE_NEWNET))
        abort(); /* nothing would be found from here */
    close(home);
    return error;
}

static int netlink_do(struct batch *batch)
{
    struct failure failure = { 0 };
    int handle = netlink_open(&failure);
    if (handle < 0)
        return failure.error;
    int failed = netlink_send(handle, batch, &failure);
    close(handle);
    return failed ? failure.error : 0;
}

static int forget_pair(const char *interface)
{
    static struct batch batch;
    const struct ifinfomsg any = { .ifi_family = AF_UNSPEC };
    batch_reset(&batch);
    batch_message(&batch, "forget pair", RTM_DELLINK, 0, &any, sizeof any);
    batch_text(&batch, IFLA_IFNAME, interface);
    return netlink_do(&batch);
}

static int make_pair(const char *interface, int space)
{
    /* Higher than any other: a bridge takes the lowest address of its ports, and loses its neighbours when that changes. */
    static const uint8_t highest[6] = { 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff };
    static struct batch batch;
    const struct ifinfomsg any = { .ifi_family = AF_UNSPEC };
    batch_reset(&batch);
    batch_message(&batch, "make pair", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &any, sizeof any);
    batch_text(&batch, IFLA_IFNAME, interface);
    batch_attribute(&batch, IFLA_ADDRESS, highest, sizeof highest);
    /* Larger ones are cut before they come to us: guests take frames, not segments to be. */
    batch_u32(&batch, IFLA_GSO_MAX_SEGS, 1);
    uint32_t info = batch_open(&batch, IFLA_LINKINFO);
    batch_text(&batch, IFLA_INFO_KIND, "veth");
    uint32_t data = batch_open(&batch, IFLA_INFO_DATA);
    uint32_t peer = batch_open(&batch, VETH_INFO_PEER);
    /* The peer's own fixed part, which says nothing either, stands where attributes begin. */
    memset(batch.bytes + batch.length, 0, sizeof any);
    batch.length += sizeof any;
    batch_text(&batch, IFLA_IFNAME, inside);
    batch_u32(&batch, IFLA_NET_NS_FD, (uint32_t)space);
    batch_close(&batch, peer);
    batch_close(&batch, data);
    batch_close(&batch, info);
    return netlink_do(&batch);
}

static bool is_pair(int control, const char *interface)
{
    struct ethtool_drvinfo driver = { .cmd = ETHTOOL_GDRVINFO };
    struct ifreq r = { .ifr_data = (char *)&driver };
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", interface);
    return ioctl(control, SIOCETHTOOL, &r) == 0 && !strcmp(driver.driver, "veth");
}

/* The last switch's pair may be there for a moment after its end. */
static int make_pair_anew(int control, const char *interface, int space)
{
    int error = EEXIST;
    for (int i = 0; i < TRIES && error == EEXIST; i++) {
        if (i > 0) {
            if (if_nametoindex(interface) && !is_pair(control, interface))
                return EBUSY;
            error = forget_pair(interface);
            if (error)
                return error;
        }
        error = make_pair(interface, space);
    }
    return error == EEXIST ? EBUSY : error;
}

/*
 * What a NIC has put together comes without a count of its segments, so that the limit above does not see it: the interface must not be
 * one that could send segments to be at all.
 */
static bool cut_segments(int control, const char *interface)
{
    struct ethtool_value off = { .cmd = ETHTOOL_STSO };
    struct ifreq r = { .ifr_data = (char *)&off };
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", interface);
    return ioctl(control, SIOCETHTOOL, &r) == 0;
}

static bool set(int fd, int option, int value)
{
    return setsockopt(fd, SOL_PACKET, option, &value, sizeof value) == 0;
}

static int begin(struct packet *p)
{
    struct ifreq r = { 0 };
    const struct tpacket_req ring = { .tp_block_size = BLOCK_BYTES, .tp_block_nr = RING_BYTES / BLOCK_BYTES,
                                      .tp_frame_size = PACKET_SLOT_BYTES, .tp_frame_nr = PACKET_SLOTS };
    const int send_bytes = SEND_BYTES;
    memcpy(r.ifr_name, inside, sizeof inside);
    if (ioctl(p->fd, SIOCGIFINDEX, &r) || !set(p->fd, PACKET_VERSION, TPACKET_V2) || !set(p->fd, PACKET_VNET_HDR, 1) ||
        !set(p->fd, PACKET_QDISC_BYPASS, 1) || !set(p->fd, PACKET_IGNORE_OUTGOING, 1) ||
        setsockopt(p->fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_bytes, sizeof send_bytes) ||
        setsockopt(p->fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring))
        return errno;
    void *mapped = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, p->fd, 0);
    if (mapped == MAP_FAILED)
        return errno;
    p->ring = mapped;
    const struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = r.ifr_ifindex };
    return bind(p->fd, (const struct sockaddr *)&a, sizeof a) ? errno : 0;
}

static bool raise_link(int fd, const char *interface, short flags)
{
    struct ifreq r = { 0 };
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", interface);
    if (ioctl(fd, SIOCGIFFLAGS, &r))
        return false;
    r.ifr_flags |= (short)(IFF_UP | flags);
    return ioctl(fd, SIOCSIFFLAGS, &r) == 0;
}

static int join(int control, const char *interface, const char *bridge)
{
    struct ifreq r = { .ifr_ifindex = (int)if_nametoindex(interface) };
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", bridge);
    return ioctl(control, SIOCBRADDIF, &r) == 0 || errno == EBUSY ? 0 : errno; /* EBUSY: it is a port already */
}

int packet_join(const char *interface, const char *bridge)
{
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int error = control < 0 ? errno : join(control, interface, bridge);
    close_if_open(&control);
    return error;
}

int packet_open(struct packet *p, const char *interface, const char *bridge)
{
    int space = -1, control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    *p = (struct packet){ .fd = -1, .guard = -1 };
    int error = control < 0 ? errno : if_nametoindex(bridge) ? take_guard(&p->guard, interface) : ENODEV;
    bool ours = !error;
    if (!error)
        error = open_away(&p->fd, &space);
    if (!error)
        error = make_pair_anew(control, interface, space);
    if (!error && (!cut_segments(control, interface) || !raise_link(p->fd, inside, IFF_NOARP) || !raise_link(control, interface, 0)))
        error = errno;
    if (!error)
        error = begin(p);
    if (!error)
        error = join(control, interface, bridge);
    close_if_open(&control);
    close_if_open(&space);
    if (error && ours)
        packet_close(p, interface);
    else if (error)
        close_if_open(&p->guard);
    return error;
}

void packet_close(struct packet *p, const char *interface)
{
    /* What is not ours is left alone; what is goes with the socket, too, but some time later. */
    if (p->ring) {
        munmap(p->ring, RING_BYTES);
        forget_pair(interface);
    }
    p->ring = NULL;
    close_if_open(&p->fd);
    close_if_open(&p->guard);
}

uint32_t packet_lost(const struct packet *p)
{
    struct tpacket_stats s;
    socklen_t length = sizeof s;
    return p->fd >= 0 && !getsockopt(p->fd, SOL_PACKET, PACKET_STATISTICS, &s, &length) ? s.tp_drops : 0;
}
