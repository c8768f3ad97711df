/*
 * The real Xen, by its stable libraries alone: a switch built once runs on later releases too. The event device is read and written
 * directly, for the library knows one port a call.
 */
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xencall.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include "hypervisor.h"

/* Linux's event device takes and gives a page of ports in one call. */
#define PORTS_MAX 1024u
#define NOTIFIES_MAX 32u /* in one call */
#define XC_PAGE 4096u

/* Memory that Xen may read while it is in a call of ours. */
struct notifies { multicall_entry_t calls[NOTIFIES_MAX]; struct evtchn_send sends[NOTIFIES_MAX]; };

static xenevtchn_handle *events;
static xengnttab_handle *grants;
static xenforeignmemory_handle *foreign;
static xencall_handle *calls;
static struct notifies *notifies; /* NULL: one by one */

int hypervisor_open(void)
{
    events = xenevtchn_open(NULL, 0);
    if (!events) {
        perror("shoal-switch: /dev/xen/evtchn");
        return -1;
    }
    grants = xengnttab_open(NULL, 0);
    if (!grants) {
        perror("shoal-switch: /dev/xen/gntdev");
        return -1;
    }
    foreign = xenforeignmemory_open(NULL, 0);
    if (!foreign) {
        perror("shoal-switch: /dev/xen/privcmd");
        return -1;
    }
    calls = xencall_open(NULL, 0);
    notifies = calls ? xencall_alloc_buffer(calls, sizeof *notifies) : NULL;
    return 0;
}

int hypervisor_fd(void)
{
    return xenevtchn_fd(events);
}

/* Both pages in one mapping: a mapping is what vm.max_map_count counts. */
void *hypervisor_map(unsigned domid, const uint64_t frames[2])
{
    const xen_pfn_t both[2] = { frames[0], frames[1] };
    return xenforeignmemory_map(foreign, domid, PROT_READ | PROT_WRITE, 2, both, NULL);
}

void hypervisor_unmap(void *pages)
{
    if (xenforeignmemory_unmap(foreign, pages, 2))
        perror("shoal-switch: unmapping rings");
}

int hypervisor_bind(unsigned domid, uint32_t port)
{
    return xenevtchn_bind_interdomain(events, domid, port);
}

void hypervisor_unbind(uint32_t port)
{
    if (xenevtchn_unbind(events, port))
        perror("shoal-switch: unbinding an event channel");
}

size_t hypervisor_events(uint32_t *ports, size_t room)
{
    if (room > PORTS_MAX)
        room = PORTS_MAX;
    ssize_t got = read(xenevtchn_fd(events), ports, room * sizeof *ports);
    return got <= 0 ? 0 : (size_t)got / sizeof *ports;
}

void hypervisor_unmask(const uint32_t *ports, size_t count)
{
    ssize_t bytes = (ssize_t)(count * sizeof *ports);
    if (count && write(xenevtchn_fd(events), ports, (size_t)bytes) != bytes)
        perror("shoal-switch: unmasking event channels");
}

/* By the event device. Fails when the guest has just gone: then nobody waits for it. */
static void notify_each(const uint32_t *ports, size_t count)
{
    for (size_t i = 0; i < count; i++)
        xenevtchn_notify(events, ports[i]);
}

/* What a multicall does not do is done by the device, which knows the port as well. */
static void notify_some(const uint32_t *ports, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        notifies->sends[i].port = ports[i];
        notifies->calls[i] = (multicall_entry_t){ .op = __HYPERVISOR_event_channel_op, .args = { EVTCHNOP_send, (uintptr_t)&notifies->sends[i] } };
    }
    if (xencall2(calls, __HYPERVISOR_multicall, (uintptr_t)notifies->calls, count)) {
        perror("shoal-switch: notifying many at once");
        notifies = NULL;
        notify_each(ports, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (notifies->calls[i].result)
            notify_each(&ports[i], 1);
}

void hypervisor_notify(const uint32_t *ports, size_t count)
{
    for (size_t at = 0, some; at < count; at += some) {
        some = count - at < NOTIFIES_MAX ? count - at : NOTIFIES_MAX;
        if (some > 1 && notifies)
            notify_some(ports + at, some);
        else
            notify_each(ports + at, some);
    }
}

void *hypervisor_lend(unsigned domid, const uint32_t *refs, size_t count, bool write, uint8_t **pages)
{
    uint8_t *base = xengnttab_map_domain_grant_refs(grants, (uint32_t)count, domid, (uint32_t *)refs, PROT_READ | (write ? PROT_WRITE : 0));
    for (size_t i = 0; base && i < count; i++)
        pages[i] = base + i * XC_PAGE;
    return base;
}

void hypervisor_return(void *handle, size_t count)
{
    if (xengnttab_unmap(grants, handle, (uint32_t)count))
        perror("shoal-switch: unmapping buffers");
}

int hypervisor_copy(xengnttab_grant_copy_segment_t *segments, size_t count)
{
    return xengnttab_grant_copy(grants, (uint32_t)count, segments);
}
