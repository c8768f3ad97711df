/* Guests that send much, send nonsense, take nothing, or go away; and many of them. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include "switch_fake.h"

static uint8_t sent[2048], got[2048];

static unsigned drain(unsigned g)
{
    unsigned count = 0;
    while (guest_receive(g, got, NULL))
        count++;
    return count;
}

static void batches(void)
{
    unsigned came = 0, went = 0, wrong = 0;
    fresh(3);
    for (uint32_t i = 0; i < 5000;) {
        while (i < 5000 && guest_send(1, sent, make_udp(sent, 1, 3, i, 60), 0))
            i++, went++;
        steps(1);
        while (guest_receive(3, got, NULL))
            wrong += frame_number(got) != came++;
    }
    steps(3);
    while (guest_receive(3, got, NULL))
        wrong += frame_number(got) != came++;
    guest_reap(1);
    check(went == 5000 && came == 5000 && wrong == 0, "5,000 frames, many rings full, arrive in order");
    check(world->guests[1].statuses[2] == 5000, "and are all answered");
    check(totals.copies < 200, "by few copies: %lu", totals.copies);

    fresh(6);
    for (uint32_t i = 0; i < 256; i++)
        for (unsigned g = 4; g <= 6; g++)
            guest_send(g, sent, make_udp(sent, g, 1, i, 60), 0);
    steps(1);
    unsigned of[GUESTS + 1] = { 0 };
    while (guest_receive(1, got, NULL))
        of[got[11]]++;
    check(of[4] > 60 && of[5] > 60 && of[6] > 60 && of[4] + of[5] + of[6] == 256, "more than a batch: all get their share (%u, %u, %u)", of[4], of[5], of[6]);
    unsigned total = 256;
    for (unsigned i = 0; i < 8; i++, total += drain(1))
        steps(1);
    check(total == 768, "and then the rest");
}

static void floods(void)
{
    unsigned wrong = 0;
    fresh(GUESTS);
    for (unsigned g = 2; g <= GUESTS; g++)
        ask("identity %u.0 mac=02:00:00:00:00:%02x flood=1", g, g);
    for (uint32_t i = 0; i < 200; i++)
        guest_send(1, sent, make_udp(sent, 1, 0xff, i, 60), 0);
    steps(1);
    for (unsigned g = 2; g <= GUESTS; g++) {
        uint32_t next = 0;
        while (guest_receive(g, got, NULL))
            wrong += frame_number(got) != next++;
        wrong += next != 200;
    }
    guest_reap(1);
    check(wrong == 0 && world->guests[1].statuses[2] == 200, "200 broadcasts to seven guests, in several copies: all arrive, all are answered");
}

static void no_buffers(void)
{
    fresh(3);
    world->guests[3].holds = true;
    for (uint32_t i = 0; i < 400; i++) {
        guest_send(1, sent, make_udp(sent, 1, 3, i, 60), 0);
        guest_send(1, sent, make_udp(sent, 1, 2, i, 60), 0);
        steps(1);
    }
    guest_reap(1);
    check(world->guests[1].statuses[2] == 800 && drain(2) == 256, "a receiver without buffers holds up nobody");
    clock_ahead_us += 200000; /* longer than anything waits for a guest that returns no buffer */
    steps(2);
    check(drain(3) == 256 && strstr(ask("stats 3.0"), "rx_dropped=144"), "it loses what it has no room for, counted: %s", ask("stats 3.0"));
    world->guests[3].holds = false;
    for (unsigned i = 0; i < 10; i++)
        guest_post(3, (uint16_t)i);
    guest_send(1, sent, make_udp(sent, 1, 3, 1, 60), 0);
    steps(2);
    check(drain(3) == 1 && world->guests[3].kicks == 0, "and receives again once it posts some, without telling");
}

