/*
 * Event channels, both ways, in bulk. A channel that fired is masked until its vif has been idle for a while and is woken by event again: a busy
 * guest is looked at and costs no event. Guests are told at the end of a turn, all by one call.
 */
#include "hypervisor.h"
#include "switch.h"

#define PORTS_AT_ONCE 256u

struct ports { uint32_t ports[PORTS_AT_ONCE]; size_t count; };
static struct ports to_unmask, to_notify;

void events_unmask(void)
{
    if (to_unmask.count)
        hypervisor_unmask(to_unmask.ports, to_unmask.count);
    to_unmask.count = 0;
}

void events_notify(void)
{
    if (to_notify.count)
        hypervisor_notify(to_notify.ports, to_notify.count);
    totals.notifies += to_notify.count;
    to_notify.count = 0;
}

void event_unmask(struct vif *v)
{
    if (!v->masked)
        return;
    v->masked = false;
    if (to_unmask.count == PORTS_AT_ONCE)
        events_unmask();
    to_unmask.ports[to_unmask.count++] = v->port;
}

void event_notify(struct vif *v)
{
    if (to_notify.count == PORTS_AT_ONCE)
        events_notify();
    to_notify.ports[to_notify.count++] = v->port;
}

/* Those that are more than fit keep the descriptor readable. */
void events_take(void)
{
    uint32_t fired[PORTS_AT_ONCE];
    size_t count = hypervisor_events(fired, PORTS_AT_ONCE);
    for (size_t i = 0; i < count; i++) {
        struct vif *v = vif_by_port(fired[i]);
        if (!v)
            continue;
        v->masked = true;
        vif_ready(v);
        if (!v->queue.next)
            event_unmask(v); /* without identity nobody looks at it, so it would never rest */
    }
    events_unmask();
}
