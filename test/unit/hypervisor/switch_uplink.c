/* Frames from and to outside, as the kernel's ring shows them; and what a turn costs in calls. */
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "switch_fake.h"

static uint8_t sent[2048], got[OUTSIDE_MAX], header[10];
static uint16_t flags;

static unsigned count_received(unsigned g)
{
    unsigned count = 0;
    while (guest_receive(g, got, &flags))
        count++;
    return count;
}

/* RFC 1071 over the datagram of a frame whose IPv4 header is at `at`: 0 when the sum in it is right. */
static uint16_t udp_sum(const uint8_t *frame, size_t at, size_t length)
{
    uint32_t s = 17 + (uint32_t)(length - at - 20);
    for (size_t i = at + 12; i < length; i += 2)
        s += (uint32_t)frame[i] << 8 | (i + 1 < length ? frame[i + 1] : 0);
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)~s;
}

static bool has_tag(const uint8_t *frame, size_t length, unsigned type, unsigned tag)
{
    const uint8_t bytes[4] = { (uint8_t)(type >> 8), (uint8_t)type, (uint8_t)(tag >> 8), (uint8_t)tag };
    return !memcmp(frame, sent, 12) && !memcmp(frame + 12, bytes, 4) && !memcmp(frame + 16, sent + 12, length - 12);
}

static void tags(void)
{
    const uint8_t blank[10] = { 1, 0, 0, 0, 0, 0, 34, 0, 6, 0 };
    fresh(3);
    make_udp(sent, 0, 3, 9, 100);
    outside_put(NULL, sent, 100, 100, TP_STATUS_VLAN_VALID, 0x2005, 0x88a8);
    outside_put(NULL, sent, 100, 100, TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID, 7, 0x88a8);
    outside_put(NULL, sent, 1510, 1510, TP_STATUS_VLAN_VALID, 7, 0);
    outside_put(NULL, sent, 1511, 1511, TP_STATUS_VLAN_VALID, 7, 0);
    steps(2);
    check(guest_receive(3, got, &flags) == 104 && has_tag(got, 100, 0x8100, 0x2005), "a VLAN's tag is put back where it was, priority and all");
    check(guest_receive(3, got, &flags) == 104 && has_tag(got, 100, 0x88a8, 7), "of the type that the kernel says");
    check(guest_receive(3, got, &flags) == 1514 && !guest_receive(3, got, &flags), "and a frame that has no room for it is dropped");
    make_udp(sent, 0, 3, 9, 101);
    sent[40] = 0x14; /* the pseudo header of 10.0.0.0 and 10.0.0.3 */
    sent[41] = 3 + 17 + 101 - 34;
    outside_put(blank, sent, 101, 101, TP_STATUS_VLAN_VALID, 5, 0);
    steps(2);
    check(guest_receive(3, got, &flags) == 105 && flags == NETRXF_data_validated && udp_sum(got, 18, 105) == 0, "a blank sum behind a tag is finished, at its place");
}

static void useless(void)
{
    const uint8_t segments[10] = { 1, 3, 0, 0, 0, 4, 34, 0, 6, 0 }, beyond[10] = { 1, 0, 0, 0, 0, 0, 90, 0, 16, 0 };
    fresh(3);
    make_udp(sent, 0, 3, 1, 1600);
    outside_put(NULL, sent, 100, 200, 0, 0, 0);
    outside_put(NULL, sent, 13, 13, 0, 0, 0);
    outside_put(NULL, sent, 1515, 1515, 0, 0, 0);
    outside_put(segments, sent, 1000, 1000, 0, 0, 0);
    outside_put(beyond, sent, 100, 100, 0, 0, 0);
    outside_send(NULL, sent, make_udp(sent, 0, 3, 2, 60));
    steps(2);
    check(guest_receive(3, got, &flags) == 60 && count_received(3) == 0, "cut, short, long, in segments, with a sum outside: passed over, and what follows arrives");
    check(totals.dropped == 5, "all counted (%lu)", totals.dropped);
    unsigned put = 0;
    while (outside_put(NULL, sent, 13, 13, 0, 0, 0))
        put++;
    check(put == PACKET_SLOTS, "a ring holds %u", put);
    steps(12);
    check(outside_send(NULL, sent, make_udp(sent, 0, 3, 3, 60)), "and is given back when it was full of nothing of use");
    steps(2);
    check(count_received(3) == 1, "and goes on");
}

