/* Tests in TAP of whose end the store daemon tells (deaths.c), against a Xen that is a table. Run by stored.test.ts. */
#include <stdio.h>
#include "deaths.h"

static int number, failures;
static uint32_t flags[DOMAINS_MAX];
static bool here[DOMAINS_MAX], broken;
static unsigned asked, listed, dead_count, last_dead;

static void ok(bool good, const char *what)
{
    printf("%sok %d - %s\n", good ? "" : "not ", ++number, what);
    failures += !good;
}

static int list(uint32_t first, unsigned most, xc_domaininfo_t *info)
{
    unsigned given = 0;
    asked++;
    if (broken)
        return -1;
    for (uint32_t domid = first; domid < DOMAINS_MAX && given < most; domid++)
        if (here[domid])
            info[given++] = (xc_domaininfo_t){ .domain = (domid_t)domid, .flags = flags[domid] };
    listed += given;
    return (int)given;
}

static void dead(unsigned domid)
{
    dead_count++;
    last_dead = domid;
}

static bool news(void)
{
    bool told;
    asked = listed = dead_count = 0;
    return deaths_look(list, dead, &told) == 0 && told;
}

static void make(unsigned first, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        here[first + i] = true;
        flags[first + i] = 0;
    }
}

static void strangers(void)
{
    make(0x7000, 2000);
    ok(!news() && asked == 0, "with none that the store knows Xen is not even asked");
    deaths_introduced(5);
    make(5, 1);
    here[0x7001] = false;
    flags[0x7002] = XEN_DOMINF_shutdown;
    ok(!news(), "the end of others is no news");
    ok(listed == 1 && dead_count == 0, "and they are not listed beside one that it knows");
}

static void known(void)
{
    flags[5] = XEN_DOMINF_shutdown;
    ok(news() && dead_count == 0, "one that shut down is told of, and lives on");
    ok(!news(), "once");
    flags[5] = 0;
    ok(!news(), "going on is no news");
    flags[5] = XEN_DOMINF_shutdown;
    ok(news(), "to shut down again is");
    flags[5] = XEN_DOMINF_shutdown | XEN_DOMINF_dying;
    ok(!news() && dead_count == 1 && last_dead == 5, "its ring is let go when it dies");
    here[5] = false;
    ok(news() && last_dead == 5, "that it is gone is told");
    ok(!news() && asked == 0, "once, and then it is forgotten");
}

static void many(void)
{
    make(100, 3000);
    for (unsigned domid = 100; domid < 3100; domid++)
        deaths_introduced(domid);
    ok(!news() && listed == 3000 && asked == 3, "three thousand are listed, a thousand at a time");
    here[100] = here[1500] = here[3099] = false;
    ok(news() && dead_count == 3, "the first, the last and one between are missed");
    broken = true;
    for (unsigned domid = 200; domid < 300; domid++)
        here[domid] = false;
    bool told = true;
    dead_count = 0;
    ok(deaths_look(list, dead, &told) == -1 && !told && dead_count == 0, "nobody is dead because Xen could not be asked");
    broken = false;
    ok(news() && dead_count == 100, "they are found the next time");
    deaths_released(400);
    here[400] = false;
    ok(!news(), "one that was released ends without a word");
    deaths_introduced(400);
    ok(news() && last_dead == 400, "one that was gone as it was introduced is found");
}

int main(void)
{
    strangers();
    known();
    many();
    printf("1..%d\n", number);
    return failures != 0;
}
