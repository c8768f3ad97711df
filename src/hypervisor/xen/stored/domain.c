/*
 * Domains: rings shared with guests and with dom0's kernel, their event channels, and deaths.
 *
 * A guest may do anything to its ring. Indices are therefore kept here and only written there; a producer index that is more than a ring
 * ahead ends the connection. Each guest is served a few requests in turn, so that one that floods the store takes its share and no more.
 *
 * Deaths: Xen raises VIRQ_DOM_EXC without saying for whom, so a list of domains is read once for any number of them, and not again
 * before twenty times the cost of the last reading has passed: at most a twentieth of the processor, however many guests die (deaths.c says which
 * are listed).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>
#include <xen/grant_table.h>
#include <xen/sys/xenbus_dev.h>
#include "deaths.h"
#include "store.h"

#define RING XENSTORE_RING_SIZE
#define FAIR_SHARE 8          /* requests of one domain before the next has its turn */
#define PORTS_AT_ONCE 256
#define RETRY_US 10000        /* after a list of domains that could not be had */

struct ring {
    struct xenstore_domain_interface *page;
    enum { MAP_KERNEL, MAP_GRANT, MAP_FOREIGN } how;
    evtchn_port_t port;       /* ours */
    uint32_t req_cons, rsp_prod;
    struct connection *notify_next;
    bool notify;
};

static xenevtchn_handle *events;
static xengnttab_handle *grants;
static xenforeignmemory_handle *foreign;
static xc_interface *control;
static evtchn_port_t deaths_port;
static struct connection **by_port;
static size_t by_port_size;
static struct connection *by_domid[DOMAINS_MAX];
static struct connection *ready_first, *ready_last, *notify_first;
static bool deaths_due;
static int64_t deaths_not_before_us;

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void make_ready(struct connection *c)
{
    if (c->ready || c->closed)
        return;
    c->ready = true;
    c->ready_next = NULL;
    if (ready_last)
        ready_last->ready_next = c;
    else
        ready_first = c;
    ready_last = c;
}

static void want_notify(struct connection *c)
{
    if (c->ring->notify)
        return;
    c->ring->notify = true;
    c->ring->notify_next = notify_first;
    notify_first = c;
}

static void send_notifies(void)
{
    while (notify_first) {
        struct connection *c = notify_first;
        notify_first = c->ring->notify_next;
        c->ring->notify = false;
        xenevtchn_notify(events, c->ring->port);
    }
}

static struct connection *connect_ring(unsigned domid, struct xenstore_domain_interface *page, int how, evtchn_port_t port)
{
    struct connection *c = connection_new(-1, domid, domid == 0);
    c->ring = xalloc(sizeof *c->ring);
    c->ring->page = page;
    c->ring->how = how;
    c->ring->port = port;
    c->ring->req_cons = page->req_cons;
    c->ring->rsp_prod = page->rsp_prod;
    if (port >= by_port_size) {
        size_t size = (size_t)port * 2 + 64;
        by_port = realloc(by_port, size * sizeof *by_port);
        if (!by_port)
            abort();
        memset(by_port + by_port_size, 0, (size - by_port_size) * sizeof *by_port);
        by_port_size = size;
    }
    by_port[port] = c;
    by_domid[domid] = c;
    make_ready(c);
    return c;
}

static void disconnect(unsigned domid)
{
    struct connection *c = by_domid[domid];
    if (!c)
        return;
    send_notifies();
    connection_close(c);
    by_domid[domid] = NULL;
    by_port[c->ring->port] = NULL;
    xenevtchn_unbind(events, c->ring->port);
    if (c->ring->how == MAP_GRANT)
        xengnttab_unmap(grants, c->ring->page, 1);
    else if (c->ring->how == MAP_FOREIGN)
        xenforeignmemory_unmap(foreign, c->ring->page, 1);
    free(c->ring);
    c->ring = NULL;
}

