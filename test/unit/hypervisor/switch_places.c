/* Addresses that go from one guest to another with connections left behind, wait for a guest, and are counted; and a switch that ends meanwhile. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "switch_places.h"


uint8_t sent[2048], got[2048], header[10];

size_t make_tcp(unsigned from, unsigned to, unsigned source, unsigned target, unsigned from_port, unsigned to_port, uint8_t flags)
{
    make_udp(sent, from, to, 0, 60);
    sent[23] = PROTOCOL_TCP;
    sent[29] = (uint8_t)source;
    sent[33] = (uint8_t)target;
    sent[34] = (uint8_t)(from_port >> 8);
    sent[35] = (uint8_t)from_port;
    sent[36] = (uint8_t)(to_port >> 8);
    sent[37] = (uint8_t)to_port;
    sent[46] = 0x50;
    sent[47] = flags;
    if (to == 0xfe) {
        const uint8_t mac[6] = { 2, 0x53, 10, 0, 0, (uint8_t)target };
        memcpy(sent, mac, 6);
    }
    return 60;
}

size_t make_datagram(unsigned from, unsigned to, unsigned source, unsigned target, unsigned from_port, unsigned to_port)
{
    size_t length = make_tcp(from, to, source, target, from_port, to_port, 0);
    sent[23] = PROTOCOL_UDP;
    return length;
}

unsigned clear(unsigned g)
{
    unsigned count = 0;
    while (g ? guest_receive(g, got, NULL) : outside_receive(header, got))
        count++;
    return count;
}

void clear_all(void)
{
    for (unsigned g = 0; g <= 4; g++)
        clear(g);
}

unsigned reaches(size_t length)
{
    unsigned who = 0;
    clear_all();
    outside_send(NULL, sent, length);
    steps(2);
    for (unsigned g = 1; g <= 4; g++)
        while (guest_receive(g, got, NULL))
            who = who || got[5] != g ? 99 : g;
    return who;
}

unsigned client(unsigned mac, unsigned port, uint8_t flags)
{
    return reaches(make_tcp(0, mac, 200, MOVED, port, 80, flags));
}

/* Whether a frame of a guest from the address leaves. */
static bool leaves(unsigned g, size_t length)
{
    clear_all();
    guest_send(g, sent, length, 0);
    steps(2);
    guest_reap(g);
    return outside_receive(header, got) == length;
}

bool answers(unsigned g, unsigned port, uint8_t flags)
{
    return leaves(g, make_tcp(g, 0, MOVED, 200, 80, port, flags));
}

unsigned arp_says(unsigned address)
{
    clear_all();
    outside_send(NULL, sent, make_arp(sent, 0, 200, address));
    steps(2);
    return outside_receive(header, got) == 42 && got[21] == 2 ? (got[6] == 2 && got[7] == 0x53 ? 0xfe : got[11]) : 0;
}

void begin_places(void)
{
    clock_ahead_us = 0;
    fresh(3);
    attach_guests(4);
    ask("identity 1.0 mac=02:00:00:00:00:01 ip=10.0.0.1,10.0.0.50");
    for (unsigned g = 1; g <= 4; g++) {
        guest_send(g, sent, make_udp(sent, g, 0, 1, 60), 0);
    }
    steps(2);
    clear_all();
}

