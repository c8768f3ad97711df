/*
 * A switch that ends at any point, and the next one that goes on from its file: in processes of their own, while the guests stay.
 * Between guests a frame arrives once; outside it may be seen twice, for what was said to the world cannot be asked back.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "switch_fake.h"

static uint8_t frame[2048];

static void begin(void)
{
    unlink(state_path);
    fake_init();
}

/* In a child: a switch that runs `turns` turns and ends cleanly, or at a crash point. Gives its exit code. */
static int run(int crash, unsigned turns, unsigned guests)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fake_forget();
        crash_after = crash;
        if (switch_open(state_path))
            _exit(3);
        if (guests)
            attach_guests(guests);
        steps(turns);
        switch_close();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Frames of a guest in `counts`, by number. */
static void tally(unsigned g, unsigned *counts)
{
    while (guest_receive(g, frame, NULL))
        counts[frame_number(frame) % 64]++;
}

static bool all(const unsigned *counts, unsigned from, unsigned until, unsigned least, unsigned most)
{
    for (unsigned i = from; i < until; i++)
        if (counts[i] < least || counts[i] > most)
            return false;
    return true;
}

static void every_point(void)
{
    unsigned points = 0, lost = 0, doubled = 0, unanswered = 0, untold = 0, ended = 0;
    for (int crash = 1;; crash++) {
        begin();
        for (uint32_t i = 0; i < 10; i++) {
            guest_send(1, frame, make_udp(frame, 1, 3, i, 60), 0);
            guest_send(1, frame, make_udp(frame, 1, 0, 10 + i, 60), 0);
            guest_send(3, frame, make_udp(frame, 3, 1, 20 + i, 60), 0);
            guest_send(3, frame, make_udp(frame, 3, 0xff, 30 + i, 60), 0);
        }
        int code = run(crash, 6, 3);
        if (code == 0)
            break;
        points++;
        ended += code != 77;
        /* Meanwhile a guest uses the slots again that it had answers in. */
        unsigned more = 0;
        while (guest_send(1, frame, make_udp(frame, 1, 3, 63, 60), 0))
            more++;
        uint32_t told = world->guests[1].notified;
        code = run(0, 6, 3);
        ended += code != 0;
        unsigned of1[64] = { 0 }, of2[64] = { 0 }, of3[64] = { 0 }, outside[64] = { 0 };
        uint8_t header[10];
        tally(1, of1);
        tally(2, of2);
        tally(3, of3);
        while (outside_receive(header, frame))
            outside[frame_number(frame) % 64]++;
        guest_reap(1);
        guest_reap(3);
        bool found = all(of3, 0, 10, 1, 99) && all(of1, 20, 30, 1, 99) && all(of2, 30, 40, 1, 99) && all(outside, 10, 20, 1, 99) && all(outside, 30, 40, 1, 99);
        bool once = all(of3, 0, 63, 0, 1) && all(of1, 0, 64, 0, 1) && all(of2, 0, 64, 0, 1) && all(outside, 0, 64, 0, 2);
        lost += !found;
        doubled += !once;
        unanswered += world->guests[1].statuses[2] != 20 + more || world->guests[3].statuses[2] != 20 || world->guests[1].kicks + world->guests[3].kicks > 1;
        untold += world->guests[1].notified == told;
    }
    check(points > 100 && ended == 0, "ended at each of %u points, and went on", points);
    check(lost == 0, "no frame is lost (%u)", lost);
    check(doubled == 0, "none arrives twice at a guest, nor three times outside (%u)", doubled);
    check(unanswered == 0, "each is answered once (%u)", unanswered);
    check(untold == 0, "guests are told again after a restart (%u)", untold);
}

static pid_t start(void)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        char socket_path[128];
        snprintf(socket_path, sizeof socket_path, "%s.sock", state_path);
        char *words[] = { "shoal-switch", "--foreground", "--socket", socket_path, "--state", (char *)state_path, NULL };
        fake_forget();
        _exit(switch_main(6, words));
    }
    return child;
}