static int connect_kernel(void)
{
    int fd = open("/dev/xen/xenbus_backend", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        perror("shoal-stored: /dev/xen/xenbus_backend");
        return -1;
    }
    int remote = ioctl(fd, IOCTL_XENBUS_BACKEND_EVTCHN);
    void *page = mmap(NULL, XC_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (remote < 0 || page == MAP_FAILED) {
        perror("shoal-stored: the kernel's store ring");
        return -1;
    }
    int port = xenevtchn_bind_interdomain(events, 0, (evtchn_port_t)remote);
    if (port < 0) {
        perror("shoal-stored: binding the kernel's event channel");
        return -1;
    }
    connect_ring(0, page, MAP_KERNEL, (evtchn_port_t)port);
    xenevtchn_notify(events, (evtchn_port_t)port);
    return 0;
}

int domains_open(void)
{
    events = xenevtchn_open(NULL, 0);
    grants = xengnttab_open(NULL, 0);
    foreign = xenforeignmemory_open(NULL, 0);
    control = xc_interface_open(NULL, NULL, 0);
    if (!events || !grants || !foreign || !control) {
        perror("shoal-stored: opening Xen's devices (is this dom0?)");
        return -1;
    }
    int virq = xenevtchn_bind_virq(events, VIRQ_DOM_EXC);
    if (virq < 0) {
        perror("shoal-stored: binding VIRQ_DOM_EXC (does another store daemon run?)");
        return -1;
    }
    deaths_port = (evtchn_port_t)virq;
    return connect_kernel();
}

int domains_fd(void) { return xenevtchn_fd(events); }

int domain_introduce(unsigned domid, uint64_t gfn, uint32_t remote)
{
    if (domid == 0)
        return 0; /* dom0's kernel is connected from the start */
    if (by_domid[domid]) {
        watch_fire_special("@introduceDomain");
        return 0;
    }
    int how = MAP_GRANT;
    void *page = xengnttab_map_grant_ref(grants, domid, GNTTAB_RESERVED_XENSTORE, PROT_READ | PROT_WRITE);
    if (!page) {
        xen_pfn_t frame = (xen_pfn_t)gfn;
        int error = 0;
        how = MAP_FOREIGN;
        page = xenforeignmemory_map(foreign, domid, PROT_READ | PROT_WRITE, 1, &frame, &error);
        if (!page || error)
            return EINVAL;
    }
    int port = xenevtchn_bind_interdomain(events, domid, remote);
    if (port < 0) {
        if (how == MAP_GRANT)
            xengnttab_unmap(grants, page, 1);
        else
            xenforeignmemory_unmap(foreign, page, 1);
        return EINVAL;
    }
    struct connection *c = connect_ring(domid, page, how, (evtchn_port_t)port);
    c->ring->page->server_features = 0;
    deaths_introduced(domid);
    watch_fire_special("@introduceDomain");
    return 0;
}

int domain_release(unsigned domid)
{
    if (domid == 0 || !by_domid[domid])
        return domid ? ENOENT : EINVAL;
    disconnect(domid);
    deaths_released(domid);
    watch_fire_special("@releaseDomain");
    return 0;
}

bool domain_introduced(unsigned domid) { return by_domid[domid] != NULL; }

void domain_flush(struct connection *c)
{
    struct ring *r = c->ring;
    struct chunk *k;
    while ((k = c->out_first)) {
        uint32_t cons = __atomic_load_n(&r->page->rsp_cons, __ATOMIC_ACQUIRE), used = r->rsp_prod - cons;
        if (used >= RING)
            return; /* full, or a guest that moved its index: either way there is no room */
        uint32_t at = r->rsp_prod & (RING - 1), part = RING - used;
        if (part > RING - at)
            part = RING - at;
        if (part > k->len - k->done)
            part = (uint32_t)(k->len - k->done);
        memcpy(r->page->rsp + at, k->bytes + k->done, part);
        r->rsp_prod += part;
        __atomic_store_n(&r->page->rsp_prod, r->rsp_prod, __ATOMIC_RELEASE);
        want_notify(c);
        k->done += part;
        c->out_bytes -= part;
        if (k->done == k->len) {
            c->out_first = k->next;
            if (!c->out_first)
                c->out_last = NULL;
            free(k);
        }
    }
}

/* Takes up to `want` bytes from the ring into `to`; returns how many there were. */
static uint32_t take(struct connection *c, char *to, uint32_t want)
{
    struct ring *r = c->ring;
    uint32_t taken = 0;
    while (taken < want) {
        uint32_t there = __atomic_load_n(&r->page->req_prod, __ATOMIC_ACQUIRE) - r->req_cons;
        if (there > RING) {
            r->page->error = XENSTORE_ERROR_RINGIDX;
            connection_close(c);
            return 0;
        }
        uint32_t at = r->req_cons & (RING - 1), part = want - taken;
        if (part > there)
            part = there;
        if (part > RING - at)
            part = RING - at;
        if (!part)
            break;
        memcpy(to + taken, r->page->req + at, part);
        r->req_cons += part;
        __atomic_store_n(&r->page->req_cons, r->req_cons, __ATOMIC_RELEASE);
        taken += part;
    }
    if (taken)
        want_notify(c);
    return taken;
}

/* Reads one request and handles it. False when no whole request is there, or none may be taken now. */
static bool serve_one(struct connection *c)
{
    domain_flush(c);
    if (c->out_first && !c->privileged)
        return false; /* a guest that does not read its answers asks nothing more */
    size_t head = sizeof c->header;
    if (c->in_have < head) {
        c->in_have += take(c, (char *)&c->header + c->in_have, (uint32_t)(head - c->in_have));
        if (c->closed || c->in_have < head)
            return false;
        if (c->header.len > XENSTORE_PAYLOAD_MAX) {
            c->ring->page->error = XENSTORE_ERROR_PROTO;
            connection_close(c);
            return false;
        }
    }
    size_t got = c->in_have - head;
    got += take(c, c->payload + got, (uint32_t)(c->header.len - got));
    if (c->closed)
        return false;
    c->in_have = head + got;
    if (got < c->header.len)
        return false;
    c->payload[got] = 0;
    c->in_have = 0;
    struct xsd_sockmsg h = c->header;
    request_handle(c, &h, c->payload);
    return true;
}

static int list_domains(uint32_t first, unsigned most, xc_domaininfo_t *info) { return xc_domain_getinfolist(control, first, most, info); }

static void look_for_deaths(void)
{
    bool news;
    int64_t begun = now_us();
    deaths_due = deaths_look(list_domains, disconnect, &news) != 0;
    int64_t done = now_us();
    deaths_not_before_us = done + 20 * (done - begun) + (deaths_due ? RETRY_US : 0);
    if (news)
        watch_fire_special("@releaseDomain");
}

void domains_event(void)
{
    evtchn_port_t ports[PORTS_AT_ONCE];
    ssize_t got = read(xenevtchn_fd(events), ports, sizeof ports);
    if (got <= 0)
        return;
    for (size_t i = 0; i < (size_t)got / sizeof *ports; i++) {
        if (ports[i] == deaths_port) {
            deaths_due = true;
            watch_fire_special("@domainEnds"); /* whoever wants to know of others than those the store knows looks for himself */
        } else if (ports[i] < by_port_size && by_port[ports[i]])
            make_ready(by_port[ports[i]]);
    }
    /* Unmasking is a write of the same ports: one call for all. */
    if (write(xenevtchn_fd(events), ports, (size_t)got) != got)
        perror("shoal-stored: unmasking event channels");
}

bool domains_work(void)
{
    if (deaths_due && now_us() >= deaths_not_before_us)
        look_for_deaths();
    struct connection *turn = ready_first;
    ready_first = ready_last = NULL;
    while (turn) {
        struct connection *c = turn;
        turn = c->ready_next;
        c->ready = false;
        int served = 0;
        while (c->ring && !c->closed && served < FAIR_SHARE && serve_one(c))
            served++;
        if (served == FAIR_SHARE && c->ring)
            make_ready(c);
    }
    send_notifies();
    return ready_first != NULL;
}

int domains_timeout_ms(void)
{
    if (!deaths_due)
        return -1;
    int64_t wait = deaths_not_before_us - now_us();
    return wait <= 0 ? 0 : (int)(wait / 1000) + 1;
}
