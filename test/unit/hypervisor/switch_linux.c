/*
 * The uplink as Linux has it: run in a network namespace with a bridge that is 10.0.0.254/24. Guests and Xen are made of memory, all else is
 * real. One process is the switch, its guests and the world outside, so each waits for the other by doing the other's work.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "switch_fake.h"

#define PATIENCE 3000 /* steps of at most a millisecond */

static const struct way *real_way;
static uint8_t sent[2048], got[2048], bridge_mac[6];
static int raw = -1, udp = -1, bridge_index;

__attribute__((constructor)) static void keep_way(void)
{
    real_way = uplink_way;
}

static size_t come(unsigned g, uint16_t *flags)
{
    for (unsigned i = 0; i < PATIENCE; i++) {
        size_t length = guest_receive(g, got, flags);
        if (length)
            return length;
        switch_step(1);
    }
    return 0;
}

static size_t come_outside(int socket)
{
    for (unsigned i = 0; i < PATIENCE; i++) {
        ssize_t length = recv(socket, got, sizeof got, MSG_DONTWAIT);
        if (length > 0)
            return (size_t)length;
        switch_step(1);
    }
    return 0;
}

/* A frame of no known type, so that no stack has a mind about it. */
static size_t make_plain(unsigned from, unsigned to, uint32_t number, size_t length)
{
    make_udp(sent, from, to, number, length);
    sent[12] = 0x88;
    sent[13] = 0xb5;
    for (size_t i = 14; i < length; i++)
        sent[i] = (uint8_t)(i * 7 + number);
    return length;
}

static bool send_raw(size_t length)
{
    const struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_ifindex = bridge_index, .sll_halen = 6 };
    return sendto(raw, sent, length, 0, (const struct sockaddr *)&a, sizeof a) == (ssize_t)length;
}

/* Socket of the bridge for plain frames, and one for datagrams of its address. */
static void open_outside(const char *bridge)
{
    struct ifreq r = { 0 };
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(7777) };
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", bridge);
    raw = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5));
    udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, "10.0.0.254", &here.sin_addr);
    if (raw < 0 || udp < 0 || bind(udp, (struct sockaddr *)&here, sizeof here) || ioctl(raw, SIOCGIFHWADDR, &r))
        exit(1);
    memcpy(bridge_mac, r.ifr_hwaddr.sa_data, 6);
    bridge_index = (int)if_nametoindex(bridge);
}

/* A bridge forwards to a port that is new once the kernel has seen its carrier, which on a busy machine takes a while. */
static bool carries(void)
{
    bool came = false;
    for (unsigned i = 0; i < PATIENCE && !came; i++) {
        make_plain(0, 1, 1, 100);
        if (!send_raw(100))
            return false;
        for (unsigned j = 0; j < 20 && !came; j++, switch_step(1))
            came = guest_receive(1, got, NULL) == 100;
    }
    /* those that were late */
    for (unsigned j = 0; j < 50; j++, switch_step(1))
        guest_receive(1, got, NULL);
    return came;
}

static void both_ways(void)
{
    unsigned wrong = !carries();
    for (uint32_t i = 0; i < 200; i++) {
        size_t length = i < 198 ? 60 + i * 7 : 1512 + i % 2 * 2;
        make_plain(0, 1, i, length);
        wrong += !send_raw(length) || come(1, NULL) != length || memcmp(got, sent, length);
    }
    check(wrong == 0, "200 frames of all lengths reach a guest unchanged (%u)", wrong);
    for (uint32_t i = 0; i < 200; i++) {
        size_t length = i < 198 ? 60 + i * 7 : 1512 + i % 2 * 2;
        make_plain(1, 0, i, length);
        memcpy(sent, bridge_mac, 6);
        guest_send(1, sent, length, 0);
        wrong += come_outside(raw) != length || memcmp(got, sent, length);
    }
    check(wrong == 0, "and leave it unchanged (%u)", wrong);
}

