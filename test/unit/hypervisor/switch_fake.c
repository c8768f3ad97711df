/* See switch_fake.h. The functions of hypervisor.h, and the guests' side of the rings. */
#include <linux/if_packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xen/grant_table.h>
#include "hypervisor.h"
#include "switch_fake.h"

#define CROWD_FIRST 100u /* ports of the crowd */

#define FRAME_AT 96u      /* in a slot of the ring */

struct world *world;
struct calls calls;
int crash_after;
int64_t clock_ahead_us;
unsigned crowd_size;
static int events = -1;
static int outside[2] = { -1, -1 };
static bool masked[GUESTS + 1], bound[GUESTS + 1];
static uint8_t crowd_rings[2 * PAGE] __attribute__((aligned(4096)));

void crash_point(void)
{
    if (crash_after > 0 && --crash_after == 0)
        _exit(77);
}

static int open_outside(struct packet *p, const char *interface, const char *bridge)
{
    *p = (struct packet){ .fd = -1, .guard = -1 };
    if (!strcmp(bridge, "nobridge"))
        return ENODEV;
    p->fd = dup(outside[0]);
    if (strcmp(interface, "shoal-n"))
        return 0; /* the ring is that of one network */
    for (unsigned i = 0; i < PACKET_SLOTS; i++)
        ((struct tpacket2_hdr *)(world->ring + i * PACKET_SLOT_BYTES))->tp_status = TP_STATUS_KERNEL;
    world->next_slot = 0;
    p->ring = world->ring;
    return 0;
}

static int join_outside(const char *interface, const char *bridge)
{
    (void)interface, (void)bridge;
    return 0;
}

static void close_outside(struct packet *p, const char *interface)
{
    (void)interface;
    close(p->fd);
    *p = (struct packet){ .fd = -1, .guard = -1 };
}

static const struct way way_outside = { open_outside, join_outside, close_outside };

void fake_init(void)
{
    if (world) {
        munmap(world, sizeof *world);
        close(outside[0]);
        close(outside[1]);
        close(events);
    }
    world = mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    events = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (world == MAP_FAILED || events < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, outside))
        abort();
    netif_tx_sring_t *tx = (netif_tx_sring_t *)crowd_rings;
    netif_rx_sring_t *rx = (netif_rx_sring_t *)(crowd_rings + PAGE);
    SHARED_RING_INIT(tx);
    SHARED_RING_INIT(rx);
    for (unsigned g = 1; g <= GUESTS; g++)
        guest_init(g, RING_SLOTS);
    uplink_way = &way_outside;
    fake_forget();
}

void fake_forget(void)
{
    memset(masked, 0, sizeof masked);
    memset(bound, 0, sizeof bound);
    crowd_size = 0;
}

/* ---- hypervisor.h ---- */

int hypervisor_open(void)
{
    if (!world)
        fake_init();
    return 0;
}

int hypervisor_fd(void)
{
    return events;
}

void *hypervisor_map(unsigned domid, const uint64_t frames[2])
{
    if (domid >= FIRST_GONE || (domid <= GUESTS && world->guests[domid].gone)) {
        errno = ESRCH;
        return NULL;
    }
    if (!frames[0] || frames[0] == frames[1]) {
        errno = EINVAL;
        return NULL;
    }
    return domid <= GUESTS ? world->guests[domid].rings : crowd_rings;
}

void hypervisor_unmap(void *pages)
{
    (void)pages;
}

int hypervisor_bind(unsigned domid, uint32_t port)
{
    if (port == 0 || (domid <= GUESTS && bound[domid])) {
        errno = EINVAL;
        return -1;
    }
    if (domid > GUESTS)
        return (int)(CROWD_FIRST + crowd_size++);
    bound[domid] = true;
    masked[domid] = false;
    guest_kick(domid); /* Xen raises one event when a channel is bound */
    return (int)domid;
}

void hypervisor_unbind(uint32_t port)
{
    if (port <= GUESTS)
        bound[port] = false;
}

size_t hypervisor_events(uint32_t *ports, size_t room)
{
    eventfd_t value;
    size_t count = 0;
    eventfd_read(events, &value);
    calls.events++;
    for (unsigned g = 1; g <= GUESTS && count < room; g++)
        if (bound[g] && !masked[g] && __atomic_exchange_n(&world->guests[g].pending, false, __ATOMIC_SEQ_CST)) {
            masked[g] = true;
            ports[count++] = g;
        }
    return count;
}

