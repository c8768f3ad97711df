/*
 * Whose end is news to those that watch @releaseDomain: as with Xen's own daemons, that of a domain that was introduced to the store. A thousand
 * guests that know no store come and go without a word to xenconsoled, which looks at every domain of the host each time it hears one.
 *
 * Xen tells only that some domain ended, so the introduced ones are looked at: by one list from the lowest of their numbers to the highest. Where
 * none is, nothing is asked.
 */
#include <string.h>
#include "deaths.h"

#define AT_ONCE 1024u

static enum { UNKNOWN, ALIVE, ENDED } state[DOMAINS_MAX];
static uint16_t introduced[DOMAINS_MAX];
static unsigned count;
static uint32_t seen[DOMAINS_MAX], looks;

void deaths_introduced(unsigned domid)
{
    if (state[domid] == UNKNOWN)
        introduced[count++] = (uint16_t)domid;
    state[domid] = ALIVE;
}

static void forget(unsigned at)
{
    state[introduced[at]] = UNKNOWN;
    introduced[at] = introduced[--count];
}

void deaths_released(unsigned domid)
{
    for (unsigned i = 0; i < count; i++)
        if (introduced[i] == domid) {
            forget(i);
            return;
        }
}

/* What Xen lists of them; -1 when it could not be asked. */
static int take_list(deaths_list *list, void (*dead)(unsigned domid), bool *news)
{
    static xc_domaininfo_t info[AT_ONCE];
    unsigned first = DOMAINS_MAX, last = 0;

    for (unsigned i = 0; i < count; i++) {
        first = introduced[i] < first ? introduced[i] : first;
        last = introduced[i] > last ? introduced[i] : last;
    }
    while (first <= last) {
        unsigned most = last - first + 1 < AT_ONCE ? last - first + 1 : AT_ONCE;
        int given = list(first, most, info);
        if (given < 0)
            return -1;
        for (int i = 0; i < given; i++) {
            unsigned domid = info[i].domain;
            if (domid >= DOMAINS_MAX || state[domid] == UNKNOWN)
                continue;
            bool over = info[i].flags & (XEN_DOMINF_dying | XEN_DOMINF_shutdown);
            seen[domid] = looks;
            *news |= over && state[domid] != ENDED;
            state[domid] = over ? ENDED : ALIVE;
            if (info[i].flags & XEN_DOMINF_dying)
                dead(domid);
        }
        if (given < (int)most)
            break;
        first = info[given - 1].domain + 1u;
    }
    return 0;
}

int deaths_look(deaths_list *list, void (*dead)(unsigned domid), bool *news)
{
    *news = false;
    looks++;
    if (take_list(list, dead, news))
        return -1;
    for (unsigned i = count; i-- > 0;) {
        unsigned domid = introduced[i];
        if (seen[domid] == looks)
            continue;
        forget(i);
        dead(domid);
        *news = true;
    }
    return 0;
}
