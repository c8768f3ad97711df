/*
 * Vifs: attached, detached, given up when their guest breaks the rules, and found again by the next switch. No step here costs more when
 * there are more vifs, but for the start, which looks at each once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hypervisor.h"
#include "switch.h"

static struct vif *by_domain[DOMIDS];
static struct vif **by_port;
static uint32_t by_port_size;
static struct vif **by_slot;
static struct link failing = { &failing, &failing };
static unsigned count;

void vifs_init(void)
{
    by_slot = calloc(VIFS_MAX, sizeof(struct vif *));
    if (!by_slot)
        abort();
}

unsigned vifs_count(void)
{
    return count;
}

struct vif *vif_find(unsigned domid, uint32_t handle)
{
    struct vif *v = domid < DOMIDS ? by_domain[domid] : NULL;
    while (v && v->record->handle != handle)
        v = v->domain_next;
    return v;
}

struct vif *vif_by_slot(uint32_t slot)
{
    return slot < VIFS_MAX ? by_slot[slot] : NULL;
}

struct vif *vif_by_port(uint32_t port)
{
    return port < by_port_size ? by_port[port] : NULL;
}

/* ---- failure ---- */

static void disconnect(struct vif *v)
{
    if (!v->tx)
        return;
    lasting_drop(v);
    link_remove(&v->queue);
    v->masked = false;
    by_port[v->port] = NULL;
    hypervisor_unbind(v->port);
    hypervisor_unmap(v->tx);
    v->tx = NULL;
    v->rx = NULL;
}

/* Its rings stay until the end of the turn, for the batch may speak of them. */
void vif_fail(struct vif *v, const char *why)
{
    if (v->failing)
        return;
    fprintf(stderr, "shoal-switch: vif %u.%u is broken: %s\n", v->record->domid, v->record->handle, why);
    v->record->state = RECORD_BROKEN;
    v->failing = true;
    link_remove(&v->queue);
    link_append(&failing, &v->queue);
}

void vifs_bury(void)
{
    while (failing.next != &failing)
        disconnect((struct vif *)((char *)failing.next - offsetof(struct vif, queue)));
}

/* ---- attach, identity, detach ---- */

static int room_for_port(uint32_t port)
{
    if (port < by_port_size)
        return 0;
    uint32_t size = by_port_size ? by_port_size : 1024;
    while (size <= port)
        size *= 2;
    struct vif **grown = realloc(by_port, size * sizeof *grown);
    if (!grown)
        return ENOMEM;
    memset(grown + by_port_size, 0, (size - by_port_size) * sizeof *grown);
    by_port = grown;
    by_port_size = size;
    return 0;
}

/* Maps the rings, binds the event channel, and goes on where the shared rings say that a switch stopped. */
static int connect_vif(struct vif *v)
{
    const uint64_t frames[2] = { v->record->tx_frame, v->record->rx_frame };
    void *pages = hypervisor_map(v->record->domid, frames);
    if (!pages)
        return errno ? errno : EFAULT;
    int port = hypervisor_bind(v->record->domid, v->record->port);
    int error = port < 0 ? errno : room_for_port((uint32_t)port);
    if (error) {
        if (port >= 0)
            hypervisor_unbind((uint32_t)port);
        hypervisor_unmap(pages);
        return error;
    }
    v->tx = pages;
    v->rx = (netif_rx_sring_t *)((uint8_t *)pages + PAGE);
    v->port = (uint32_t)port;
    by_port[port] = v;
    vif_start_rings(v);
    return 0;
}

static struct vif *make(uint32_t slot, struct network *n)
{
    struct vif *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->slot = slot;
    v->record = state_record(slot);
    v->network = n;
    return v;
}

static void list_vif(struct vif *v)
{
    by_slot[v->slot] = v;
    v->domain_next = by_domain[v->record->domid];
    by_domain[v->record->domid] = v;
    count++;
}

