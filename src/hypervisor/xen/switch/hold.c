/*
 * Frames for an address that nobody has yet. They wait here, those that begin a connection before all others, until the guest that got the
 * address has sent its first frame, which says that its network is up, and has buffers for them. What is kept is bounded in number, for one
 * address and for all; whose sender sends it again is kept once.
 */
#include <stdlib.h>
#include <string.h>
#include "switch.h"

struct held {
    struct link link;
    const struct place *place;   /* NULL once it is given to somebody */
    struct vif *to;
    size_t length;
    unsigned checksum;
    bool begins, delivered;
    uint32_t sender;
    uint16_t source_port, target_port;
    uint8_t bytes[];
};

static struct link all = { &all, &all };
static unsigned count, given;

static struct held *held_of(struct link *l)
{
    return (struct held *)((char *)l - offsetof(struct held, link));
}

static void drop(struct held *h)
{
    given -= h->to && !h->delivered;
    count--;
    link_remove(&h->link);
    free(h);
}

unsigned hold_count(const struct place *p)
{
    unsigned found = 0;
    for (struct link *l = all.next; l != &all; l = l->next)
        found += held_of(l)->place == p;
    return found;
}

static bool again(const struct held *h, const struct frame *f)
{
    return h->begins && h->sender == f->sender && h->source_port == f->source_port && h->target_port == f->target_port;
}

bool hold_keep(const struct place *p, const struct frame *f, unsigned checksum)
{
    bool begins = f->protocol == PROTOCOL_TCP && (f->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
    unsigned here = 0;
    struct held *last = NULL; /* the youngest of the place that begins nothing */
    for (struct link *l = all.next; l != &all; l = l->next) {
        struct held *h = held_of(l);
        if (h->place != p)
            continue;
        here++;
        if (begins && again(h, f))
            return true;
        if (!h->begins)
            last = h;
    }
    if (here == HELD_OF_PLACE || count == HELD_MAX) {
        if (!begins || !last) {
            totals.dropped++;
            return false;
        }
        drop(last);
    }
    struct held *h = malloc(sizeof *h + f->length);
    if (!h)
        return false;
    *h = (struct held){ .place = p, .length = f->length, .checksum = checksum, .begins = begins, .sender = f->sender,
                        .source_port = f->source_port, .target_port = f->target_port };
    memcpy(h->bytes, f->bytes, f->length);
    link_append(&all, &h->link);
    count++;
    return true;
}

void hold_give(const struct place *p, struct vif *to)
{
    for (struct link *l = all.next; l != &all; l = l->next) {
        struct held *h = held_of(l);
        if (h->place != p)
            continue;
        memcpy(h->bytes, vif_identity(to)->mac, 6);
        h->place = NULL;
        h->to = to;
        given++;
    }
}

void hold_drop(const struct place *p)
{
    for (struct link *l = all.next, *next; l != &all; l = next) {
        next = l->next;
        if (!p || held_of(l)->place == p)
            drop(held_of(l));
    }
}

void hold_left(const struct vif *v)
{
    for (struct link *l = all.next, *next; given && l != &all; l = next) {
        next = l->next;
        if (held_of(l)->to == v)
            drop(held_of(l));
    }
}

bool hold_pending(void)
{
    return given > 0;
}

bool hold_deliver(void)
{
    bool some = false;
    for (struct link *l = all.next; given && l != &all; l = l->next) {
        struct held *h = held_of(l);
        if (!h->to || h->delivered || !h->to->tx || h->to->failing || !vif_buffer(h->to))
            continue;
        move_deliver(h->to, h->bytes, h->length, h->checksum);
        h->delivered = some = true;
        given--;
    }
    return some;
}

void hold_clear(void)
{
    for (struct link *l = all.next, *next; count && l != &all; l = next) {
        next = l->next;
        if (held_of(l)->delivered)
            drop(held_of(l));
    }
}
