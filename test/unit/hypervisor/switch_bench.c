/* No test: the speed of the data path alone. */
#include <stdio.h>
#include <string.h>
#include "switch_fake.h"

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
