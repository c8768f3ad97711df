/* Guests through which much passes: their buffers stay mapped while they are busy, and frames wait for one that has no buffer just now. */
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

/* Frames of numbers from `first` on, from one guest to another that takes them as they come; how many did not come, or not in their order. */
static unsigned pass(unsigned from, unsigned to, uint32_t first, unsigned count, size_t length)
{
    uint32_t next = first;
    unsigned wrong = 0;
    for (uint32_t i = first; i < first + count;) {
        while (i < first + count && guest_send(from, sent, make_udp(sent, from, to, i, length), 0))
            i++;
        steps(1);
        for (size_t bytes; (bytes = guest_receive(to, got, NULL));) {
            make_udp(sent, from, to, next, length);
            wrong += bytes != length || memcmp(sent, got, length) || frame_number(got) != next++;
        }
    }
    steps(3);
    while (guest_receive(to, got, NULL))
        wrong += frame_number(got) != next++;
    guest_reap(from);
    return wrong + (first + count - next);
}

static void mapped(void)
{
    fresh(3);
    check(pass(1, 3, 0, 1000, 60) == 0 && calls.lent == 0, "few frames are copied by Xen");
    unsigned wrong = pass(1, 3, 1000, 4000, 1514);
    check(wrong == 0 && calls.lent >= 512, "the buffers of busy guests are mapped (%lu)", calls.lent);
    uint64_t before = calls.segments;
    check(pass(1, 3, 5000, 2000, 1000) == 0 && calls.segments == before, "and nothing between them is copied by Xen any more");
    check(pass(1, 2, 7000, 100, 300) == 0 && calls.segments == before + 100, "one that is idle has its frames by Xen");
    check(pass(2, 1, 7100, 100, 300) == 0, "both ways");
    check(strstr(ask("stats 3.0"), "rx_frames=7000 rx_bytes=8116000 ") && strstr(ask("stats 1.0"), "tx_frames=7100 "), "all are counted: %s", ask("stats 3.0"));
    before = calls.segments;
    make_udp(guest_page(1) + 2048, 1, 3, 4711, 60);
    guest_request(1, 2048, 60, 0);
    steps(3);
    check(guest_receive(3, got, NULL) == 60 && frame_number(got) == 4711 && calls.segments == before, "a frame may lie anywhere in its page");
    uint64_t lent = calls.lent;
    guest_tx(3)->req_prod = 9999;
    guest_kick(3);
    steps(2);
    check(calls.lent < lent && calls.lent > 0, "of a guest that is broken nothing stays mapped");
    ask("detach 3");
    ask("detach 1");
    check(calls.lent == 0, "nor of one that is detached");
}

static void bounded(void)
{
    fresh(3);
    unsigned wrong = pass(1, 3, 0, 5000, 60) + pass(3, 1, 0, 5000, 60);
    check(wrong == 0 && calls.lent > 512 && calls.lent <= 600, "of one guest so many pages are mapped, and no more (%lu)", calls.lent);
    uint64_t before = calls.segments;
    check(pass(3, 1, 0, 500, 60) == 0 && calls.segments > before, "the others are copied by Xen");
}

static void not_mapped(void)
{
    fresh(3);
    calls.lent = 0;
    world->guests[1].bad_ref = RING_SLOTS + 2;
    uint32_t wrong = pass(1, 3, 0, 5120, 60);
    check(wrong > 0 && world->guests[1].statuses[1] == 20 && world->guests[1].statuses[2] == 5100, "a page that cannot be mapped costs its own frames only (%u)", world->guests[1].statuses[1]);
    for (unsigned i = 0; i < 6; i++) {
        pass(2, 1, 0, 900, 60);
        clock_ahead_us += 1100000;
    }
    uint64_t before = calls.segments;
    pass(2, 3, 0, 10, 60);
    check(calls.segments > before, "a guest that is never busy for a second is not mapped");
    stop_switch();
    check(calls.lent == 0, "a switch that ends lets go of all");
}

