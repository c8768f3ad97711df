/*
 * Tests of the switch against a Xen made of memory.  switch_test            all, a line "ok - …" or "not ok - …" each
 *   switch_test serve OPTIONS…   the real program with this Xen, for tests of its client
 *   switch_test guest BRIDGE     a guest behind a real uplink that sends datagrams back, until its input ends
 *   switch_test uplink BRIDGE    the tests of a real uplink (switch_uplink.c); the bridge is 10.0.0.254/24
 *   switch_test real OPTIONS…    the real program with this Xen and real uplinks
 *   switch_test flood ADDRESS    datagrams as fast as they go, until it is ended
 *   switch_test places           those of switch_places.c alone
 *   switch_test bench            frames a second of the data path alone
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "switch_fake.h"

const char *state_path;
static unsigned failures;
static bool running;

void check(bool well, const char *format, ...)
{
    va_list arguments;
    printf("%s - ", well ? "ok" : "not ok");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
    failures += !well;
}

static void put_mac(uint8_t *p, unsigned who)
{
    memset(p, who == 0xff ? 0xff : 0, 6);
    if (who != 0xff) {
        p[0] = 2;
        p[5] = (uint8_t)who;
    }
}

static void put_address(uint8_t *p, unsigned who)
{
    const uint8_t a[4] = { 10, 0, 0, (uint8_t)who };
    memcpy(p, a, 4);
}

size_t make_udp(uint8_t *frame, unsigned from, unsigned to, uint32_t number, size_t length)
{
    memset(frame, 0, length);
    put_mac(frame, to);
    put_mac(frame + 6, from);
    frame[12] = 8;
    frame[14] = 0x45;
    frame[16] = (uint8_t)((length - 14) >> 8);
    frame[17] = (uint8_t)(length - 14);
    frame[22] = 64;
    frame[23] = 17;
    put_address(frame + 26, from);
    put_address(frame + 30, to);
    memcpy(frame + 42, &number, 4);
    return length;
}

size_t make_arp(uint8_t *frame, unsigned from, unsigned from_address, unsigned for_address)
{
    static const uint8_t fixed[10] = { 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 };
    memset(frame, 0, 42);
    put_mac(frame, 0xff);
    put_mac(frame + 6, from);
    memcpy(frame + 12, fixed, sizeof fixed);
    put_mac(frame + 22, from);
    if (from_address)
        put_address(frame + 28, from_address);
    put_address(frame + 38, for_address);
    return 42;
}

uint32_t frame_number(const uint8_t *frame)
{
    uint32_t number;
    memcpy(&number, frame + 42, 4);
    return number;
}

const char *ask(const char *format, ...)
{
    static char answer[8192];
    char line[2048];
    struct reply r = { 0 };
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    request_handle(line, &r);
    snprintf(answer, sizeof answer, "%.*s", (int)r.length - 1, r.bytes);
    free(r.bytes);
    return answer;
}

void steps(unsigned count)
{
    while (count--)
        switch_step(0);
}

void attach_guests(unsigned count)
{
    ask("network n bridge=b");
    for (unsigned g = 1; g <= count; g++) {
        ask("attach %u.0 network=n tx=%u rx=%u port=7", g, 2 * g, 2 * g + 1);
        ask("identity %u.0 mac=02:00:00:00:00:%02x ip=10.0.0.%u%s", g, g, g, g == 2 ? " flood=1" : "");
    }
}

void stop_switch(void)
{
    if (running)
        switch_close();
    running = false;
}

void fresh(unsigned guests)
{
    stop_switch();
    unlink(state_path);
    fake_init();
    memset(&totals, 0, sizeof totals);
    if (switch_open(state_path))
        exit(1);
    running = true;
    attach_guests(guests);
    steps(2);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "serve")) {
        fake_init();
        return switch_main(argc - 1, argv + 1);
    }
    if (argc > 1 && !strcmp(argv[1], "real"))
        return uplink_serve(argc - 1, argv + 1);
    if (argc > 2 && !strcmp(argv[1], "flood"))
        return uplink_flood(argv[2]);
    char folder[] = "/tmp/shoal-switch-XXXXXX", path[64];
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/state", folder);
    state_path = path;
    if (argc > 2 && !strcmp(argv[1], "guest"))
        failures = (unsigned)uplink_guest(argv[2]);
    else if (argc > 2 && !strcmp(argv[1], "uplink"))
        failures += (unsigned)uplink_tests(argv[2]);
    else if (argc > 1 && !strcmp(argv[1], "bench")) {
        bench();
    } else if (argc > 1 && !strcmp(argv[1], "places")) {
        test_places();
    } else {
        test_forwarding();
        test_uplink();
        test_guests();
        test_requests();
        test_places();
        test_unlocked();
        test_busy();
        stop_switch();
        test_crashes();
    }
    stop_switch();
    unlink(path);
    rmdir(folder);
    return failures != 0;
}
