/* Addresses that wait for a guest, and are counted; and what is refused of addresses. */
#include <stdio.h>
#include <string.h>
#include "switch_places.h"

static void holds(void)
{
    const unsigned ip = 60;
    begin_places();
    ask("detach 4");
    guest_init(4, 0);
    check(arp_says(ip) == 0 && !strcmp(ask("hold n 10.0.0.60 ms=5000"), "ok"), "an address that nobody has is held");
    steps(2);
    check(outside_receive(header, got) == 42 && got[7] == 0x53 && got[31] == ip && got[41] == ip && arp_says(ip) == 0xfe, "announced, and answered for");
    outside_send(NULL, sent, make_tcp(0, 4, 200, ip, 1999, 80, SYN));
    steps(2);
    check(strstr(ask("traffic n 10.0.0.60"), "held=1 waiting=1"), "a frame for the MAC of a guest that had it before waits, too");
    for (unsigned i = 0; i < 80; i++)
        outside_send(NULL, sent, make_datagram(0, 0xfe, 200, ip, i, 53));
    steps(2);
    check(strstr(ask("traffic n 10.0.0.60"), "held=1 waiting=64"), "frames are kept, not too many: %s", ask("traffic n 10.0.0.60"));
    for (unsigned i = 0; i < 70; i++)
        for (unsigned twice = 0; twice < 2; twice++)
            outside_send(NULL, sent, make_tcp(0, 0xfe, 200, ip, 2000 + i, 80, SYN));
    steps(2);
    check(strstr(ask("traffic n 10.0.0.60"), "held=1 waiting=64"), "beginnings before all others");
    ask("attach 4.0 network=n tx=8 rx=9 port=7");
    ask("identity 4.0 mac=02:00:00:00:00:04 ip=10.0.0.60");
    steps(3);
    outside_send(NULL, sent, make_datagram(0, 0xfe, 200, ip, 7, 53));
    steps(2);
    check(arp_says(ip) == 4 && guest_receive(4, got, NULL) == 0 && strstr(ask("stats 4.0"), "rx_dropped=0"), "a guest that is not up yet is given nothing");
    guest_send(4, sent, make_arp(sent, 4, ip, ip), 0);
    steps(2);
    check(guest_receive(4, got, NULL) == 0 && strstr(ask("stats 4.0"), "rx_dropped=0"), "nor one without buffers");
    world->guests[4].holds = true;
    for (unsigned i = 0; i < 10; i++)
        guest_post(4, (uint16_t)i);
    steps(3);
    unsigned begins = 0, wrong = 0;
    while (guest_receive(4, got, NULL))
        begins++, wrong += got[23] != PROTOCOL_TCP || got[5] != 4 || (unsigned)(got[34] << 8 | got[35]) != 1998 + begins;
    check(begins == 10 && wrong == 0, "then it gets as many as it has room for, in their order (%u, %u)", begins, wrong);
    for (unsigned i = 10; i < 200; i++)
        guest_post(4, (uint16_t)i);
    steps(3);
    while (guest_receive(4, got, NULL))
        begins++, wrong += got[23] != PROTOCOL_TCP || got[5] != 4;
    check(begins == 64 && wrong == 0 && strstr(ask("traffic n 10.0.0.60"), "held=0 waiting=0"), "and the rest (%u)", begins);
    world->guests[4].holds = false;
    check(reaches(make_tcp(0, 0xfe, 200, ip, 9, 80, ACK)) == 4, "the MAC that stood for it still does");
    check(!strncmp(ask("hold n 10.0.0.60 ms=5000"), "error EEXIST ", 13), "an address in use is not held");

    begin_places();
    check(!strcmp(ask("hold n 10.0.0.63 ms=5000 mac=00:16:3e:00:00:2a"), "ok"), "one that comes with its MAC is held under that");
    steps(2);
    check(outside_receive(header, got) == 42 && got[7] == 0x16 && got[11] == 0x2a && got[31] == 63 && got[41] == 63 && arp_says(63) == 0x2a, "which is announced, and answered with");
    outside_send(NULL, sent, make_tcp(0, 0x2a, 200, 63, 9, 80, ACK));
    steps(2);
    check(strstr(ask("traffic n 10.0.0.63"), "held=1 waiting=1") && !strncmp(ask("announce n 10.0.0.63"), "error ENOENT ", 13), "nobody has it here yet");
    ask("identity 3.0 mac=02:00:00:00:00:03 ip=10.0.0.3,10.0.0.63");
    steps(2);
    clear_all();
    ask("detach 4");
    guest_init(4, 0);
    ask("hold n 10.0.0.64 ms=5000");
    ask("attach 4.0 network=n tx=8 rx=9 port=7");
    ask("identity 4.0 mac=02:00:00:00:00:04 ip=10.0.0.64");
    guest_post(4, 0);
    outside_send(NULL, sent, make_tcp(0, 4, 200, 64, 9, 80, ACK));
    steps(2);
    while (outside_receive(header, got) > 0)
        ;
    check(clear(4) == 0 && !strcmp(ask("announce n 10.0.0.64"), "ok"), "a guest that says nothing is announced");
    steps(3);
    check(outside_receive(header, got) == 42 && got[11] == 4 && got[31] == 64 && got[41] == 64 && clear(4) == 1, "and gets what waited for it");
    check(!strncmp(ask("announce n 10.0.0.64 now"), "error EINVAL ", 13) && !strncmp(ask("announce x 10.0.0.64"), "error ENOENT ", 13) && !strncmp(ask("hold n 10.0.0.65 ms=1 mac=1"), "error EINVAL ", 13), "what is not understood is refused");

    begin_places();
    ask("hold n 10.0.0.60 ms=5000");
    outside_send(NULL, sent, make_tcp(0, 0xfe, 200, ip, 9, 80, SYN));
    guest_send(2, sent, make_arp(sent, 2, 2, ip), 0);
    guest_send(2, sent, make_tcp(2, 0xfe, 2, ip, 9, 80, SYN), 0);
    steps(2);
    check(strstr(ask("traffic n 10.0.0.60"), "waiting=2") && guest_receive(2, got, NULL) == 42 && got[7] == 0x53, "from guests, too");
    ask("move n 10.0.0.60 to=3.0");
    steps(3);
    check(clear(3) == 2, "a guest that is up gets them at once");
    ask("hold n 10.0.0.61 ms=5000");
    outside_send(NULL, sent, make_tcp(0, 0xfe, 200, 61, 9, 80, SYN));
    steps(2);
    ask("identity 3.0 mac=02:00:00:00:00:03 ip=10.0.0.3,10.0.0.61");
    steps(2);
    check(clear(3) == 1, "by a new identity, too");
    ask("hold n 10.0.0.62 ms=5000");
    outside_send(NULL, sent, make_tcp(0, 0xfe, 200, 62, 9, 80, SYN));
    steps(2);
    clock_ahead_us += 6 * INT64_C(1000000);
    check(arp_says(62) == 0 && strstr(ask("traffic n 10.0.0.62"), "held=0 waiting=0"), "what nobody comes for is forgotten");
    ask("hold n 10.0.0.62 ms=5000");
    check(arp_says(62) == 0xfe && !strcmp(ask("hold n 10.0.0.62 ms=0"), "ok") && arp_says(62) == 0, "and may be given up");
    clear_all();
    for (unsigned a = 100; a < 120; a++) {
        ask("hold n 10.0.0.%u ms=5000", a);
        for (unsigned i = 0; i < 64; i++) {
            outside_send(NULL, sent, make_tcp(0, 0xfe, 200, a, i, 80, SYN));
            steps(1);
        }
    }
    check(strstr(ask("traffic n 10.0.0.115"), "waiting=64") && strstr(ask("traffic n 10.0.0.116"), "waiting=0"), "of all addresses together not too many");
    ask("identity 3.0 mac=02:00:00:00:00:03 ip=10.0.0.3,10.0.0.100");
    ask("detach 3");
    steps(2);
    check(strstr(ask("traffic n 10.0.0.101"), "waiting=64"), "one that goes takes what it was given");
}