int vif_attach(unsigned domid, uint32_t handle, struct network *n, uint64_t tx_frame, uint64_t rx_frame, uint32_t port)
{
    unsigned siblings = 0;
    for (struct vif *v = by_domain[domid]; v; v = v->domain_next, siblings++)
        if (v->record->handle == handle)
            return EEXIST;
    if (siblings == VIFS_OF_DOMAIN_MAX)
        return ENOSPC;
    uint32_t slot;
    int error = state_take(&slot);
    if (error)
        return error;
    struct vif *v = make(slot, n);
    if (!v) {
        state_give(slot);
        return ENOMEM;
    }
    struct record *r = v->record;
    r->domid = (uint16_t)domid;
    r->handle = handle;
    r->network = (uint16_t)n->index;
    r->tx_frame = tx_frame;
    r->rx_frame = rx_frame;
    r->port = port;
    error = connect_vif(v);
    if (error) {
        free(v);
        state_give(slot);
        return error;
    }
    crash_point();
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    r->state = RECORD_UP;
    list_vif(v);
    return 0;
}

static void drop(struct vif *v)
{
    mirror_stop(v);
    identity_forget(v);
    places_left(v);
    hold_left(v);
    backlog_drop(v);
    disconnect(v);
    link_remove(&v->queue);
    v->record->state = RECORD_FREE;
    state_give(v->slot);
    by_slot[v->slot] = NULL;
    free(v->traffic);
    free(v);
    count--;
}

unsigned vif_detach(unsigned domid)
{
    unsigned dropped = 0;
    vifs_bury();
    while (by_domain[domid]) {
        struct vif *v = by_domain[domid];
        by_domain[domid] = v->domain_next;
        drop(v);
        dropped++;
    }
    return dropped;
}

/* ---- resume ---- */

static bool sound(const struct record *r)
{
    if ((r->state != RECORD_UP && r->state != RECORD_BROKEN) || r->domid >= DOMIDS || r->network >= NETWORKS_MAX)
        return false;
    if (!networks[r->network].record->used || r->current > 2 || vif_find(r->domid, r->handle))
        return false;
    return !r->current || r->identities[r->current - 1].address_count <= ADDRESSES_MAX;
}

static void resume(uint32_t slot)
{
    struct record *r = state_record(slot);
    if (r->state == RECORD_FREE)
        return;
    struct vif *v = sound(r) ? make(slot, &networks[r->network]) : NULL;
    int error = !v ? EINVAL : r->state == RECORD_UP ? connect_vif(v) : 0;
    if (!error && vif_identity(v))
        error = identity_conflict(v, vif_identity(v));
    if (error) {
        fprintf(stderr, "shoal-switch: vif %u.%u is not there any more: %s\n", r->domid, r->handle, strerror(error));
        if (v)
            disconnect(v);
        free(v);
        r->state = RECORD_FREE;
        state_give(slot);
        return;
    }
    list_vif(v);
    if (vif_identity(v))
        identity_learn(v);
}

void vifs_resume(void)
{
    for (uint32_t slot = 0; slot < state_used(); slot++)
        resume(slot);
    /* The answers that the last switch was giving. Those behind the ring's index were given, and their slots may be in use again. */
    size_t answers;
    const struct answer *a = state_committed(&answers);
    for (size_t i = 0; i < answers; i++) {
        struct vif *v = vif_by_slot(a[i].slot);
        if (!v || !v->tx)
            continue;
        if (a[i].index == (a[i].ring == RING_TX ? v->tx_answered : v->rx_answered))
            vif_answer(v, &a[i]);
    }
    for (uint32_t slot = 0; slot < state_used(); slot++) {
        struct vif *v = by_slot[slot];
        if (!v || !v->tx)
            continue;
        vif_push(v);
        v->tx_seen = v->tx_taken = v->tx_answered;
        v->rx_seen = v->rx_taken = v->rx_answered;
        event_notify(v); /* the last one may not have come to it */
    }
    events_notify();
    state_clear();
}

void vifs_close(void)
{
    vifs_bury();
    for (uint32_t slot = 0; slot < state_used(); slot++) {
        struct vif *v = by_slot[slot];
        if (!v)
            continue;
        mirror_stop(v);
        disconnect(v);
        by_domain[v->record->domid] = NULL;
        free(v->traffic);
        free(v);
    }
    backlog_reset();
    free(by_slot);
    free(by_port);
    identities_close();
    by_slot = by_port = NULL;
    by_port_size = 0;
    count = 0;
}