static void ring(void)
{
    unsigned came = 0, went = 0, wrong = 0;
    fresh(3);
    for (unsigned i = 0; i < 1000 && went < 5000; i++) {
        while (went < 5000 && outside_send(NULL, sent, make_udp(sent, 0, 3, went, 60 + went % 1400)))
            went++;
        steps(1);
        for (size_t length; (length = guest_receive(3, got, NULL));) {
            make_udp(sent, 0, 3, came, 60 + came % 1400);
            wrong += length != 60 + came % 1400 || memcmp(got, sent, length);
            came++;
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        steps(1);
        while (guest_receive(3, got, NULL))
            came++;
    }
    check(came == 5000 && wrong == 0, "5,000 frames from outside, many rings full, arrive in order and unchanged (%u)", came);
}

static void departures(void)
{
    unsigned came = 0;
    fresh(3);
    uint64_t sends = totals.sends;
    for (uint32_t i = 0; i < 100; i++)
        guest_send(1, sent, make_udp(sent, 1, 0, i, 60 + i), 0);
    for (unsigned i = 0; i < 100; i++)
        outside_send(NULL, sent, make_arp(sent, 0, 100, 3));
    steps(1);
    check(totals.sends == sends + 1, "all that leaves in a turn leaves by one call");
    unsigned answers = 0;
    for (unsigned i = 0; i < 100; i++)
        answers += outside_receive(header, got) == 42 && got[21] == 2;
    for (uint32_t i = 0; i < 100; i++) {
        make_udp(sent, 1, 0, i, 60 + i);
        came += outside_receive(header, got) == 60 + i && !memcmp(sent, got, 60 + i);
    }
    check(came == 100 && answers == 100, "in order and unchanged, and the answers to ARP with it (%u, %u)", came, answers);
    /* Nobody reads outside. */
    uint32_t went = 0;
    for (unsigned i = 0; i < 20; i++) {
        while (guest_send(1, sent, make_udp(sent, 1, 0, went, 1000), 0))
            went++;
        steps(1);
    }
    steps(1);
    guest_reap(1);
    came = 0;
    while (outside_receive(header, got))
        came++;
    unsigned long dropped = vif_find(1, 0)->record->counters.tx_dropped;
    check(came > 0 && dropped > 0 && came + dropped == went, "what finds no room outside is dropped and counted (%u of %u left)", came, went);
    check(world->guests[1].statuses[2] == 100 + went, "and answered all the same");
    guest_send(1, sent, make_udp(sent, 1, 0, 1, 60), 0);
    steps(2);
    check(outside_receive(header, got) == 60, "with room again it goes on");
}

/* A TCP segment of guest `from` to somebody outside; its sum is left blank. */
static size_t make_segment(uint8_t *frame, unsigned from, uint32_t sequence, size_t data)
{
    make_udp(frame, from, 0, 0, 54 + data);
    frame[16] = (uint8_t)((40 + data) >> 8);
    frame[17] = (uint8_t)(40 + data);
    frame[23] = 6;
    memset(frame + 34, 0, 20);
    frame[35] = 80;
    for (unsigned i = 0; i < 4; i++)
        frame[38 + i] = (uint8_t)(sequence >> (24 - 8 * i));
    frame[46] = 0x50;
    frame[47] = 16;
    for (size_t i = 0; i < data; i++)
        frame[54 + i] = (uint8_t)((sequence + i) / 7);
    return 54 + data;
}

static bool is_whole(const uint8_t *frame, uint32_t sequence, size_t data)
{
    uint32_t s = 0;
    bool well = ((size_t)frame[16] << 8 | frame[17]) == 40 + data;
    for (unsigned i = 14; i < 34; i += 2)
        s += (uint32_t)(frame[i] << 8 | frame[i + 1]);
    for (size_t i = 0; i < data; i++)
        well = well && frame[54 + i] == (uint8_t)((sequence + i) / 7);
    return well && (s & 0xffff) + (s >> 16) == 0xffff;
}

/* So much passes that its buffers are mapped from then on. */
static void make_busy(unsigned g)
{
    for (uint32_t i = 0; i < 4000; i++) {
        guest_send(g, sent, make_udp(sent, g, 3, i, 60), 0);
        if (i % 32 == 31)
            steps(1), count_received(3);
    }
    for (unsigned i = 0; i < 20; i++)
        steps(1), count_received(3);
    guest_reap(g);
}

/* Of guests that are busy only heads are copied: the rest leaves from where it lies. */
static void segments(bool busy)
{
    const uint16_t blank = NETTXF_csum_blank | NETTXF_data_validated;
    struct virtio_net_hdr h;
    fresh(3);
    for (unsigned g = 2; busy && g >= 1; g--)
        make_busy(g);
    const uint64_t copied = calls.segments, earlier = vif_find(1, 0)->record->counters.tx_frames;
    for (uint32_t i = 0; i < 5; i++) {
        guest_send(1, sent, make_segment(sent, 1, 1000 + 1400 * i, i == 4 ? 99 : 1400), blank);
        guest_send(2, sent, make_segment(sent, 2, 1000 + 1400 * i, 1400), i == 2 ? 0 : blank);
    }
    steps(1);
    size_t length = outside_receive(header, got);
    memcpy(&h, header, sizeof h);
    check(length == 54 + 4 * 1400 + 99 && is_whole(got, 1000, 4 * 1400 + 99), "segments of a flow leave as one frame, all bytes in their order (%zu)", length);
    check(h.flags == VIRTIO_NET_HDR_F_NEEDS_CSUM && h.gso_type == VIRTIO_NET_HDR_GSO_TCPV4 && h.gso_size == 1400 && h.hdr_len == 54 && h.csum_start == 34 && h.csum_offset == 16,
          "and Linux is told how to cut it");
    check(outside_receive(header, got) == 54 + 2 * 1400 && is_whole(got, 1000, 2 * 1400), "another guest's are apart");
    length = outside_receive(header, got);
    memcpy(&h, header, sizeof h);
    check(length == 54 + 1400 && h.gso_type == VIRTIO_NET_HDR_GSO_NONE && h.flags == 0, "one that has its sum leaves alone");
    check(outside_receive(header, got) == 54 + 2 * 1400 && is_whole(got, 1000 + 3 * 1400, 2 * 1400) && !outside_receive(header, got), "and those after it follow it");
    check(vif_find(1, 0)->record->counters.tx_frames == earlier + 5 && vif_find(1, 0)->record->counters.tx_dropped == 0, "each is counted");
    check(calls.segments == copied + (busy ? 0 : 10), "copied by Xen unless they are mapped");
    /* Nobody reads outside: what is lost is counted by frames. */
    uint32_t went = 0;
    for (unsigned i = 0; i < 40; i++) {
        for (unsigned k = 0; k < 30 && guest_send(1, sent, make_segment(sent, 1, 1400 * went, 1400), blank); k++)
            went++;
        steps(1);
    }
    size_t came = 0;
    for (; (length = outside_receive(header, got)); came += (length - 54) / 1400)
        ;
    unsigned long dropped = vif_find(1, 0)->record->counters.tx_dropped;
    check(dropped > 0 && came + dropped == went, "what finds no room is counted by frames (%zu + %lu of %u)", came, dropped, went);
}

/* What is mapped and goes elsewhere than outside is copied as ever. */
static void mapped_elsewhere(void)
{
    static uint8_t file[4096];
    fresh(3);
    make_busy(1);
    make_busy(2);
    guest_send(1, sent, make_udp(sent, 1, 0, 7, 1500), 0);
    guest_send(1, sent, make_udp(sent, 1, 0, 8, 129), 0);
    guest_send(1, sent, make_udp(sent, 1, 0, 9, 128), 0);
    steps(1);
    unsigned well = 0;
    size_t length;
    const size_t lengths[] = { 1500, 129, 128 };
    for (uint32_t i = 0; i < 3; i++) {
        make_udp(sent, 1, 0, 7 + i, lengths[i]);
        well += outside_receive(header, got) == lengths[i] && !memcmp(sent, got, lengths[i]);
    }
    check(well == 3, "frames of all lengths leave whole (%u)", well);
    make_udp(sent, 1, 0, 7, 1500);
    memset(sent, 0xff, 6);
    guest_send(1, sent, 1500, 0);
    steps(1);
    length = outside_receive(header, got);
    check(length == 1500 && !memcmp(sent, got, 1500), "a broadcast, too (%zu)", length);
    check(guest_receive(2, got, NULL) == 1500 && !memcmp(sent, got, 1500), "outside and inside");
    char path[64];
    snprintf(path, sizeof path, "/tmp/shoal-switch-mirror.%u", (unsigned)getpid());
    ask("mirror 1.0 file=%s", path);
    make_udp(sent, 1, 0, 7, 1500);
    memset(sent + 60, 0x11, 1440);
    guest_send(1, sent, 1500, 0);
    steps(1);
    ask("mirror 1.0 off");
    FILE *kept = fopen(path, "r");
    length = kept ? fread(file, 1, sizeof file, kept) : 0;
    if (kept)
        fclose(kept);
    unlink(path);
    check(length == 24 + 16 + 1500 && !memcmp(file + 40, sent, 1500), "a mirror has all of it (%zu)", length);
    check(outside_receive(header, got) == 1500 && !memcmp(sent, got, 1500), "as who it was for");
    ask("hold n 10.0.0.77 ms=5000");
    make_udp(sent, 1, 0, 7, 1500);
    sent[33] = 77;
    memset(sent + 60, 0x22, 1440);
    guest_send(1, sent, 1500, 0);
    steps(1);
    memset(world->guests[1].pages[RING_SLOTS], 0, (GRANTS - RING_SLOTS) * PAGE);
    ask("move n 10.0.0.77 to=3.0");
    guest_send(3, got, make_arp(got, 3, 77, 77), 0);
    steps(3);
    check(guest_receive(3, got, NULL) == 1500 && !memcmp(got + 14, sent + 14, 1486), "and one that waits for its receiver is kept whole");
}

/* What the kernel and Xen are asked for in a turn does not grow with frames, nor with guests. */
static void costs(void)
{
    fresh(GUESTS);
    steps(IDLE_TURNS + 2);
    struct calls before = calls;
    uint64_t sends = totals.sends;
    for (unsigned g = 1; g <= GUESTS; g++)
        for (uint32_t i = 0; i < 30; i++)
            guest_send(g, sent, make_udp(sent, g, i % 2 ? 0 : 1 + g % GUESTS, i, 60), 0);
    steps(1);
    check(totals.sends == sends + 1 && calls.copies == before.copies + 2 && calls.segments == before.segments + 240 + 120,
          "240 frames of %u guests: one call sends, two copy", GUESTS);
    check(calls.notifies == before.notifies + 1 && calls.ports == before.ports + GUESTS, "and one tells them all");
    check(calls.events == before.events + 1 && calls.unmasks == before.unmasks, "their event channels stay silent while they are busy");
    unsigned kicked = 0;
    for (unsigned i = 0; i < 5; i++) {
        world->guests[1].pending = false;
        guest_send(1, sent, make_udp(sent, 1, 2, 0, 60), 0);
        kicked += world->guests[1].pending;
        steps(1);
    }
    check(kicked == 0 && calls.events <= before.events + 6, "a busy guest's frames are found without its telling (%u)", kicked);
    before = calls;
    for (unsigned i = 0; i < IDLE_TURNS + 1; i++) {
        guest_send(2, sent, make_udp(sent, 2, 3, 0, 60), 0);
        steps(1);
    }
    check(guest_tx(1)->req_event == guest_tx(1)->req_prod + 1 && guest_tx(2)->req_event != guest_tx(2)->req_prod + 1,
          "one that is idle while others are not is to tell again");
    check(calls.unmasks > before.unmasks, "and its event channel can");
    switch_step(1);
    switch_step(1);
    check(guest_tx(2)->req_event == guest_tx(2)->req_prod + 1, "before the switch sleeps, all are");
    guest_send(2, sent, make_udp(sent, 2, 3, 77, 60), 0);
    check(world->guests[2].pending, "its next frame tells");
    count_received(3);
    switch_step(1000);
    check(count_received(3) == 1 && frame_number(got) == 77, "and wakes the switch");
}

void test_uplink(void)
{
    tags();
    useless();
    ring();
    departures();
    segments(false);
    segments(true);
    mapped_elsewhere();
    costs();
}