/* Addresses come and go for ever; at once there are so many at most. */
static void many(void)
{
    unsigned held = 0, refused = 0;
    begin_places();
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < PLACES_MAX + 10; i++) {
            const char *said = ask("hold n 10.%u.%u.%u ms=1000", 100 + round, i >> 8, i & 255);
            held += !strcmp(said, "ok");
            refused += !strncmp(said, "error ENOSPC ", 13);
        }
        clock_ahead_us += 700 * INT64_C(1000000);
        steps(1);
    }
    check(held == 3 * PLACES_MAX && refused == 30, "%u addresses at once, and again when they are forgotten (%u, %u)", PLACES_MAX, held, refused);
}

static void counts(void)
{
    begin_places();
    ask("identity 1.0 mac=02:00:00:00:00:01 ip=10.0.0.1,10.0.0.50");
    client(1, 1, SYN);
    answers(1, 1, ACK);
    reaches(make_tcp(0, 1, 200, 1, 1, 80, SYN));
    outside_send(NULL, sent, make_arp(sent, 0, 200, MOVED));
    make_datagram(0, 1, 200, MOVED, 1, 1);
    sent[23] = 1; /* ICMP */
    check(reaches(60) == 1 && !strncmp(ask("traffic n 10.0.0.50"), "ok frames=2 bytes=120 ", 22), "frames of TCP and UDP are counted by address: %s", ask("traffic n 10.0.0.50"));
    check(!strncmp(ask("traffic n 10.0.0.1"), "ok frames=2 bytes=120 ", 22), "each for itself: %s", ask("traffic n 10.0.0.1"));
    clock_ahead_us += 5 * INT64_C(1000000);
    long idle = 0;
    sscanf(strstr(ask("traffic n 10.0.0.50"), "idle_ms="), "idle_ms=%ld", &idle);
    check(idle >= 5000 && idle < 60000, "and how long there was none (%ld)", idle);
    ask("move n 10.0.0.50 from=1.0 to=3.0 drain=60000");
    check(!strncmp(ask("traffic n 10.0.0.50"), "ok frames=0 ", 12) && !strncmp(ask("traffic n 10.0.0.1"), "ok frames=2 ", 12) && strstr(ask("traffic n 10.0.0.50"), "drains=1 "), "from its beginning with its holder");
}