static void moves(void)
{
    begin_places();
    check(client(1, 1000, SYN) == 1 && answers(1, 1000, SYN | ACK), "a connection begins");
    check(!strcmp(ask("move n 10.0.0.50 from=1.0 to=3.0 drain=60000"), "ok"), "its address moves");
    steps(2);
    check(outside_receive(header, got) == 42 && got[11] == 3 && got[0] == 0xff && got[21] == 1 && got[31] == MOVED && got[41] == MOVED, "which is announced");
    check(strstr(ask("list"), "1.0 network=n port=7 mac=02:00:00:00:00:01 ip=10.0.0.1 ") && strstr(ask("list"), "3.0 network=n port=7 mac=02:00:00:00:00:03 ip=10.0.0.3,10.0.0.50 "),
          "identities follow");
    check(arp_says(MOVED) == 3, "ARP says the new one");
    check(client(1, 1000, ACK) == 1 && client(3, 1000, ACK) == 1, "the connection goes on where it was, whichever MAC its frames bear");
    check(client(1, 1001, SYN) == 3 && client(1, 1001, ACK) == 3 && client(3, 1001, ACK) == 3, "a new one goes to the new one");
    check(answers(1, 1000, ACK) && answers(3, 1001, ACK), "both may use the address");
    check(!leaves(2, make_tcp(2, 0, MOVED, 200, 80, 1000, ACK)), "and nobody else");
    check(client(1, 1000, FIN) == 1 && answers(1, 1000, FIN) && client(1, 1000, ACK) == 1, "to its end");
    check(client(1, 1000, SYN) == 3, "its port's next connection is a new one");
    check(client(1, 1002, SYN) == 3 && client(1, 1002, SYN) == 3, "a beginning sent again goes where the first went");

    check(leaves(1, make_arp(sent, 1, MOVED, 77)) && got[31] == 0 && got[28] == 0 && got[41] == 77, "the old one asks for neighbours as nobody");
    check(!leaves(1, make_arp(sent, 1, MOVED, MOVED)), "and announces nothing");
    make_arp(sent, 1, MOVED, 77);
    sent[21] = 2;
    check(!leaves(1, 42), "nor answers");
    check(reaches(make_tcp(0, 2, 200, MOVED, 9, 80, ACK)) == 2, "a guest that passes on is passed its frames");
    check(reaches(make_tcp(0, 7, 200, MOVED, 9, 80, ACK)) == 0, "a MAC that never stood for it is somebody else's");
    check(leaves(4, make_tcp(4, 0, 4, 200, 1, 2, ACK)), "others are as they were");
    clear_all();
    guest_send(4, sent, make_tcp(4, 1, 4, MOVED, 7, 80, SYN), 0);
    guest_send(4, sent, make_tcp(4, 1, 4, MOVED, 8, 80, ACK), 0);
    steps(2);
    check(clear(3) == 1 && clear(1) == 1, "between guests it is the same");

    check(!strcmp(ask("move n 10.0.0.50 from=1.0 to=3.0 drain=60000"), "ok") && client(1, 1004, ACK) == 1, "moved again: nothing changes");
    clock_ahead_us += 61 * INT64_C(1000000);
    check(client(1, 1004, ACK) == 3 && client(3, 1001, ACK) == 3, "after the drain all of it goes to the new one");
    check(!answers(1, 1004, ACK) && answers(3, 1001, ACK), "and the old one may use it no more");
    check(strstr(ask("traffic n 10.0.0.50"), "drains=0"), "nothing drains");
    ask("detach 1");
    check(client(1, 1005, SYN) == 3, "a MAC that is gone stands for it still");
    clock_ahead_us += 700 * INT64_C(1000000);
    check(client(1, 1006, SYN) == 0 && client(3, 1006, SYN) == 3, "but not for ever");
}

static void datagrams(void)
{
    begin_places();
    ask("move n 10.0.0.50 from=1.0 to=3.0 drain=60000");
    check(reaches(make_datagram(0, 1, 200, MOVED, 5, 53)) == 3, "a datagram goes to the new one");
    check(leaves(1, make_datagram(1, 0, MOVED, 200, 53, 6)) && reaches(make_datagram(0, 1, 200, MOVED, 6, 53)) == 1, "unless the old one has spoken in that conversation");
    clock_ahead_us += 31 * INT64_C(1000000);
    check(reaches(make_datagram(0, 1, 200, MOVED, 6, 53)) == 3, "and is not silent for long");
    make_datagram(0, 1, 200, MOVED, 6, 53);
    sent[20] = 0x20;
    sent[21] = 9;
    check(reaches(60) == 3, "what has no ports goes to the new one");
}

