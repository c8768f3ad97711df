/*
 * Frames from and to the uplinks (packet.h). Those that come are looked at where the kernel put them, and their slots are given back at the end
 * of the turn; those that leave are queued, and leave together: segments of one flow as one long frame, which Linux cuts as late as it can. Both
 * sides leave checksums to whoever can do them, as virtio_net_hdr says it.
 */
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include "segments.h"
#include "switch.h"

#define USELESS_MAX 64u /* frames passed over in one call */
#define TAG_BYTES 4u
#define ADDRESSES_BYTES 12u

struct departure {
    struct network *network;
    struct vif *from;
    struct virtio_net_hdr header;
    uint8_t *frame;
    const uint8_t *mapped;
    size_t length;
    struct segment_run run; /* of the first of several */
    unsigned frames;        /* in the message that begins with it */
    unsigned follows;       /* bytes of headers that are not sent again; 0: it is no further segment of the one before it */
};

static struct departure departures[DEPARTURES_MAX], *firsts[DEPARTURES_MAX];
static struct mmsghdr messages[DEPARTURES_MAX];
static struct iovec parts[3 * DEPARTURES_MAX];
static unsigned departing;

/* ---- in ---- */

static struct tpacket2_hdr *slot_of(const struct network *n, uint32_t slot)
{
    return (struct tpacket2_hdr *)(n->packet.ring + (size_t)(slot % PACKET_SLOTS) * PACKET_SLOT_BYTES);
}

