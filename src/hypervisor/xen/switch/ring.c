/*
 * The rings of a vif, and the queues of vifs that have something in theirs, or had a moment ago. A guest can write its rings at any time: indices are read once,
 * kept here and only written there, and a producer that is more than a ring ahead of what was answered breaks the vif, and nobody else.
 */
#include "switch.h"

/* Between processors: what was read before, written before; and both. */
#define READ_BARRIER() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define WRITE_BARRIER() __atomic_thread_fence(__ATOMIC_RELEASE)
#define FULL_BARRIER() __atomic_thread_fence(__ATOMIC_SEQ_CST)

static struct link ready = { &ready, &ready };
static struct link watched = { &watched, &watched };

static struct vif *vif_of(struct link *queue)
{
    return (struct vif *)((char *)queue - offsetof(struct vif, queue));
}

void vif_ready(struct vif *v)
{
    if (v->queue.next || !v->tx || !v->record->current)
        return;
    link_append(&ready, &v->queue);
}

struct vif *vifs_next(void)
{
    if (ready.next == &ready)
        return NULL;
    struct vif *v = vif_of(ready.next);
    link_remove(&v->queue);
    return v;
}

bool vifs_waiting(void)
{
    return ready.next != &ready;
}

static uint32_t shared(const RING_IDX *index)
{
    uint32_t value = *(const volatile RING_IDX *)index;
    READ_BARRIER();
    return value;
}

bool vif_look(struct vif *v)
{
    if (v->tx_seen != v->tx_taken)
        return true;
    v->tx_seen = shared(&v->tx->req_prod);
    if (v->tx_seen - v->tx_answered > RING_SLOTS) {
        v->tx_seen = v->tx_taken;
        vif_fail(v, "more frames than its ring holds");
        return false;
    }
    return v->tx_seen != v->tx_taken;
}

bool vif_look_again(struct vif *v)
{
    v->tx->req_event = v->tx_taken + 1;
    FULL_BARRIER(); /* the guest sees this before we look */
    return vif_look(v);
}

void vif_watch(struct vif *v)
{
    v->idle = 0;
    link_append(&watched, &v->queue);
}

void vifs_poll(void)
{
    for (struct link *l = watched.next, *next; l != &watched; l = next) {
        next = l->next;
        if (vif_look(vif_of(l))) {
            link_remove(l);
            vif_ready(vif_of(l));
        }
    }
}

void vifs_rest(unsigned turns)
{
    for (struct link *l = watched.next, *next; l != &watched; l = next) {
        struct vif *v = vif_of(l);
        next = l->next;
        if (v->idle++ < turns)
            continue;
        bool more = vif_look_again(v);
        if (v->failing)
            continue;
        link_remove(l);
        if (more)
            vif_ready(v);
        else
            event_unmask(v);
    }
}

bool vif_buffer(struct vif *v)
{
    if (v->rx_seen != v->rx_taken)
        return true;
    v->rx_seen = shared(&v->rx->req_prod);
    if (v->rx_seen - v->rx_answered > RING_SLOTS) {
        v->rx_seen = v->rx_taken;
        vif_fail(v, "more buffers than its ring holds");
        return false;
    }
    return v->rx_seen != v->rx_taken;
}

void vif_answer(struct vif *v, const struct answer *a)
{
    if (a->ring == RING_TX) {
        v->tx->ring[a->index % RING_SLOTS].rsp = a->tx;
        v->tx_answered = a->index + 1;
    } else {
        v->rx->ring[a->index % RING_SLOTS].rsp = a->rx;
        v->rx_answered = a->index + 1;
    }
}

void vif_push(struct vif *v)
{
    uint32_t tx_old = v->tx->rsp_prod, rx_old = v->rx->rsp_prod;
    WRITE_BARRIER();
    v->rx->rsp_prod = v->rx_answered;
    /* Never between what the guest posted and what it posts next: it need not tell us of buffers. */
    v->rx->req_event = v->rx_answered - 1;
    v->tx->rsp_prod = v->tx_answered;
    crash_point();
    FULL_BARRIER();
    if ((RING_IDX)(v->tx_answered - v->tx->rsp_event) < (RING_IDX)(v->tx_answered - tx_old) ||
        (RING_IDX)(v->rx_answered - v->rx->rsp_event) < (RING_IDX)(v->rx_answered - rx_old))
        event_notify(v);
}

/* Where the shared rings say that a switch stopped: at the start for a new guest. */
void vif_start_rings(struct vif *v)
{
    v->tx_seen = v->tx_taken = v->tx_answered = shared(&v->tx->rsp_prod);
    v->rx_seen = v->rx_taken = v->rx_answered = shared(&v->rx->rsp_prod);
    v->rx->req_event = v->rx_answered - 1;
}