static void refusals(void)
{
    static const struct { const char *errno_name, *line; } lines[] = {
        { "EINVAL", "move" }, { "EINVAL", "move n" }, { "EINVAL", "move n 10.0.0" }, { "EINVAL", "move n 0.0.0.0 from=1.0" }, { "EINVAL", "move n 10.0.0.50" },
        { "ENOENT", "move m 10.0.0.50 from=1.0" }, { "EINVAL", "move n 10.0.0.50 from=1" }, { "EINVAL", "move n 10.0.0.50 from=.0" }, { "EINVAL", "move n 10.0.0.50 from=1." },
        { "EINVAL", "move n 10.0.0.50 from=123456789.0" }, { "ENOENT", "move n 10.0.0.50 from=9.0 to=3.0" }, { "ENOENT", "move n 10.0.0.50 from=1.0 to=9.0" },
        { "EINVAL", "move n 10.0.0.50 from=1.0 to=1.0" }, { "EINVAL", "move n 10.0.0.50 from=1.0 to=3.0 drain=x" }, { "EINVAL", "move n 10.0.0.50 from=1.0 to=3.0 drain=3600001" },
        { "EINVAL", "move n 10.0.0.50 from=1.0 to=3.0 more=1" }, { "EADDRINUSE", "move n 10.0.0.50 from=2.0 to=3.0" }, { "EADDRINUSE", "move n 10.0.0.50 to=3.0" },
        { "EINVAL", "move n 10.0.0.50 from=1.0 to=8.0" }, { "EINVAL", "hold" }, { "EINVAL", "hold n 10.0.0.9" }, { "EINVAL", "hold n 10.0.0.9 ms=60001" }, { "EEXIST", "hold n 10.0.0.50 ms=1" },
        { "ENOENT", "hold m 10.0.0.9 ms=1" }, { "EINVAL", "traffic" }, { "EINVAL", "traffic n 10.0.0.50 x" }, { "ENOENT", "traffic n 10.0.0.99" }, { "ENOSPC", "move n 10.0.0.50 from=1.0 to=3.0 drain=1" },
    };
    begin_places();
    ask("attach 8.0 network=n tx=16 rx=17 port=7"); /* no identity */
    ask("identity 3.0 mac=02:00:00:00:00:03 ip=1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8");
    char before[8192], wanted[64];
    snprintf(before, sizeof before, "%s", ask("list"));
    for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++) {
        snprintf(wanted, sizeof wanted, "error %s ", lines[i].errno_name);
        const char *said = ask("%s", lines[i].line);
        bool typed = !strncmp(said, wanted, strlen(wanted)) && !strchr(said, '\n');
        check(typed && !strcmp(before, ask("list")), "%s: %s", lines[i].errno_name, lines[i].line);
    }
}

void test_holds(void)
{
    holds();
    many();
    counts();
    refusals();
}
