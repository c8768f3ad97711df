/* Two that are no tests: the speed of the data path alone, and a guest behind a real TAP that sends datagrams back. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "switch_fake.h"

static int (*real_opener)(struct network_record *n, int *error);

__attribute__((constructor)) static void keep_opener(void)
{
    real_opener = uplink_opener;
}

/* A pair of guests that send as fast as their rings allow; copies are memcpy. */
static void measure(unsigned pairs, size_t length)
{
    uint8_t frame[2048];
    uint64_t came = 0;
    fresh(GUESTS);
    int64_t begun = now_us(), spent = 0;
    while (now_us() - begun < 1000000) {
        for (unsigned p = 0; p < pairs; p++)
            for (unsigned i = 0; i < 128; i++)
                guest_send(2 * p + 1, frame, make_udp(frame, 2 * p + 1, 2 * p + 2, i, length), 0);
        int64_t at = now_us();
        do
            switch_step(0);
        while (vifs_waiting());
        spent += now_us() - at;
        for (unsigned p = 0; p < pairs; p++)
            while (guest_receive(2 * p + 2, frame, NULL))
                came++;
    }
    printf("%u pairs, %4zu bytes: %5.2f million frames a second of the switch's own time, %.1f frames a turn, %.1f a copy\n", pairs, length,
           (double)came / (double)spent, (double)totals.frames / (double)totals.turns, (double)totals.frames / (double)totals.copies);
}

void bench(void)
{
    measure(1, 60);
    measure(4, 60);
    measure(4, 1514);
    int64_t begun = now_us();
    fresh(2);
    unsigned long before, after;
    sscanf(strstr(ask("totals"), "memory_kib="), "memory_kib=%lu", &before);
    for (unsigned d = 100; d < 10100; d++) {
        ask("attach %u.0 network=n tx=2 rx=3 port=7", d);
        ask("identity %u.0 mac=06:00:00:00:%02x:%02x ip=10.1.%u.%u", d, d >> 8, d & 255, d >> 8, d & 255);
    }
    sscanf(strstr(ask("totals"), "memory_kib="), "memory_kib=%lu", &after);
    printf("10,000 vifs: %lu KiB, attached and known in %.1f ms\n", after - before, (double)(now_us() - begun) / 1000);
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

int tap_guest(const char *bridge)
{
    uint8_t frame[2048];
    fake_init();
    uplink_opener = real_opener;
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
    switch_close();
    unlink(state_path);
    return 0;
}
