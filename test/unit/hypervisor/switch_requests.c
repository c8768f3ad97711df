/* The lines of the protocol: what is refused changes nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "switch_fake.h"

static void refused(const char *errno_name, const char *line)
{
    char before[8192], wanted[64];
    snprintf(before, sizeof before, "%s", ask("list"));
    snprintf(wanted, sizeof wanted, "error %s ", errno_name);
    const char *answer = ask("%s", line);
    bool typed = !strncmp(answer, wanted, strlen(wanted)) && !strchr(answer, '\n');
    check(typed && !strcmp(before, ask("list")), "%s: %.70s", errno_name, line);
}

static void bad_lines(void)
{
    fresh(3);
    const char *invalid[] = {
        "", " ", "hello ", "hello you", " hello", "list all", "totals x", "network", "network n", "network n bridge=", "network n bridge=b x=1",
        "network ../n bridge=b", "network n bridge=0123456789abcdef", "network bridge=b n", "attach", "attach 9", "attach 9.0", "attach 9.0 network=n tx=1 rx=2",
        "attach 9.0 network=n tx=1 rx=2 port=3 port=3", "attach 9.0 network=n tx=-1 rx=2 port=3", "attach 9.0 network=n tx=1 rx=0x2 port=3",
        "attach 9.0 network=n tx=1 rx=2 port=99999999999", "attach 9.0 network=n tx=99999999999999999999999 rx=2 port=3", "attach 99999.0 network=n tx=1 rx=2 port=3",
        "attach 9.x network=n tx=1 rx=2 port=3", "attach .0 network=n tx=1 rx=2 port=3", "attach 9.0 network=n tx=1 rx=2 port=3 more=1",
        "identity", "identity 1.0", "identity 1.0 mac=", "identity 1.0 mac=02:00:00:00:00", "identity 1.0 mac=02:00:00:00:00:0g", "identity 1.0 mac=03:00:00:00:00:01",
        "identity 1.0 mac=00:00:00:00:00:00", "identity 1.0 mac=02:00:00:00:00:01:", "identity 1.0 mac=02:00:00:00:00:01 ip=", "identity 1.0 mac=02:00:00:00:00:01 ip=10.0.0",
        "identity 1.0 mac=02:00:00:00:00:01 ip=10.0.0.1,", "identity 1.0 mac=02:00:00:00:00:01 ip=10.0.0.1,10.0.0.1", "identity 1.0 mac=02:00:00:00:00:01 ip=0.0.0.0",
        "identity 1.0 mac=02:00:00:00:00:01 ip=1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8,1.1.1.9",
        "identity 1.0 mac=02:00:00:00:00:01 rate=fast", "identity 1.0 mac=02:00:00:00:00:01 rate=999999999999", "identity 1.0 mac=02:00:00:00:00:01 flood=2", "identity 1.0 mac=02:00:00:00:00:01 unlocked=2", "identity 1.0 mac=02:00:00:00:00:01 unlocked=",
        "identity 1.0 mac=02:00:00:00:00:01 extra", "detach", "detach x", "detach 1.0", "detach 1 2", "detach -1", "stats", "stats 1", "stats 1.0 x", "mirror 1.0",
        "mirror 1.0 on", "mirror 1.0 file=here", "mirror 1.0 off off", "a b c d e f g h i j k l m n",
    };
    for (unsigned i = 0; i < sizeof invalid / sizeof *invalid; i++)
        refused("EINVAL", invalid[i]);
    refused("ENOSYS", "hallo");
    refused("EEXIST", "attach 1.0 network=n tx=2 rx=3 port=7");
    refused("ENOENT", "attach 4.0 network=m tx=2 rx=3 port=7");
    refused("ESRCH", "attach 30001.0 network=n tx=2 rx=3 port=7");
    refused("EINVAL", "attach 9.0 network=n tx=0 rx=3 port=7");
    refused("EINVAL", "attach 9.0 network=n tx=2 rx=3 port=0");
    refused("ENOENT", "identity 4.0 mac=02:00:00:00:00:04");
    refused("EADDRINUSE", "identity 1.0 mac=02:00:00:00:00:02");
    refused("EADDRINUSE", "identity 1.0 mac=02:00:00:00:00:01 ip=10.0.0.1,10.0.0.3");
    refused("ENOENT", "stats 1.1");
    refused("ENOENT", "mirror 7.0 off");
    refused("EEXIST", "network n bridge=c");
    refused("ENODEV", "network m bridge=nobridge");
}

static void good_lines(void)
{
    fresh(3);
    check(!strcmp(ask("hello"), "ok shoal-switch 1"), "hello");
    check(!strcmp(ask("network n bridge=b"), "ok interface=shoal-n"), "a network is found again");
    check(!strcmp(ask("network a-long-name-one bridge=b"), "ok interface=shoal-a-long-na"), "an interface's name is cut");
    const char *two = ask("network a-long-name-two bridge=b");
    check(!strncmp(two, "ok interface=shoal-a-lo", 23) && strlen(two) == 28 && strcmp(two, "ok interface=shoal-a-long-na"), "another one's too, and is another: %s", two);
    check(!strcmp(ask("list"), "ok 3\n1.0 network=n port=7 mac=02:00:00:00:00:01 ip=10.0.0.1 rate=0 flood=0 unlocked=0 state=up\n"
                               "2.0 network=n port=7 mac=02:00:00:00:00:02 ip=10.0.0.2 rate=0 flood=1 unlocked=0 state=up\n"
                               "3.0 network=n port=7 mac=02:00:00:00:00:03 ip=10.0.0.3 rate=0 flood=0 unlocked=0 state=up"),
          "list");
    check(!strcmp(ask("identity 1.0 mac=02:00:00:00:00:01 ip=10.0.0.9,10.0.0.8 rate=0"), "ok"), "an identity is changed");
    check(!strcmp(ask("identity 3.0 mac=02:00:00:00:00:03 ip=10.0.0.1"), "ok"), "and its address is free for others");
    check(!strcmp(ask("attach 9.1 network=n tx=2 rx=3 port=7"), "ok") && strstr(ask("list"), "\n9.1 network=n port=7 mac= ip= rate=0 flood=0 unlocked=0 state=up"),
          "a vif without identity is listed so");
    check(!strcmp(ask("detach 2"), "ok 1") && !strcmp(ask("detach 2"), "ok 0") && !strcmp(ask("detach 200"), "ok 0"), "detaching again is well");
    check(!strcmp(ask("stats 1.0"), "ok rx_frames=0 rx_bytes=0 tx_frames=0 tx_bytes=0 rx_dropped=0 tx_dropped=0"), "stats");
    check(!strncmp(ask("totals"), "ok vifs=3 frames=0 bytes=0 turns=0 copies=0 dropped=0 memory_kib=", 64), "totals");
    for (unsigned i = 0; i < VIFS_OF_DOMAIN_MAX; i++)
        ask("attach 50.%u network=n tx=2 rx=3 port=7", i);
    refused("ENOSPC", "attach 50.99 network=n tx=2 rx=3 port=7");
    for (unsigned i = 3; i < NETWORKS_MAX; i++)
        ask("network n%u bridge=b", i);
    refused("ENOSPC", "network last bridge=b");
}

static void senseless_lines(void)
{
    static const char *const words[] = { "hello", "network", "move", "hold", "traffic", "10.0.0.1", "from=1.0", "to=2.0", "drain=9", "ms=9", "attach", "identity", "detach", "list", "stats", "totals", "1.0", "2.0", "9.0", "network=n", "tx=1", "rx=2",
                                         "port=3", "mac=02:00:00:00:00:07", "ip=1.2.3.4", "rate=1", "flood=1", "n", "bridge=b", "off", "=", "\xff", "1.", "x=" };
    unsigned seed = 7, strange = 0;
    fresh(3);
    for (unsigned i = 0; i < 20000; i++) {
        char line[512] = "";
        for (unsigned n = 0; n <= (seed >> 8) % 8; n++) {
            seed = seed * 1103515245 + 12345;
            strcat(line, n ? " " : "");
            strcat(line, words[(seed >> 16) % (sizeof words / sizeof *words)]);
        }
        const char *answer = ask("%s", line);
        strange += strncmp(answer, "ok", 2) && strncmp(answer, "error E", 7);
    }
    check(strange == 0, "20,000 senseless lines get an answer each");
}

void test_requests(void)
{
    bad_lines();
    good_lines();
    senseless_lines();
}