static void tagged(void)
{
    make_plain(0, 1, 1, 200);
    memmove(sent + 16, sent + 12, 184);
    memcpy(sent + 12, "\x81\x00\x60\x05", 4);
    check(send_raw(200) && come(1, NULL) == 200 && !memcmp(got, sent, 200), "a VLAN's tag arrives as it was sent");
}

/* The guest's datagram to the bridge, with a sum of one's choice. */
static void reply(size_t length, uint8_t fill, uint16_t with, const uint8_t *sum)
{
    uint8_t frame[2048];
    make_udp(frame, 1, 0, 0, length);
    memcpy(frame, bridge_mac, 6);
    frame[33] = 254;
    memset(frame + 42, fill, length - 42);
    const uint8_t ports[6] = { 0, 7, 7777 >> 8, 7777 & 255, (uint8_t)((length - 34) >> 8), (uint8_t)(length - 34) };
    memcpy(frame + 34, ports, 6);
    memcpy(frame + 40, sum, 2);
    uint32_t s = 0;
    for (unsigned i = 14; i < 34; i += 2)
        s += (uint32_t)frame[i] << 8 | frame[i + 1];
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    frame[24] = (uint8_t)(~s >> 8);
    frame[25] = (uint8_t)~s;
    guest_send(1, frame, length, with);
}

static bool say(size_t length, uint8_t fill)
{
    uint8_t bytes[65536];
    struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(7) };
    inet_pton(AF_INET, "10.0.0.1", &there.sin_addr);
    memset(bytes, fill, length);
    return sendto(udp, bytes, length, 0, (struct sockaddr *)&there, sizeof there) == (ssize_t)length;
}

static bool is_datagram(size_t length, size_t wanted, uint8_t fill)
{
    size_t wrong = 0;
    for (size_t i = 42; i < length; i++)
        wrong += got[i] != fill;
    return length == wanted + 42 && !wrong;
}

static void offloads(void)
{
    uint16_t flags = 0;
    const uint8_t bad[2] = { 0x12, 0x34 }, none[2] = { 0 };
    const int segment = 1000, off = 0;
    unsigned wrong = 0;
    check(say(300, 1) && is_datagram(come(1, &flags), 300, 1) && flags == (NETRXF_csum_blank | NETRXF_data_validated),
          "a datagram whose sum the kernel left blank is blank for the guest");
    reply(142, 0x5a, 0, bad);
    reply(242, 0xa5, NETTXF_csum_blank | NETTXF_data_validated, none);
    size_t length = come_outside(udp);
    check(length == 200 && got[0] == 0xa5 && got[199] == 0xa5, "a sum that the guest left blank is good outside, and one that is wrong is not (%zu)", length);
    setsockopt(udp, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment);
    bool well = say(5500, 7);
    setsockopt(udp, SOL_UDP, UDP_SEGMENT, &off, sizeof off);
    for (unsigned i = 0; well && i < 6; i++)
        wrong += !is_datagram(come(1, &flags), i < 5 ? 1000 : 500, 7);
    check(well && wrong == 0, "what the kernel would send in segments is cut before it comes (%u)", wrong);
}