/* Killed by the kernel at any instruction, or asked to end, while guests go on sending. */
static void killed(void)
{
    static unsigned char seen[1 << 24];
    uint32_t next = 0, came = 0, doubled = 0;
    unsigned kills = 0, clean = 0, seed = 1;
    char socket_path[128];
    begin();
    run(0, 2, 3);
    memset(seen, 0, sizeof seen);
    pid_t child = start();
    int64_t deadline = now_us() + 120000000, kill_at = now_us() + 30000;
    while (now_us() < deadline && (kills < 150 || came < next)) {
        while (kills < 150 && next < sizeof seen && next - came < 200 && guest_send(1, frame, make_udp(frame, 1, 3, next, 60), 0))
            next++;
        while (guest_receive(3, frame, NULL)) {
            uint32_t number = frame_number(frame) % sizeof seen;
            came += !seen[number];
            doubled += seen[number];
            seen[number] = 1;
        }
        if (kills < 150 && now_us() > kill_at) {
            int status;
            kill(child, kills % 2 ? SIGTERM : SIGKILL);
            waitpid(child, &status, 0);
            clean += WIFEXITED(status) && WEXITSTATUS(status) == 0;
            child = start();
            kills++;
            seed = seed * 1103515245 + 12345;
            kill_at = now_us() + 5000 + (seed >> 16) % 20000;
        }
        usleep(50);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    snprintf(socket_path, sizeof socket_path, "%s.sock", state_path);
    unlink(socket_path);
    check(clean > 50, "a switch that is asked to end does, at work too (%u)", clean);
    check(kills == 150 && came == next && next > 1000, "killed %u times under %u frames: %u arrived", kills, next, came);
    check(doubled == 0, "none twice (%u)", doubled);
}

static void resumed(void)
{
    char before[4096];
    fresh(3);
    ask("identity 1.0 mac=02:00:00:00:00:01 ip=10.0.0.1,10.0.0.11 rate=5000");
    guest_send(1, frame, make_udp(frame, 1, 3, 1, 60), 0);
    steps(2);
    snprintf(before, sizeof before, "%s %s", ask("list"), ask("stats 1.0"));
    stop_switch();
    guest_send(1, frame, make_udp(frame, 1, 3, 2, 60), 0);
    fake_forget();
    check(switch_open(state_path) == 0, "a switch ends cleanly, and the next one opens its file");
    char after[4096];
    snprintf(after, sizeof after, "%s %s", ask("list"), ask("stats 1.0"));
    check(!strcmp(before, after), "all vifs, identities and counters are there");
    steps(3);
    unsigned counts[64] = { 0 };
    tally(3, counts);
    check(all(counts, 1, 3, 1, 1), "what was sent meanwhile arrives");
    switch_close();
    fake_forget();
    world->guests[1].gone = true;
    check(switch_open(state_path) == 0 && !strncmp(ask("list"), "ok 2\n2.0", 8) && !strcmp(ask("detach 1"), "ok 0"), "a domain that died meanwhile is dropped");
    check(!strcmp(ask("identity 2.0 mac=02:00:00:00:00:01 ip=10.0.0.1"), "ok"), "and what it had is free");
    guest_tx(3)->req_prod = 9999;
    guest_kick(3);
    steps(2);
    switch_close();
    fake_forget();
    check(switch_open(state_path) == 0 && strstr(ask("list"), "3.0 network=n port=7 mac=02:00:00:00:00:03 ip=10.0.0.3 rate=0 flood=0 unlocked=0 state=broken"),
          "one that was broken stays broken");
    check(!vif_find(3, 0)->tx, "and is not mapped");
    ask("detach 2");
    switch_close();
    fake_forget();
    check(switch_open(state_path) == 0 && !strncmp(ask("list"), "ok 1\n3.0", 8), "one that was detached stays detached");
    switch_close();
}

/* Answers once given are not given again, to whoever is in that place now. */
static void reused(void)
{
    unsigned counts[64] = { 0 };
    fresh(3);
    guest_send(1, frame, make_udp(frame, 1, 3, 1, 60), 0);
    steps(2);
    ask("detach 1");
    guest_init(1, RING_SLOTS);
    attach_guests(3);
    steps(2);
    stop_switch();
    fake_forget();
    guest_send(1, frame, make_udp(frame, 1, 3, 2, 60), 0);
    if (switch_open(state_path))
        check(false, "cannot go on");
    steps(3);
    tally(3, counts);
    check(all(counts, 1, 3, 1, 1), "a new guest in an old one's place is not given its answers");
    switch_close();
}

static void overwrite(long at, const void *bytes, size_t length)
{
    int fd = open(state_path, O_WRONLY);
    if (fd < 0 || pwrite(fd, bytes, length, at) != (ssize_t)length)
        check(false, "cannot write the state file");
    close(fd);
}

static void make_state(void)
{
    begin();
    run(0, 2, 3);
}

static void torn(void)
{
    static const uint8_t zeroes[8], junk[192] = { 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff };
    const uint32_t nine = 9, many = UINT32_MAX;
    for (off_t bytes = 0; bytes < 40000; bytes += 1371) {
        make_state();
        if (truncate(state_path, bytes) || run(0, 2, 3) != 0)
            check(false, "cut to %ld bytes", (long)bytes);
    }
    check(true, "a file cut short is used as far as it goes");
    make_state();
    overwrite(0, zeroes, 8);
    check(run(0, 2, 3) == 0, "a file that was being made is made anew");
    make_state();
    overwrite(0, "SOMEBODY", 8);
    check(run(0, 2, 3) == 3, "somebody else's file is refused");
    make_state();
    overwrite(8, &nine, 4);
    check(run(0, 2, 3) == 3, "and one of another version");
    make_state();
    overwrite(24, "another boot", 12);
    fake_forget();
    check(switch_open(state_path) == 0 && !strcmp(ask("list"), "ok 0") && !network_find("n"), "one of another boot is begun anew");
    switch_close();
    fake_forget();
    make_state();
    overwrite(64, &many, 4);
    check(run(0, 2, 3) == 0, "more answers than there can be are none");
    make_state();
    overwrite(32768 + 192, junk, sizeof junk);
    check(switch_open(state_path) == 0 && !strncmp(ask("list"), "ok 2", 4), "a record without sense is dropped, and only that");
    check(run(0, 2, 0) == 3, "two switches do not share a file");
    switch_close();
    fake_forget();
    make_state();
    /* A random byte anywhere costs at most what it belongs to. */
    unsigned seed = 3, ended = 0;
    for (unsigned i = 0; i < 150; i++) {
        seed = seed * 1103515245 + 12345;
        uint8_t byte = (uint8_t)(seed >> 8);
        overwrite(64 + (seed >> 16) % 33500, &byte, 1);
        ended += run(0, 2, 3) != 0;
    }
    check(ended == 0, "random damage ends no switch (%u)", ended);
}

void test_crashes(void)
{
    resumed();
    reused();
    torn();
    every_point();
    killed();
}