static void failing_copies(void)
{
    fresh(3);
    world->guests[1].bad_ref = RING_SLOTS + 2; /* that of the second frame sent */
    world->guests[3].bad_ref = 2;              /* that of the second buffer */
    for (uint32_t i = 0; i < 4; i++)
        guest_send(1, sent, make_udp(sent, 1, 3, i, 60), 0);
    steps(2);
    guest_reap(1);
    uint32_t numbers = 0;
    while (guest_receive(3, got, NULL))
        numbers = numbers * 10 + frame_number(got) + 1;
    check(world->guests[1].statuses[1] == 1 && world->guests[1].statuses[2] == 3, "a frame that cannot be copied is answered with an error");
    check(numbers == 14, "a buffer that cannot be written loses its frame; the others arrive (%u)", numbers);
}

static void one_is_broken(const char *what)
{
    char line[1024];
    steps(3);
    snprintf(line, sizeof line, "%s", ask("list"));
    check(strstr(strstr(line, "1.0 "), "state=broken") != NULL && !strstr(strstr(line, "\n3.0 "), "state=broken"), "broken, alone: %s", what);
    world->guests[3].received = guest_rx(3)->rsp_prod;
    guest_send(3, sent, make_udp(sent, 3, 2, 1, 60), 0);
    guest_send(3, sent, make_udp(sent, 3, 1, 1, 60), 0);
    steps(3);
    check(drain(2) == 1, "and the others go on: %s", what);
    check(!strcmp(ask("detach 1"), "ok 1") && !strncmp(ask("attach 1.0 network=n tx=2 rx=3 port=7"), "ok", 2), "it can be attached anew: %s", what);
}

static void broken(void)
{
    fresh(3);
    guest_tx(1)->req_prod = 257;
    guest_kick(1);
    one_is_broken("a producer a ring ahead");
    fresh(3);
    guest_tx(1)->req_prod = (uint32_t)-1;
    guest_kick(1);
    one_is_broken("a producer behind");
    fresh(3);
    make_udp(guest_page(1), 1, 3, 0, 60);
    guest_request(1, 0, 60, 0);
    make_udp(guest_page(1), 1, 3, 0, 60);
    guest_request(1, 0, 60, NETTXF_extra_info);
    one_is_broken("extra information");
    fresh(3);
    guest_rx(1)->req_prod = 1000;
    guest_send(3, sent, make_udp(sent, 3, 1, 0, 60), 0);
    guest_send(1, sent, make_udp(sent, 1, 3, 0, 60), 0);
    one_is_broken("too many buffers");

    fresh(3);
    static const struct { uint16_t offset, size, flags; } bad[] = {
        { 0, 13, 0 }, { 0, 3000, 0 }, { 4090, 60, 0 }, { 0xffff, 60, 0 }, { 0, 0, 0 }, { 0, 60, NETTXF_more_data }, { 0, 60, NETTXF_more_data }, { 0, 60, 0 },
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        make_udp(guest_page(1), 1, 3, 0, 60);
        guest_request(1, bad[i].offset, bad[i].size, bad[i].flags);
    }
    guest_send(1, sent, make_udp(sent, 1, 3, 5, 60), 0);
    steps(3);
    guest_reap(1);
    check(world->longest == 60, "no copy is longer than a frame");
    check(world->guests[1].statuses[1] == 8 && world->guests[1].statuses[2] == 1 && drain(3) == 1, "bad sizes, bad offsets and frames in parts are refused one by one");
    guest_rx(3)->rsp_prod = 77;
    guest_tx(3)->rsp_prod = 99;
    guest_send(1, sent, make_udp(sent, 1, 3, 5, 60), 0);
    steps(3);
    check(guest_rx(3)->rsp_prod == 2, "our indices are not read back");
}

static void rates(void)
{
    fresh(3);
    ask("identity 1.0 mac=02:00:00:00:00:01 ip=10.0.0.1 rate=8000");
    int64_t begun = now_us();
    for (uint32_t i = 0; i < 100; i++)
        guest_send(1, sent, make_udp(sent, 1, 3, i, 1000), 0);
    steps(3);
    unsigned first = drain(3), came = first;
    guest_send(2, sent, make_udp(sent, 2, 3, 0, 1000), 0);
    steps(2);
    check(drain(3) == 1, "another guest does not wait");
    while (came < 100 && now_us() - begun < 5000000) {
        switch_step(-1);
        came += drain(3);
    }
    int64_t took_ms = (now_us() - begun) / 1000;
    check(first >= 20 && first < 80, "a burst passes at once (%u frames)", first);
    /* 800 kbit at 8 Mbit/s, less the burst of 20 ms */
    check(came == 100 && took_ms >= 70 && took_ms < 3000, "then the rate holds, and nothing is dropped (%u in %ld ms)", came, (long)took_ms);
}