static void places_taken(void)
{
    fresh(GUESTS);
    for (unsigned g = 1; g <= 4; g++)
        pass(g, g % 2 ? g + 1 : g - 1, 0, 2100, 60);
    uint64_t lent = calls.lent, before = calls.segments;
    pass(5, 6, 0, 4000, 60);
    check(lent > 0 && calls.lent == lent && calls.segments == before + 8000, "there is room for so many, and others go on by Xen");
    clock_ahead_us += 11000000;
    pass(5, 6, 0, 2100, 60);
    pass(5, 6, 0, 4000, 60);
    before = calls.segments;
    check(pass(5, 6, 0, 100, 60) == 0 && calls.segments == before, "until some of them are quiet");
    check(pass(1, 2, 0, 500, 60) == 0 && pass(3, 4, 0, 500, 60) == 0, "which go on by Xen then");
    for (unsigned g = 1; g <= GUESTS; g++)
        ask("detach %u", g);
    check(calls.lent == 0, "nothing is left");
}

static void send_many(unsigned from, unsigned to, unsigned count)
{
    for (uint32_t i = 0; i < count; i++) {
        guest_send(from, sent, make_udp(sent, from, to, i, 60), 0);
        if (i % 64 == 63)
            steps(1);
    }
    steps(3);
}

static void waiting(void)
{
    fresh(3);
    world->guests[3].holds = true;
    send_many(1, 3, 300);
    check(drain(3) == 256 && strstr(ask("stats 3.0"), "rx_dropped=0"), "frames wait for a guest that has no buffer just now");
    guest_reap(1);
    check(world->guests[1].statuses[2] == 300, "their sender does not");
    world->guests[3].holds = false;
    for (unsigned i = 0; i < 20; i++)
        guest_post(3, (uint16_t)i);
    uint32_t next = 256, wrong = 0;
    guest_send(1, sent, make_udp(sent, 1, 3, 300, 60), 0);
    for (unsigned i = 0; i < 20; i++) {
        steps(1);
        while (guest_receive(3, got, NULL))
            wrong += frame_number(got) != next++;
    }
    check(next == 301 && wrong == 0, "then they come, in their order, before what was sent later (%u)", next);

    fresh(3);
    world->guests[3].holds = true;
    send_many(1, 3, 256 + 512 + 100);
    check(strstr(ask("stats 3.0"), "rx_dropped=100"), "so many, and no more: %s", ask("stats 3.0"));
    send_many(1, 2, 100);
    check(drain(2) == 100, "others do not wait");
    clock_ahead_us += 150000;
    steps(2);
    check(strstr(ask("stats 3.0"), "rx_dropped=612"), "who returns none for long loses them: %s", ask("stats 3.0"));
    send_many(1, 3, 10);
    check(strstr(ask("stats 3.0"), "rx_dropped=622"), "and nothing waits for it any more …");
    drain(3);
    world->guests[3].holds = false;
    for (unsigned i = 0; i < 10; i++)
        guest_post(3, (uint16_t)i);
    send_many(1, 3, 10);
    world->guests[3].holds = true;
    check(drain(3) == 10, "… until it does");
    send_many(1, 3, 10);
    check(strstr(ask("stats 3.0"), "rx_dropped=622"), "then they wait again");
}

static void waiting_ends(void)
{
    fresh(GUESTS);
    for (unsigned g = 2; g <= 7; g++) {
        world->guests[g].holds = true;
        send_many(1, g, 256 + 512);
    }
    check(strstr(ask("stats 5.0"), "rx_dropped=0") && strstr(ask("stats 6.0"), "rx_dropped=512"), "in all it is bounded, too: %s", ask("stats 6.0"));
    ask("detach 2");
    guest_tx(3)->req_prod = 9999;
    guest_kick(3);
    steps(3);
    send_many(1, 7, 300);
    check(strstr(ask("stats 7.0"), "rx_dropped=512"), "what waited for one that is gone, or broken, makes room: %s", ask("stats 7.0"));
    stop_switch();
    fake_forget();
    check(switch_open(state_path) == 0 && (send_many(1, 8, 100), drain(8) == 100), "the next switch begins with nothing that waits");
    switch_close();
}

void test_busy(void)
{
    mapped();
    bounded();
    not_mapped();
    places_taken();
    waiting();
    waiting_ends();
}