static void chain(void)
{
    begin_places();
    client(1, 1, SYN);
    ask("move n 10.0.0.50 from=1.0 to=2.0 drain=10000");
    client(1, 2, SYN);
    ask("move n 10.0.0.50 from=2.0 to=3.0 drain=30000");
    client(1, 3, SYN);
    ask("move n 10.0.0.50 from=3.0 to=4.0 drain=30000");
    client(1, 4, SYN);
    check(client(1, 1, ACK) == 1 && client(1, 2, ACK) == 2 && client(3, 3, ACK) == 3 && client(1, 4, ACK) == 4, "four guests with one address, each with its connection");
    ask("move n 10.0.0.50 from=4.0 to=2.0 drain=30000");
    check(client(1, 5, SYN) == 2 && client(1, 1, ACK) == 1 && client(1, 2, ACK) == 2 && client(1, 3, ACK) == 3 && client(1, 4, ACK) == 4, "back to one of them");
    clock_ahead_us += 11 * INT64_C(1000000);
    check(client(1, 1, ACK) == 2 && client(1, 3, ACK) == 3 && client(1, 4, ACK) == 4, "each has its own end");
    ask("detach 3");
    check(client(1, 3, ACK) == 2 && client(1, 4, ACK) == 4, "one that goes leaves its connections to the holder");
    guest_init(3, RING_SLOTS);
    ask("attach 3.0 network=n tx=6 rx=7 port=7");
    ask("identity 3.0 mac=02:00:00:00:00:03 ip=10.0.0.3");
    steps(2);
    check(client(1, 3, ACK) == 2, "and not to whoever is in its place now");
    ask("detach 2");
    check(client(1, 6, SYN) == 0 && client(1, 4, ACK) == 4, "when the holder goes, the others still have theirs");
    check(!strcmp(ask("move n 10.0.0.50 to=1.0 drain=0"), "ok") && client(1, 7, SYN) == 1, "and somebody else may have it");
    unsigned moved = 0;
    begin_places();
    for (unsigned g = 5; g <= 8; g++) {
        ask("attach %u.0 network=n tx=%u rx=%u port=7", g, 2 * g, 2 * g + 1);
        ask("identity %u.0 mac=02:00:00:00:00:%02x ip=10.0.0.%u", g, g, g);
    }
    const char *said = "";
    for (unsigned i = 0; i < 40; i++, said = ask("move n 10.0.0.50 from=%u.0 to=%u.0 drain=60000", (i - 1) % 8 + 1, i % 8 + 1)) {
        if (i > 1)
            moved += !strcmp(said, "ok");
        client(1, 100 + i, SYN);
    }
    check(moved == 38, "round and round (%u)", moved);
}

static void alone(void)
{
    begin_places();
    check(!strcmp(ask("move n 10.0.0.50 from=1.0 drain=60000"), "ok") && arp_says(MOVED) == 0 && client(1, 1, ACK) == 1 && client(1, 2, SYN) == 0, "an address that leaves keeps its connections");
    check(answers(1, 1, ACK) && !leaves(1, make_arp(sent, 1, MOVED, MOVED)), "and is answered for no more");
    check(!strcmp(ask("move n 10.0.0.50 from=1.0 drain=60000"), "ok"), "again is well");
    check(!strcmp(ask("move n 10.0.0.50 to=3.0"), "ok") && client(1, 2, SYN) == 3 && client(1, 1, ACK) == 1, "one that comes is taken");
    ask("identity 4.0 mac=02:00:00:00:00:04 ip=10.0.0.4");
    ask("move n 10.0.0.4 from=4.0 drain=0");
    check(!leaves(4, make_tcp(4, 0, 4, 200, 1, 2, ACK)) && !leaves(4, make_tcp(4, 0, 99, 200, 1, 2, ACK)), "who has none left may use none");
}

/* More connections than the table has room for. */
static void full(void)
{
    static uint8_t first[70000];
    unsigned wrong = 0, of1 = 0, of3 = 0;
    begin_places();
    ask("move n 10.0.0.50 from=1.0 to=3.0 drain=600000");
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < sizeof first;) {
            unsigned began = i;
            for (unsigned n = 0; n < 100 && i < sizeof first; n++, i++) {
                make_tcp(0, 1, 200, MOVED, i & 0xffff, 80, round ? ACK : SYN);
                sent[28] = (uint8_t)(i >> 16);
                memcpy(sent + 54, &i, 4);
                outside_send(NULL, sent, 60);
            }
            steps(2);
            for (unsigned g = 1; g <= 3; g += 2)
                while (guest_receive(g, got, NULL)) {
                    unsigned number;
                    memcpy(&number, got + 54, 4);
                    if (number < began || number >= i) {
                        wrong++;
                        continue;
                    }
                    wrong += round && first[number] != g;
                    first[number] = (uint8_t)g;
                }
        }
        clear_all();
    }
    for (unsigned i = 0; i < sizeof first; i++)
        of1 += first[i] == 1, of3 += first[i] == 3;
    check(wrong == 0 && of1 + of3 == sizeof first && of1 > 0 && of3 > 60000, "70,000 connections: those that do not fit stay with the old one, to their end (%u)", of1);
}

