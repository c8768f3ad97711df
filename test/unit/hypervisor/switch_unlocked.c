/* A guest that forwards: IPv4 from any address, under its own MAC; all else as of any other guest. And what of it is noted. */
#include <stdlib.h>
#include <string.h>
#include "switch_places.h"

static const char unlocked[] = "identity 1.0 mac=02:00:00:00:00:01 ip=10.0.0.1 unlocked=1";

/* Whether a frame of guest 1 is passed on, be it to a guest or outside. */
static bool passes(size_t length)
{
    steps(2); /* what moved is announced */
    clear_all();
    guest_send(1, sent, length, 0);
    steps(2);
    guest_reap(1);
    return clear(2) + clear(3) + clear(0) >= 1;
}

static size_t from_address(unsigned address, unsigned to)
{
    size_t length = make_udp(sent, 1, to, 1, 60);
    sent[29] = (uint8_t)address;
    return length;
}

static void forwards(void)
{
    fresh(3);
    check(!passes(from_address(77, 3)) && !passes(from_address(3, 0)), "a guest sends from its own address only, unless …");
    check(!strcmp(ask(unlocked), "ok"), "… it is unlocked");
    check(passes(from_address(77, 3)) && passes(from_address(77, 0)), "then it forwards, to guests and outside");
    check(passes(from_address(2, 3)) && passes(from_address(3, 0)), "what other guests sent, too");
    check(passes(from_address(1, 3)), "and sends from its own as before");
    from_address(77, 3);
    sent[6 + 5] = 3;
    check(!passes(60), "its MAC is its own");
    check(passes(make_arp(sent, 1, 1, 99)), "by ARP it speaks for itself …");
    check(!passes(make_arp(sent, 1, 77, 99)) && !passes(make_arp(sent, 1, 3, 99)), "… and for nobody else");
    make_arp(sent, 1, 1, 99);
    sent[27] = 3;
    check(!passes(42), "nor with another's MAC");
    from_address(77, 3);
    sent[12] = 0x81;
    sent[13] = 0;
    check(!passes(60), "a VLAN's tag is refused");
    from_address(77, 0);
    memcpy(sent, "\x01\x80\xc2\x00\x00\x00", 6);
    check(!passes(60), "so is what bridges say to each other");
    clear_all();
    guest_send(2, sent, make_udp(sent, 2, 3, 1, 60), 0);
    make_udp(sent, 2, 3, 1, 60);
    sent[29] = 77;
    guest_send(2, sent, 60, 0);
    steps(2);
    check(clear(3) == 1, "the others are locked as they were");
    ask("identity 1.0 mac=02:00:00:00:00:01 unlocked=1");
    check(passes(make_arp(sent, 1, 77, 99)) && !passes(make_arp(sent, 1, 3, 99)), "without known addresses it claims nobody's");
    ask("identity 1.0 mac=02:00:00:00:00:01 ip=10.0.0.1");
    check(!passes(from_address(77, 3)) && passes(from_address(1, 3)), "locked again, it is");
}

static void stays(void)
{
    fresh(3);
    ask(unlocked);
    stop_switch();
    fake_forget();
    check(switch_open(state_path) == 0 && strstr(ask("list"), "ip=10.0.0.1 rate=0 flood=0 unlocked=1 state=up") && passes(from_address(77, 3)), "the next switch knows it");
    ask("move n 10.0.0.44 to=1.0");
    check(strstr(ask("list"), "ip=10.0.0.1,10.0.0.44 rate=0 flood=0 unlocked=1") && passes(from_address(77, 3)), "another address changes nothing");
    ask("move n 10.0.0.44 from=1.0");
    ask("move n 10.0.0.1 from=1.0");
    check(strstr(ask("list"), "1.0 network=n port=7 mac=02:00:00:00:00:01 ip= rate=0 flood=0 unlocked=1") && passes(from_address(77, 3)) && !passes(make_arp(sent, 1, 1, 99)),
          "with none left it forwards, and speaks for nobody by ARP");
    switch_close();
}

/* What passes through it is no traffic of an address that it does not have, and no connection of one that moves. */
static void notes_nothing(void)
{
    begin_places();
    ask("identity 2.0 mac=02:00:00:00:00:02 ip=10.0.0.2 unlocked=1");
    ask("move n 10.0.0.50 from=1.0 to=3.0 drain=60000");
    steps(2);
    clear_all();
    check(client(3, 2000, ACK) == 1, "a connection that nobody saw begin is the old one's");
    const char *before = strdup(ask("traffic n 10.0.0.50"));
    guest_send(2, sent, make_tcp(2, 0, MOVED, 200, 80, 2000, SYN | ACK), 0);
    guest_send(2, sent, make_tcp(2, 0, MOVED, 200, 80, 2001, SYN), 0);
    steps(2);
    check(clear(0) == 2, "what is forwarded from an address that moves passes");
    check(client(3, 2000, ACK) == 1 && client(3, 2001, ACK) == 1, "and takes no connection from the one that has it");
    check(!strncmp(before, "ok frames=0", 11) && !strncmp(ask("traffic n 10.0.0.50"), "ok frames=0", 11), "it is not counted as the address's: %s", ask("traffic n 10.0.0.50"));
    free((void *)before);
    check(reaches(make_tcp(0, 2, 200, MOVED, 9, 80, SYN)) == 2, "what is for its MAC is its own to pass on");
}

void test_unlocked(void)
{
    forwards();
    stays();
    notes_nothing();
}