void hypervisor_unmask(const uint32_t *ports, size_t count)
{
    calls.unmasks++;
    for (size_t i = 0; i < count; i++) {
        masked[ports[i]] = false;
        if (__atomic_load_n(&world->guests[ports[i]].pending, __ATOMIC_SEQ_CST))
            eventfd_write(events, 1);
    }
}

void hypervisor_notify(const uint32_t *ports, size_t count)
{
    calls.notifies++;
    calls.ports += count;
    for (size_t i = 0; i < count; i++)
        if (ports[i] <= GUESTS)
            __atomic_add_fetch(&world->guests[ports[i]].notified, 1, __ATOMIC_SEQ_CST);
}

static bool copy_one(xengnttab_grant_copy_segment_t *s)
{
    bool in = s->flags & GNTCOPY_source_gref;
    uint32_t ref = in ? s->source.foreign.ref : s->dest.foreign.ref;
    uint16_t offset = in ? s->source.foreign.offset : s->dest.foreign.offset, domid = in ? s->source.foreign.domid : s->dest.foreign.domid;
    if (domid == 0 || domid > GUESTS || ref == 0 || ref > GRANTS || ref == world->guests[domid].bad_ref)
        return false;
    uint8_t *foreign = world->guests[domid].pages[ref - 1] + offset;
    memcpy(in ? s->dest.virt : foreign, in ? foreign : s->source.virt, s->len);
    return true;
}

int hypervisor_copy(xengnttab_grant_copy_segment_t *segments, size_t count)
{
    calls.copies++;
    calls.segments += count;
    /* As Linux does it: a segment that cannot be is the end of the whole call. */
    for (size_t i = 0; i < count; i++) {
        const xengnttab_grant_copy_segment_t *s = &segments[i];
        unsigned offset = s->flags & GNTCOPY_source_gref ? s->source.foreign.offset : s->dest.foreign.offset;
        if (offset + s->len > PAGE) {
            errno = EINVAL;
            return -1;
        }
        if (s->len > world->longest)
            world->longest = s->len;
    }
    for (size_t i = 0; i < count; i++)
        segments[i].status = copy_one(&segments[i]) ? GNTST_okay : GNTST_bad_gntref;
    return 0;
}

void *hypervisor_lend(unsigned domid, const uint32_t *refs, size_t count, bool write, uint8_t **pages)
{
    for (size_t i = 0; i < count; i++) {
        if (domid == 0 || domid > GUESTS || refs[i] == 0 || refs[i] > GRANTS || refs[i] == world->guests[domid].bad_ref || (write && refs[i] > RING_SLOTS))
            return NULL;
        pages[i] = world->guests[domid].pages[refs[i] - 1];
    }
    calls.lent += count;
    return pages[0];
}

void hypervisor_return(void *handle, size_t count)
{
    (void)handle;
    calls.lent -= count;
}

/* ---- guests ---- */

netif_tx_sring_t *guest_tx(unsigned g)
{
    return (netif_tx_sring_t *)world->guests[g].rings;
}

netif_rx_sring_t *guest_rx(unsigned g)
{
    return (netif_rx_sring_t *)(world->guests[g].rings + PAGE);
}

void guest_kick(unsigned g)
{
    __atomic_store_n(&world->guests[g].pending, true, __ATOMIC_SEQ_CST);
    eventfd_write(events, 1);
}

void guest_post(unsigned g, uint16_t id)
{
    netif_rx_sring_t *rx = guest_rx(g);
    struct guest *me = &world->guests[g];
    rx->ring[me->posted % RING_SLOTS].req = (netif_rx_request_t){ .id = id, .gref = id + 1u };
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint32_t old = me->posted++;
    rx->req_prod = me->posted;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if ((RING_IDX)(me->posted - rx->req_event) < (RING_IDX)(me->posted - old))
        me->kicks++; /* the switch asks for none of these */
}

void guest_init(unsigned g, unsigned buffers)
{
    struct guest *me = &world->guests[g];
    netif_tx_sring_t *tx = guest_tx(g);
    netif_rx_sring_t *rx = guest_rx(g);
    memset(me, 0, sizeof *me);
    SHARED_RING_INIT(tx);
    SHARED_RING_INIT(rx);
    for (unsigned i = 0; i < buffers; i++)
        guest_post(g, (uint16_t)i);
    me->kicks = 0;
}