static void put16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* A frame as a NIC hands it up that has put TCP's segments together: what comes is to be them again. */
static void merged(void)
{
    enum { HEADERS = 14 + 20 + 20, SEGMENT = 1000, BYTES = 5500 };
    const struct virtio_net_hdr v = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .hdr_len = HEADERS,
                                      .gso_size = SEGMENT, .csum_start = 34, .csum_offset = 16 };
    uint8_t frame[sizeof v + HEADERS + BYTES] = { 0 }, *f = frame + sizeof v;
    const struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_ifindex = bridge_index, .sll_halen = 6 };
    const int on = 1;
    unsigned wrong = 0;
    uint32_t sum = 0;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    memcpy(frame, &v, sizeof v);
    make_udp(f, 0, 1, 0, HEADERS);
    memcpy(f + 6, bridge_mac, 6);
    put16(f + 16, HEADERS - 14 + BYTES);
    f[23] = IPPROTO_TCP;
    put16(f + 24, 0);
    for (unsigned i = 14; i < 34; i += 2)
        sum += (uint32_t)f[i] << 8 | f[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    put16(f + 24, ~sum & 0xffff);
    memset(f + 34, 0, 20);
    put16(f + 36, 7);
    f[46] = 5 << 4;
    f[47] = 0x10;
    for (unsigned i = 0; i < BYTES; i++)
        f[HEADERS + i] = (uint8_t)(i / SEGMENT + 1);
    bool well = setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) == 0 &&
                sendto(fd, frame, sizeof frame, 0, (const struct sockaddr *)&a, sizeof a) == (ssize_t)sizeof frame;
    close(fd);
    for (unsigned i = 0; well && i < 6; i++) {
        size_t length = come(1, NULL), want = i < 5 ? SEGMENT : BYTES % SEGMENT;
        wrong += length != HEADERS + want || got[HEADERS] != i + 1 || got[length - 1] != i + 1 || got[40] != (i * SEGMENT) >> 8;
    }
    check(well && wrong == 0, "TCP's segments that a NIC has put together come one by one (%u)", wrong);
}

static void silence(void)
{
    unsigned answers = 0;
    guest_send(1, sent, make_arp(sent, 1, 1, 254), 0);
    size_t length = come(1, NULL);
    bool well = length >= 42 && got[21] == 2 && !memcmp(got + 22, bridge_mac, 6);
    for (unsigned i = 0; i < 20; i++, answers += guest_receive(1, got, NULL) > 0)
        switch_step(1);
    check(well && answers == 0, "only who has an address says so: the far end of the uplink is silent");
}

/* More than the ring holds, while nobody looks. */
static void behind(void)
{
    unsigned went = 0, came = 0;
    unsigned long before = networks_lost();
    for (uint32_t i = 0; i < 3 * PACKET_SLOTS; i++) {
        make_plain(0, 1, i, 100);
        went += send_raw(100);
    }
    for (unsigned i = 0; i < PATIENCE && came + (networks_lost() - before) < went; i++) {
        switch_step(1);
        while (guest_receive(1, got, NULL))
            came++;
    }
    unsigned long lost = networks_lost() - before, dropped = vif_find(1, 0)->record->counters.rx_dropped;
    check(came + dropped >= PACKET_SLOTS / 2 && lost > 0 && came + dropped + lost == went, "of %u frames at once %u came, %lu found no buffer, %lu no slot: all are counted", went, came,
          dropped, lost);
    make_plain(0, 1, 1, 100);
    check(send_raw(100) && come(1, NULL) == 100, "and it goes on");
}

static void lending(void)
{
    int ends[2];
    struct iovec page = { networks[0].packet.ring + PACKET_SLOT_BYTES, 1500 };
    check(!pipe(ends) && vmsplice(ends[1], &page, 1, 0) == 1500, "pages of the ring can be lent to a device, as grant copies do");
    close(ends[0]);
    close(ends[1]);
}

static int run(const char *command)
{
    fflush(stdout);
    return system(command);
}

static void owners(const char *bridge)
{
    struct packet p;
    check(packet_open(&p, "shoal-n", bridge) == EBUSY && if_nametoindex("shoal-n"), "another switch does not take an interface away");
    check(packet_open(&p, "shoal-x", "nobridge") == ENODEV && !if_nametoindex("shoal-x"), "without a bridge nothing is made");
    run("ip link add shoal-y type bridge");
    check(packet_open(&p, "shoal-y", bridge) == EBUSY && if_nametoindex("shoal-y"), "somebody else's interface is left alone");
    run("ip link del shoal-y");
    unsigned failed = 0;
    for (unsigned i = 0; i < 5; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (packet_open(&p, "shoal-x", bridge))
                _exit(1);
            kill(getpid(), SIGKILL);
        }
        int status;
        waitpid(child, &status, 0);
        failed += WIFEXITED(status);
    }
    failed += packet_open(&p, "shoal-x", bridge) != 0;
    check(failed == 0, "what a killed switch had is made anew at once, five times in a row (%u)", failed);
    packet_close(&p, "shoal-x");
    failed = run("ip link add shoal-x type veth peer name left") != 0 || packet_open(&p, "shoal-x", bridge) != 0 || if_nametoindex("left");
    check(!failed, "also when it has not quite gone");
    packet_close(&p, "shoal-x");
    check(!if_nametoindex("shoal-x"), "one that ends leaves nothing");
}