static void silent_shells(void)
{
    fresh(1);
    ask("attach 3.0 network=n tx=6 rx=7 port=7");
    guest_send(3, sent, make_udp(sent, 3, 1, 0, 60), 0);
    guest_send(1, sent, make_udp(sent, 1, 3, 0, 60), 0);
    steps(3);
    check(drain(1) == 0 && drain(3) == 0, "a vif without identity carries nothing");
    ask("identity 3.0 mac=02:00:00:00:00:03 ip=10.0.0.3");
    steps(3);
    check(drain(1) == 1, "what it had in its ring goes when it has one");
    ask("identity 3.0 mac=02:00:00:00:00:33 ip=10.0.0.33");
    guest_send(1, sent, make_udp(sent, 1, 3, 0, 60), 0);
    guest_send(1, sent, make_arp(sent, 1, 1, 3), 0);
    guest_send(1, sent, make_udp(sent, 1, 0x33, 0, 60), 0);
    steps(3);
    check(drain(3) == 1 && drain(1) == 0, "a new identity takes the old one's place");
    ask("detach 3");
    guest_send(1, sent, make_udp(sent, 1, 0x33, 0, 60), 0);
    steps(3);
    check(drain(3) == 0, "a detached one gets nothing");
}

static void tables(void)
{
    static bool there[1500];
    struct table t = { 0 };
    unsigned seed = 5, wrong = 0, count = 0;
    for (unsigned i = 0; i < 100000; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned k = (seed >> 8) % 1500;
        uint64_t key = k * 0x1000193u;
        wrong += table_find(&t, key) != (there[k] ? &there[k] : NULL);
        if (there[k])
            table_remove(&t, key);
        else
            table_put(&t, key, &there[k]);
        there[k] = !there[k];
        count += there[k] ? 1 : -1u;
    }
    for (unsigned k = 0; k < 1500; k++)
        wrong += table_find(&t, k * 0x1000193u) != (there[k] ? &there[k] : NULL);
    check(wrong == 0 && t.count == count, "a table forgets nothing and nobody, however they come and go (%u)", wrong);
    table_free(&t);
}

static void many(void)
{
    fresh(2);
    int64_t begun = now_us();
    unsigned well = 0;
    for (unsigned d = 100; d < 10100; d++) {
        well += !strncmp(ask("attach %u.0 network=n tx=2 rx=3 port=7", d), "ok", 2);
        well += !strncmp(ask("identity %u.0 mac=06:00:00:00:%02x:%02x ip=10.1.%u.%u,10.2.%u.%u", d, d >> 8, d & 255, d >> 8, d & 255, d >> 8, d & 255), "ok", 2);
    }
    check(well == 20000, "10,000 vifs attach, with two addresses each");
    guest_send(1, sent, make_udp(sent, 1, 2, 3, 60), 0);
    steps(2);
    check(drain(2) == 1, "frames find their way among them");
    check(vif_by_address(&networks[0], htonl(0x0a021234)) == vif_find(0x1234, 0), "each is found");
    for (unsigned d = 100; d < 10100; d += 2)
        well -= !strcmp(ask("detach %u", d), "ok 1");
    check(well == 15000 && !vif_by_address(&networks[0], htonl(0x0a021234)) && vif_by_address(&networks[0], htonl(0x0a021235)) == vif_find(0x1235, 0),
          "half of them leave, and the others are found");
    printf("# 10,000 attached and 5,000 detached in %ld ms; %s\n", (long)((now_us() - begun) / 1000), ask("totals"));
}

void test_guests(void)
{
    batches();
    floods();
    no_buffers();
    failing_copies();
    broken();
    rates();
    silent_shells();
    tables();
    many();
}