bool uplink_waiting(const struct network *n)
{
    return n->packet.ring && n->held < PACKET_SLOTS && __atomic_load_n(&slot_of(n, n->next)->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER;
}

/* The kernel keeps a VLAN's tag beside the frame: back to where it was, over the header, which was read. */
static uint8_t *put_tag(uint8_t *frame, const struct tpacket2_hdr *h)
{
    const uint16_t type = h->tp_status & TP_STATUS_VLAN_TPID_VALID ? h->tp_vlan_tpid : 0x8100;
    const uint8_t tag[TAG_BYTES] = { (uint8_t)(type >> 8), (uint8_t)type, (uint8_t)(h->tp_vlan_tci >> 8), (uint8_t)h->tp_vlan_tci };
    memmove(frame - TAG_BYTES, frame, ADDRESSES_BYTES);
    memcpy(frame - TAG_BYTES + ADDRESSES_BYTES, tag, TAG_BYTES);
    return frame - TAG_BYTES;
}

/* False when the frame is of no use. */
static bool understand(struct tpacket2_hdr *h, uint8_t **frame, size_t *length, unsigned *checksum)
{
    struct virtio_net_hdr v;
    const size_t tag = h->tp_status & TP_STATUS_VLAN_VALID ? TAG_BYTES : 0;
    if (h->tp_mac < TPACKET2_HDRLEN + sizeof v || (size_t)h->tp_mac + h->tp_snaplen > PACKET_SLOT_BYTES)
        return false;
    if (h->tp_len != h->tp_snaplen || h->tp_len < FRAME_MIN || h->tp_len + tag > FRAME_MAX)
        return false;
    uint8_t *bytes = (uint8_t *)h + h->tp_mac;
    memcpy(&v, bytes - sizeof v, sizeof v);
    if (v.gso_type != VIRTIO_NET_HDR_GSO_NONE)
        return false;
    if (tag) {
        bytes = put_tag(bytes, h);
        v.csum_start = (uint16_t)(v.csum_start + tag);
    }
    *frame = bytes;
    *length = h->tp_len + tag;
    *checksum = v.flags & VIRTIO_NET_HDR_F_DATA_VALID ? CHECKSUM_VALID : 0;
    if (v.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        uint16_t start, offset;
        *checksum = CHECKSUM_VALID;
        /* A guest knows blank sums of TCP and UDP right behind the first header; others are finished for it. */
        if (frame_checksum_place(bytes, *length, &start, &offset) && start == v.csum_start && offset == v.csum_offset)
            *checksum |= CHECKSUM_BLANK;
        else
            return frame_checksum_finish(bytes, *length, v.csum_start, v.csum_offset);
    }
    return true;
}

bool uplink_take(struct network *n, uint8_t **frame, size_t *length, unsigned *checksum)
{
    for (unsigned tries = 0; tries < USELESS_MAX && uplink_waiting(n); tries++) {
        struct tpacket2_hdr *h = slot_of(n, n->next);
        n->next = (n->next + 1) % PACKET_SLOTS;
        n->held++;
        if (understand(h, frame, length, checksum))
            return true;
        totals.dropped++;
    }
    return false;
}

void uplinks_give_back(void)
{
    for (unsigned i = 0; i < networks_count; i++) {
        struct network *n = &networks[i];
        for (; n->held; n->held--)
            __atomic_store_n(&slot_of(n, n->next + PACKET_SLOTS - n->held)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    }
}

/* ---- out ---- */

bool uplink_queue(struct network *n, struct vif *from, uint8_t *frame, const uint8_t *mapped, size_t length, unsigned checksum)
{
    if (n->packet.fd < 0 || departing == DEPARTURES_MAX)
        return false;
    struct departure *d = &departures[departing], *first = n->continued;
    const bool blank = checksum & CHECKSUM_BLANK;
    *d = (struct departure){ .network = n, .from = from, .frame = frame, .mapped = mapped, .length = length };
    if (first && first->from == from && segments_follow(&first->run, frame, length, blank ? SHOAL_NET_CSUM_BLANK : 0)) {
        d->follows = first->run.head;
    } else {
        if (blank) {
            uint16_t start, offset;
            if (!frame_checksum_place(frame, length, &start, &offset))
                return false;
            frame_checksum_begin(frame, length, start, offset);
            d->header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
            d->header.csum_start = start;
            d->header.csum_offset = offset;
        }
        segments_begin(&d->run, frame, length, blank ? SHOAL_NET_CSUM_BLANK : 0);
        n->continued = d;
    }
    departing++;
    n->departing++;
    return true;
}

/* A message that did not leave: all its frames are lost. */
static void lose(unsigned from, unsigned until)
{
    for (unsigned i = from; i < until; i++) {
        const unsigned frames = firsts[i]->frames;
        totals.dropped += frames;
        if (firsts[i]->from)
            firsts[i]->from->record->counters.tx_dropped += frames;
    }
}

/* The parts that it takes. The head leaves as it was looked at, what follows may come from where its sender has it. */
static unsigned begin_message(struct departure *d, struct mmsghdr *m, struct iovec *part)
{
    const size_t head = d->mapped ? FRAME_HEAD : d->length;
    if (d->run.length > d->length) {
        segments_finish(&d->run);
        d->header.gso_type = d->run.tcp == 54 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
        d->header.hdr_len = d->run.head;
        d->header.gso_size = d->run.each;
    }
    part[0] = (struct iovec){ &d->header, sizeof d->header };
    part[1] = (struct iovec){ d->frame, head };
    unsigned count = 2;
    if (d->mapped)
        part[count++] = (struct iovec){ (uint8_t *)(uintptr_t)d->mapped + head, d->length - head };
    *m = (struct mmsghdr){ .msg_hdr = { .msg_iov = part, .msg_iovlen = count } };
    d->frames = 1;
    return count;
}

static void send_all(struct network *n)
{
    unsigned count = 0, at = 0, used = 0;
    n->continued = NULL;
    for (unsigned i = 0; i < departing && n->departing; i++) {
        struct departure *d = &departures[i];
        if (d->network != n)
            continue;
        n->departing--;
        if (d->follows) {
            parts[used++] = (struct iovec){ (d->mapped ? (uint8_t *)(uintptr_t)d->mapped : d->frame) + d->follows, d->length - d->follows };
            messages[count - 1].msg_hdr.msg_iovlen++;
            firsts[count - 1]->frames++;
            continue;
        }
        firsts[count] = d;
        used += begin_message(d, &messages[count++], &parts[used]);
    }
    /* Each call sends one or loses one. */
    while (at < count) {
        int sent = sendmmsg(n->packet.fd, messages + at, count - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        totals.sends++;
        if (sent > 0) {
            at += (unsigned)sent;
            continue;
        }
        /* A frame that Linux refuses is lost alone; where there is no room, or no interface, all that are left are. */
        bool alone = sent < 0 && (errno == EINVAL || errno == EMSGSIZE || errno == ENOBUFS || errno == EINTR);
        unsigned until = alone ? at + 1 : count;
        lose(at, until);
        at = until;
    }
}

void uplinks_send(void)
{
    for (unsigned i = 0; i < networks_count; i++)
        if (networks[i].departing)
            send_all(&networks[i]);
    departing = 0;
}