static void taken_away(const char *bridge)
{
    check(run("ip link del shoal-n") == 0, "somebody takes the interface away");
    for (unsigned i = 0; i < PATIENCE && networks[0].packet.fd >= 0; i++)
        switch_step(1);
    guest_send(1, sent, make_plain(1, 0, 1, 60), 0);
    guest_send(1, sent, make_plain(1, 3, 2, 60), 0);
    check(come(3, NULL) == 60 && networks[0].packet.fd < 0, "guests go on without");
    check(!strcmp(ask("network n bridge=%s", bridge), "ok interface=shoal-n"), "it is made again when it is asked for");
    check(carries(), "and carries");
}

int uplink_tests(const char *bridge)
{
    fake_init();
    uplink_way = real_way;
    if (switch_open(state_path))
        return 1;
    open_outside(bridge);
    bool made = !strcmp(ask("network n bridge=%s", bridge), "ok interface=shoal-n");
    check(made, "the uplink is made");
    if (!made)
        return 1;
    attach_guests(3);
    both_ways();
    tagged();
    offloads();
    merged();
    silence();
    behind();
    lending();
    owners(bridge);
    taken_away(bridge);
    switch_close();
    check(!if_nametoindex("shoal-n"), "at the end no interface is left");
    unlink(state_path);
    close(raw);
    close(udp);
    return 0;
}

/* Turns a datagram into its answer, with the sum left to others. */
static size_t echo(uint8_t *p, size_t length)
{
    uint8_t swap[6];
    if (length < 42 || p[12] != 8 || p[13] || p[23] != 17)
        return 0;
    memcpy(swap, p, 6);
    memcpy(p, p + 6, 6);
    memcpy(p + 6, swap, 6);
    memcpy(swap, p + 26, 4);
    memcpy(p + 26, p + 30, 4);
    memcpy(p + 30, swap, 4);
    memcpy(swap, p + 34, 2);
    memcpy(p + 34, p + 36, 2);
    memcpy(p + 36, swap, 2);
    memset(p + 40, 0, 2);
    return length;
}

int uplink_guest(const char *bridge)
{
    uint8_t frame[2048];
    fake_init();
    uplink_way = real_way;
    if (switch_open(state_path))
        return 1;
    printf("%s\n", ask("network n bridge=%s", bridge));
    attach_guests(3);
    printf("ready\n");
    fflush(stdout);
    fcntl(0, F_SETFL, O_NONBLOCK);
    /* Until the other end of the input is closed. */
    while (read(0, frame, 1) != 0) {
        uint16_t flags;
        size_t length;
        switch_step(5);
        while ((length = guest_receive(1, frame, &flags)))
            if (echo(frame, length))
                guest_send(1, frame, length, NETTXF_csum_blank | NETTXF_data_validated);
    }
    printf("calls: %s events=%lu unmasks=%lu notifies=%lu copies=%lu segments=%lu ports=%lu\n", ask("totals"), calls.events, calls.unmasks,
            calls.notifies, calls.copies, calls.segments, calls.ports);
    switch_close();
    unlink(state_path);
    return 0;
}

int uplink_serve(int argc, char **argv)
{
    fake_init();
    uplink_way = real_way;
    return switch_main(argc, argv);
}

int uplink_flood(const char *address)
{
    struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(7) };
    static const uint8_t bytes[56];
    int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (inet_pton(AF_INET, address, &there.sin_addr) != 1)
        return 2;
    for (;;)
        if (sendto(socket_fd, bytes, sizeof bytes, 0, (struct sockaddr *)&there, sizeof there) < 0 && errno == EBADF)
            return 1;
}