static void restarted(void)
{
    begin_places();
    client(1, 1, SYN);
    ask("move n 10.0.0.50 from=1.0 to=3.0 drain=60000");
    client(1, 2, SYN);
    ask("hold n 10.0.0.60 ms=5000");
    char before[4096];
    snprintf(before, sizeof before, "%s", ask("list"));
    stop_switch();
    fake_forget();
    check(switch_open(state_path) == 0 && !strcmp(before, ask("list")), "a switch ends, and the next one knows");
    check(client(1, 1, ACK) == 1 && client(1, 2, ACK) == 3 && client(1, 3, SYN) == 3, "whose each connection is");
    check(answers(1, 1, ACK) && !answers(1, 3, SYN | ACK) == false, "and who may use the address");
    check(arp_says(60) == 0xfe, "and what is held");
    clock_ahead_us += 61 * INT64_C(1000000);
    check(client(1, 1, ACK) == 3 && arp_says(60) == 0, "and until when");
    switch_close();
}

/* In a child: what `line` asks for, ended at a crash point. */
static int run(int crash, const char *line)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fake_forget();
        if (switch_open(state_path))
            _exit(3);
        crash_after = crash;
        ask("%s", line);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void killed(void)
{
    unsigned points = 0, olds = 0, news = 0, wrong = 0, others = 0;
    for (int crash = 1;; crash++) {
        begin_places();
        client(1, 1, SYN);
        stop_switch();
        fake_forget();
        int code = run(crash, "move n 10.0.0.50 from=1.0 to=3.0 drain=60000");
        fake_forget();
        if (switch_open(state_path))
            exit(1);
        const char *list = ask("list");
        bool at1 = strstr(list, "ip=10.0.0.1,10.0.0.50 ") != NULL, at3 = strstr(list, "ip=10.0.0.3,10.0.0.50 ") != NULL;
        others += !strstr(list, "ip=10.0.0.2 ") || !strstr(list, "ip=10.0.0.4 ");
        wrong += at1 == at3 || arp_says(MOVED) != (at1 ? 1 : 3) || client(1, 1, ACK) != 1 || client(1, 2, SYN) != (at1 ? 1 : 3) || client(1, 2, ACK) != (at1 ? 1 : 3);
        wrong += at1 && strcmp(ask("move n 10.0.0.50 from=1.0 to=3.0 drain=60000"), "ok");
        wrong += at1 && (client(1, 3, SYN) != 3 || client(1, 2, ACK) != 1);
        olds += at1;
        news += at3;
        switch_close();
        if (code == 0)
            break;
        points += code == 77;
    }
    check(points >= 5 && olds > 0 && news > 1 && wrong == 0 && others == 0, "ended at each of %u points of a move: the old one has it, or the new one (%u, %u; %u)", points, olds, news, wrong);
    fresh(1);
}

/* What the file says of places is not believed. */
static void nonsense(void)
{
    unsigned seed = 5, ended = 0;
    for (unsigned i = 0; i < 300; i++) {
        begin_places();
        ask("move n 10.0.0.50 from=1.0 to=3.0 drain=60000");
        ask("hold n 10.0.0.60 ms=5000");
        client(1, 2, SYN);
        stop_switch();
        fake_forget();
        FILE *f = fopen(state_path, "r+b");
        for (unsigned n = 0; f && n < 4; n++) {
            seed = seed * 1103515245 + 12345;
            const long at = 32768 + 32768L * 192 + ((seed >> 8) % 3 == 0 ? (long)((seed >> 16) % 400) : 4096 + (long)((seed >> 16) % 448));
            fseek(f, at, SEEK_SET);
            fputc((seed >> 4) & 1 ? (int)(seed >> 24) : (int)((seed >> 24) & 3), f);
        }
        if (f)
            fclose(f);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            fake_forget();
            if (switch_open(state_path))
                _exit(3);
            client(1, 1, ACK);
            client(1, 2, SYN);
            answers(1, 2, ACK);
            arp_says(60);
            clock_ahead_us += 100 * INT64_C(1000000);
            client(3, 1, ACK);
            ask("move n 10.0.0.50 from=3.0 to=1.0 drain=6");
            ask("detach 3");
            client(1, 1, ACK);
            switch_close();
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        ended += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    check(ended == 0, "a file with nonsense in its places is used as far as it makes sense (%u)", ended);
    fresh(1);
}

void test_places(void)
{
    moves();
    datagrams();
    chain();
    alone();
    full();
    test_holds();
    restarted();
    killed();
    nonsense();
    clock_ahead_us = 0;
}
