/*
 * Whose is a connection, while an address drains? Those that began since the first of its drains are in a table, with the guest they began with;
 * all others are of the guest that had the address before (place.base). So a connection that has been silent for hours is known, too, and a
 * beginning that finds the table full goes where unknown ones go, and stays there. The table is in the state file: a bucket a hash, entries
 * that are whole or free, so that a switch may end at any instruction.
 *
 * TCP: a connection begins with a SYN, from either side. UDP has no beginning: a datagram from outside goes to the new guest, unless the old one
 * has been heard in that conversation since. Anything else goes to the new guest.
 */
#include <string.h>
#include "switch.h"

#define BUCKET 32u
#define AGAIN_S 3u       /* a SYN within so long of another of the same connection is the same one, sent again */
#define IDLE_UDP_S 30u
#define IDLE_TCP_S 900u  /* may be forgotten when there is no room; before that never */
enum { END_CLIENT = 1, END_GUEST = 2, END_RESET = 4 };

static uint32_t seconds(void)
{
    return (uint32_t)(turn_us() / 1000000);
}

static uint32_t index_of(const struct place *p)
{
    return (uint32_t)(p - state_place(0)) + 1;
}

static struct flow *bucket(uint32_t place, uint8_t protocol, uint32_t client, uint16_t client_port, uint16_t port)
{
    uint64_t key = (uint64_t)client << 32 | (uint32_t)client_port << 16 | port;
    key = (key ^ (uint64_t)place << 20 ^ protocol) * 0x9e3779b97f4a7c15u;
    key ^= key >> 31;
    key *= 0xbf58476d1ce4e5b9u;
    return state_flow((uint32_t)(key >> 40) % (FLOWS_MAX / BUCKET) * BUCKET);
}

static bool ended(const struct flow *e)
{
    return e->ends & END_RESET || (e->ends & (END_CLIENT | END_GUEST)) == (END_CLIENT | END_GUEST);
}

static struct flow *find(const struct place *p, uint8_t protocol, uint32_t client, uint16_t client_port, uint16_t port)
{
    struct flow *b = bucket(index_of(p), protocol, client, client_port, port);
    for (unsigned i = 0; i < BUCKET; i++)
        if (b[i].place == index_of(p) && b[i].client == client && b[i].client_port == client_port && b[i].port == port && b[i].protocol == protocol)
            return &b[i];
    return NULL;
}

/* The guest of an entry, while it has or had the address; NULL otherwise. */
static struct vif *guest_of(const struct place *p, const struct flow *e, struct vif *owner)
{
    struct vif *v = vif_by_slot(e->slot);
    return v && (v == owner || place_drains(p, v)) ? v : NULL;
}

static bool useless(const struct flow *e, uint32_t now_s)
{
    const uint32_t idle_s = now_s - e->seen_s;
    return !e->place || (ended(e) && idle_s > AGAIN_S) || idle_s > (e->protocol == PROTOCOL_UDP ? IDLE_UDP_S : IDLE_TCP_S);
}

/* False: there is no room. */
static bool note(struct flow *e, const struct place *p, uint8_t protocol, uint32_t client, uint16_t client_port, uint16_t port, const struct vif *guest)
{
    struct flow *b = bucket(index_of(p), protocol, client, client_port, port);
    for (unsigned i = 0; i < BUCKET && !e; i++)
        if (useless(&b[i], seconds()))
            e = &b[i];
    if (!e)
        return false;
    e->place = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    e->client = client;
    e->client_port = client_port;
    e->port = port;
    e->slot = guest->slot;
    e->seen_s = seconds();
    e->protocol = protocol;
    e->ends = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    e->place = index_of(p);
    return true;
}

static struct vif *before(const struct place *p, struct vif *owner)
{
    struct vif *v = p->base ? vif_by_slot(p->drains[p->base - 1].slot) : NULL;
    return v ? v : owner;
}

struct vif *flow_choose(const struct place *p, const struct frame *f, struct vif *owner)
{
    if (!f->protocol)
        return owner;
    struct flow *e = find(p, f->protocol, f->sender, f->source_port, f->target_port);
    struct vif *v = e ? guest_of(p, e, owner) : NULL;
    if (f->protocol == PROTOCOL_UDP)
        return v && seconds() - e->seen_s <= IDLE_UDP_S ? v : owner;
    if ((f->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
        if (v && !ended(e) && seconds() - e->seen_s <= AGAIN_S)
            return v;
        if (!owner)
            return NULL;
        return note(e, p, PROTOCOL_TCP, f->sender, f->source_port, f->target_port, owner) ? owner : before(p, owner);
    }
    if (!e)
        return before(p, owner);
    e->seen_s = seconds();
    e->ends |= (f->tcp_flags & TCP_FIN ? END_CLIENT : 0) | (f->tcp_flags & TCP_RST ? END_RESET : 0);
    return v ? v : owner;
}

void flow_sent(const struct place *p, const struct frame *f, const struct vif *from)
{
    if (!f->protocol)
        return;
    struct flow *e = find(p, f->protocol, f->target, f->target_port, f->source_port);
    bool begins = f->protocol == PROTOCOL_UDP ? place_drains(p, from) && (!e || seconds() - e->seen_s > IDLE_UDP_S) : f->tcp_flags & TCP_SYN && (!e || ended(e));
    if (begins) {
        note(e, p, f->protocol, f->target, f->target_port, f->source_port, from);
    } else if (e && e->slot == from->slot) {
        e->seen_s = seconds();
        e->ends |= (f->tcp_flags & TCP_FIN ? END_GUEST : 0) | (f->tcp_flags & TCP_RST ? END_RESET : 0);
    }
}
