/*
 * Frames for guests that have no buffer for them just now, as when a middlebox waits for its turn on a processor that it shares with who sends to it. They
 * wait here, in their order, until it posts some, and for as long as it does now and then. Bounded in number, for one guest and for all; who
 * returns no buffer for BACKLOG_US loses what waits, and waits for nothing more until it does. What waits is lost with the switch.
 */
#include <string.h>
#include "switch.h"

#define BACKLOG_MAX 2048u
#define BACKLOG_OF_VIF 512u
#define BACKLOG_US 100000
#define SLOT_BYTES 2048u

struct waiting { struct waiting *next; uint16_t length; uint8_t checksum; uint8_t bytes[SLOT_BYTES - 16]; };
_Static_assert(sizeof(struct waiting) == SLOT_BYTES && FRAME_MAX <= SLOT_BYTES - 16, "a frame fits");

static struct waiting slots[BACKLOG_MAX]; /* pages come with their use */
static struct waiting *unused, *delivered;
static unsigned fresh; /* slots from here on were never used */
static struct link vifs = { &vifs, &vifs };

static struct vif *vif_of(struct link *l)
{
    return (struct vif *)((char *)l - offsetof(struct vif, backlog));
}

static struct waiting *take_slot(void)
{
    struct waiting *w = unused;
    if (w)
        unused = w->next;
    else if (fresh < BACKLOG_MAX)
        w = &slots[fresh++];
    return w;
}

static void give_slot(struct waiting *w, struct waiting **list)
{
    w->next = *list;
    *list = w;
}

static struct waiting *first_of(struct vif *v)
{
    struct waiting *w = v->backlog_first;
    v->backlog_first = w->next;
    if (!--v->backlog_count)
        link_remove(&v->backlog);
    return w;
}

bool backlog_keep(struct vif *v, const uint8_t *frame, size_t length, unsigned checksum)
{
    struct waiting *w = v->stuck || v->backlog_count == BACKLOG_OF_VIF ? NULL : take_slot();
    if (!w)
        return false;
    w->next = NULL;
    w->length = (uint16_t)length;
    w->checksum = (uint8_t)checksum;
    memcpy(w->bytes, frame, length);
    if (!v->backlog_count++) {
        v->backlog_first = w;
        v->backlog_us = turn_us();
        link_append(&vifs, &v->backlog);
    } else {
        v->backlog_last->next = w;
    }
    v->backlog_last = w;
    return true;
}

void backlog_drop(struct vif *v)
{
    while (v->backlog_count) {
        give_slot(first_of(v), &unused);
        v->record->counters.rx_dropped++;
        totals.dropped++;
    }
}

/* Inside of a turn. */
bool backlog_deliver(void)
{
    bool some = false;
    for (struct link *l = vifs.next, *next; l != &vifs; l = next) {
        struct vif *v = vif_of(l);
        next = l->next;
        if (!v->tx || v->failing) {
            backlog_drop(v);
            continue;
        }
        if (!vif_buffer(v)) {
            if (turn_us() - v->backlog_us > BACKLOG_US) {
                v->stuck = true;
                backlog_drop(v);
            }
            continue;
        }
        v->backlog_us = turn_us();
        while (v->backlog_count && vif_buffer(v)) {
            struct waiting *w = first_of(v);
            move_put(v, w->bytes, w->length, w->checksum);
            give_slot(w, &delivered);
            some = true;
        }
    }
    return some;
}

/* At the end of a turn: what was delivered is copied. */
void backlog_clear(void)
{
    while (delivered) {
        struct waiting *w = delivered;
        delivered = w->next;
        give_slot(w, &unused);
    }
}

bool backlog_pending(void)
{
    return vifs.next != &vifs;
}

bool backlog_ready(void)
{
    for (struct link *l = vifs.next; l != &vifs; l = l->next)
        if (vif_of(l)->tx && !vif_of(l)->failing && vif_buffer(vif_of(l)))
            return true;
    return false;
}

void backlog_reset(void)
{
    unused = delivered = NULL;
    fresh = 0;
    vifs = (struct link){ &vifs, &vifs };
}