uint8_t *guest_page(unsigned g)
{
    struct guest *me = &world->guests[g];
    return me->pages[RING_SLOTS + me->sent % RING_SLOTS];
}

void guest_request(unsigned g, uint16_t offset, uint16_t size, uint16_t flags)
{
    struct guest *me = &world->guests[g];
    netif_tx_sring_t *tx = guest_tx(g);
    uint32_t i = me->sent % RING_SLOTS;
    tx->ring[i].req = (netif_tx_request_t){ .gref = RING_SLOTS + i + 1, .offset = offset, .flags = flags, .id = (uint16_t)i, .size = size };
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint32_t old = me->sent++;
    tx->req_prod = me->sent;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if ((RING_IDX)(me->sent - tx->req_event) < (RING_IDX)(me->sent - old))
        guest_kick(g);
}

bool guest_send(unsigned g, const void *frame, size_t length, uint16_t flags)
{
    struct guest *me = &world->guests[g];
    guest_reap(g);
    if (me->sent - me->reaped == RING_SLOTS)
        return false;
    memcpy(guest_page(g), frame, length);
    guest_request(g, 0, (uint16_t)length, flags);
    return true;
}

void guest_reap(unsigned g)
{
    struct guest *me = &world->guests[g];
    netif_tx_sring_t *tx = guest_tx(g);
    uint32_t until = *(volatile RING_IDX *)&tx->rsp_prod;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (until - me->reaped > me->sent - me->reaped)
        check(false, "guest %u: more answers than frames", g);
    for (; me->reaped != until; me->reaped++) {
        const netif_tx_response_t r = tx->ring[me->reaped % RING_SLOTS].rsp;
        if (r.id != me->reaped % RING_SLOTS || r.status < -2 || r.status > 1)
            check(false, "guest %u: answer %u is of %u", g, me->reaped, r.id);
        else
            me->statuses[r.status + 2]++;
    }
}

size_t guest_receive(unsigned g, void *frame, uint16_t *flags)
{
    struct guest *me = &world->guests[g];
    netif_rx_sring_t *rx = guest_rx(g);
    for (;;) {
        uint32_t until = *(volatile RING_IDX *)&rx->rsp_prod;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (until == me->received)
            return 0;
        const netif_rx_response_t r = rx->ring[me->received++ % RING_SLOTS].rsp;
        if (r.id >= RING_SLOTS || r.offset || r.status > (int)FRAME_MAX) {
            check(false, "guest %u: a strange answer", g);
            return 0;
        }
        if (r.status > 0)
            memcpy(frame, me->pages[r.id], (size_t)r.status);
        if (flags)
            *flags = r.flags;
        if (!me->holds)
            guest_post(g, r.id);
        if (r.status > 0)
            return (size_t)r.status;
    }
}

/* ---- outside ---- */

size_t outside_receive(uint8_t header[10], void *frame)
{
    struct iovec v[2] = { { header, 10 }, { frame, OUTSIDE_MAX } };
    ssize_t got = readv(outside[1], v, 2);
    return got < 10 ? 0 : (size_t)got - 10;
}

bool outside_put(const uint8_t header[10], const void *frame, size_t length, size_t whole, uint32_t status, uint16_t tag, uint16_t type)
{
    static const uint8_t none[10];
    uint8_t *slot = world->ring + world->next_slot % PACKET_SLOTS * PACKET_SLOT_BYTES;
    struct tpacket2_hdr *h = (struct tpacket2_hdr *)slot;
    if (h->tp_status != TP_STATUS_KERNEL)
        return false;
    memset(slot + sizeof h->tp_status, 0x55, PACKET_SLOT_BYTES - sizeof h->tp_status);
    memcpy(slot + FRAME_AT - 10, header ? header : none, 10);
    memcpy(slot + FRAME_AT, frame, length);
    h->tp_mac = FRAME_AT;
    h->tp_snaplen = (uint32_t)length;
    h->tp_len = (uint32_t)whole;
    h->tp_vlan_tci = tag;
    h->tp_vlan_tpid = type;
    __atomic_store_n(&h->tp_status, TP_STATUS_USER | status, __ATOMIC_RELEASE);
    world->next_slot++;
    return true;
}

bool outside_send(const uint8_t header[10], const void *frame, size_t length)
{
    return outside_put(header, frame, length, length, 0, 0, 0);
}
