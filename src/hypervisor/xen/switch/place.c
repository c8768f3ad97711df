/*
 * Addresses that go from one guest to another, or wait for a guest that is not there yet. A place is what is known of one: who has connections
 * left there and until when (flow.c says whose a frame is), whether frames for it are kept (hold.c), and which MACs stood for it a while ago, so
 * that whoever still uses one of those reaches its holder. Whose an address is stays in the identities; most addresses have no place.
 *
 * A move changes two identities and a place. All of it is written down as one intent first; from then on the next switch would end it.
 */
#include <stdio.h>
#include <string.h>
#include "switch.h"

#define ANNOUNCEMENTS_MAX 1024u
#define ANNOUNCED_IN_A_TURN 32u
#define ANNOUNCEMENT_BYTES 42u

struct announcement { struct network *network; uint32_t address; uint8_t mac[6]; };

static struct table by_address;
static unsigned count, holding;
static int64_t due_us; /* something may be due from then on; 0: nothing */
static struct announcement announcements[ANNOUNCEMENTS_MAX];
static unsigned announced, to_announce; /* a ring */
static uint8_t frames[ANNOUNCED_IN_A_TURN][64];

_Static_assert(DEPARTURES_MAX >= 512 + ANNOUNCED_IN_A_TURN, "announcements take no frame's place");

static uint64_t key_of(uint16_t network, uint32_t address)
{
    return (uint64_t)network << 32 | address;
}

struct place *place_find(const struct network *n, uint32_t address)
{
    return count ? table_find(&by_address, key_of((uint16_t)n->index, address)) : NULL;
}

static void due(int64_t at_us)
{
    if (!due_us || at_us < due_us)
        due_us = at_us;
}

static void list_place(struct place *p)
{
    table_put(&by_address, key_of(p->network, p->address), p);
    count++;
}

static void forget(struct place *p)
{
    hold_drop(p);
    table_remove(&by_address, key_of(p->network, p->address));
    count--;
    p->used = 0;
}

/* ---- what it knows ---- */

bool place_held(const struct place *p)
{
    return p->hold_until_us != 0;
}

static struct drain *drain_of(struct place *p, const struct vif *v)
{
    for (unsigned i = 0; i < DRAINS_MAX; i++)
        if (p->drains[i].state == DRAIN_ON && p->drains[i].slot == v->slot)
            return &p->drains[i];
    return NULL;
}

bool place_drains(const struct place *p, const struct vif *v)
{
    return v->drains && drain_of((struct place *)p, v);
}

static bool drains(const struct place *p)
{
    for (unsigned i = 0; i < DRAINS_MAX; i++)
        if (p->drains[i].state == DRAIN_ON)
            return true;
    return false;
}

static bool knows_mac(const struct place *p, const uint8_t mac[6])
{
    for (unsigned i = 0; i < DRAINS_MAX; i++)
        if (p->drains[i].state != DRAIN_FREE && !memcmp(p->drains[i].mac, mac, 6))
            return true;
    return false;
}

/* An address that is nobody's yet is answered for with a MAC made of it. */
static void virtual_mac(uint8_t mac[6], uint32_t address)
{
    mac[0] = 0x02;
    mac[1] = 0x53;
    memcpy(mac + 2, &address, 4);
}

const uint8_t *place_mac(const struct place *p)
{
    static uint8_t mac[6];
    virtual_mac(mac, p->address);
    return mac;
}

/* A drain to be written: that of the same MAC, a free one, or the one whose MAC is the next to be forgotten. NULL: all have connections. */
static struct drain *room(struct place *p, const uint8_t mac[6])
{
    struct drain *best = NULL;
    for (unsigned i = 0; i < DRAINS_MAX; i++) {
        struct drain *d = &p->drains[i];
        if (d->state != DRAIN_FREE && !memcmp(d->mac, mac, 6))
            return d;
        if (d->state == DRAIN_ON || (best && best->state == DRAIN_FREE))
            continue;
        if (!best || d->state == DRAIN_FREE || d->until_us < best->until_us)
            best = d;
    }
    return best;
}

/* ---- frames ---- */

struct vif *place_choose(struct place *p, struct vif *v, struct frame *f, unsigned checksum, bool *kept)
{
    struct vif *owner = vif_by_address(&networks[p->network], p->address);
    *kept = false;
    /* Another guest's MAC, or one that never stood for the address: that guest passes it on, perhaps. */
    if (v ? v != owner && !place_drains(p, v) && !knows_mac(p, f->destination) : !knows_mac(p, f->destination))
        return v;
    if (place_held(p) && (!owner || !owner->record->counters.tx_frames)) {
        *kept = hold_keep(p, f, checksum);
        return NULL;
    }
    struct vif *to = drains(p) ? flow_choose(p, f, owner) : owner;
    if (to)
        memcpy(f->bytes, vif_identity(to)->mac, 6);
    return to;
}

static void give(struct place *p, struct vif *owner)
{
    p->hold_until_us = 0;
    holding--;
    hold_give(p, owner);
    due(now_us() + MACS_STAY_US);
}

void places_spoke(struct vif *v)
{
    const struct identity *who = vif_identity(v);
    for (unsigned i = 0; holding && who && i < who->address_count; i++) {
        struct place *p = place_find(v->network, who->addresses[i]);
        if (p && place_held(p))
            give(p, v);
    }
}

/* ---- moving ---- */

static void announce(struct network *n, uint32_t address, const uint8_t mac[6])
{
    if (to_announce == ANNOUNCEMENTS_MAX)
        return; /* the old MAC stands for the address, too */
    struct announcement *a = &announcements[(announced + to_announce++) % ANNOUNCEMENTS_MAX];
    *a = (struct announcement){ .network = n, .address = address };
    memcpy(a->mac, mac, 6);
}

/* Writes what an intent says, once or again. */
static void carry_out(const struct intent *in)
{
    for (unsigned i = 0; i < 2; i++) {
        if (in->slots[i] == NO_SLOT)
            continue;
        struct record *r = state_record(in->slots[i]);
        uint32_t next = r->current == 1 ? 2 : 1;
        r->identities[next - 1] = in->identities[i];
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        r->current = next;
        crash_point();
    }
    if (in->place == NO_SLOT)
        return;
    struct place *p = state_place(in->place);
    uint32_t used = in->after.used;
    *p = in->after;
    p->used = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    p->used = used;
    crash_point();
}

static void without(struct identity *who, uint32_t address)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < who->address_count; i++)
        if (who->addresses[i] != address)
            who->addresses[kept++] = who->addresses[i];
    who->address_count = (uint8_t)kept;
    who->flags |= FLAG_KNOWN; /* with none left it may not use any */
}

static int place_for(struct network *n, uint32_t address, uint32_t *index, struct place *p)
{
    struct place *found = place_find(n, address);
    if (found) {
        *index = (uint32_t)(found - state_place(0));
        *p = *found;
        return 0;
    }
    *p = (struct place){ .used = 1, .address = address, .network = (uint16_t)n->index };
    return state_take_place(index);
}

/* What is known of `from` after it: its connections are its own until the end of the drain, its MAC stands for the address longer. */
static int leave(struct place *p, const struct vif *from, uint32_t drain_ms, int64_t now)
{
    struct drain *d = room(p, vif_identity(from)->mac);
    if (!d)
        return EBUSY;
    bool others = drains(p);
    *d = (struct drain){ .slot = from->slot, .state = drain_ms ? DRAIN_ON : DRAIN_OVER,
                         .until_us = drain_ms ? now + drain_ms * INT64_C(1000) : now + MACS_STAY_US };
    memcpy(d->mac, vif_identity(from)->mac, 6);
    if (!others)
        p->base = drain_ms ? (uint16_t)(d - p->drains + 1) : 0;
    return 0;
}

static int check_move(const struct network *n, uint32_t address, const struct vif *from, const struct vif *to)
{
    const struct vif *owner = vif_by_address(n, address);
    if ((!from && !to) || from == to || (from && from->network != n) || (to && to->network != n))
        return EINVAL;
    if ((from && !vif_identity(from)) || (to && !vif_identity(to)))
        return EINVAL;
    if (owner && owner != from && owner != to)
        return EADDRINUSE;
    if (to && owner != to && vif_identity(to)->address_count == ADDRESSES_MAX)
        return ENOSPC;
    return 0;
}

int place_move(struct network *n, uint32_t address, struct vif *from, struct vif *to, uint32_t drain_ms)
{
    struct intent *in = state_intent(), fresh = { .place = NO_SLOT, .slots = { NO_SLOT, NO_SLOT } };
    struct vif *owner = vif_by_address(n, address);
    int64_t now = now_us();
    int error = check_move(n, address, from, to);
    if (error || (owner && owner == to) || (!to && owner != from))
        return error; /* or done before */
    error = place_for(n, address, &fresh.place, &fresh.after);
    if (!error && from && owner == from)
        error = leave(&fresh.after, from, drain_ms, now);
    if (error)
        return error;
    struct vif *both[2] = { owner == from ? from : NULL, to };
    for (unsigned i = 0; i < 2; i++) {
        if (!both[i])
            continue;
        fresh.slots[i] = both[i]->slot;
        fresh.identities[i] = *vif_identity(both[i]);
        if (i == 0)
            without(&fresh.identities[i], address);
        else
            fresh.identities[i].addresses[fresh.identities[i].address_count++] = address;
        identity_forget(both[i]);
    }
    const bool known = place_find(n, address) != NULL;
    if (both[0])
        from->drains += (drain_ms > 0) - (known && drain_of(state_place(fresh.place), from));
    *in = fresh;
    crash_point();
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    in->certain = 1;
    crash_point();
    carry_out(in);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    in->certain = 0;
    struct place *p = state_place(fresh.place);
    if (!known)
        list_place(p);
    for (unsigned i = 0; i < 2; i++)
        if (both[i])
            identity_learn(both[i]);
    due(now + (drain_ms ? drain_ms * INT64_C(1000) : MACS_STAY_US));
    if (to) {
        announce(n, address, vif_identity(to)->mac);
        if (place_held(p) && to->record->counters.tx_frames)
            give(p, to);
    }
    return 0;
}

int place_hold(struct network *n, uint32_t address, uint32_t ms)
{
    struct place *p = place_find(n, address), fresh;
    int64_t now = now_us();
    if (!ms) {
        if (p && place_held(p)) {
            p->hold_until_us = 0;
            holding--;
            hold_drop(p);
        }
        return 0;
    }
    struct vif *owner = vif_by_address(n, address);
    if (owner && owner->record->counters.tx_frames)
        return EEXIST;
    if (!p) {
        uint32_t index;
        int error = place_for(n, address, &index, &fresh);
        if (error)
            return error;
        p = state_place(index);
        fresh.used = 0;
        *p = fresh;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        p->used = 1;
        crash_point();
        list_place(p);
    }
    uint8_t mac[6];
    virtual_mac(mac, address);
    struct drain *d = room(p, mac);
    if (!d)
        return EBUSY;
    *d = (struct drain){ .state = DRAIN_OVER, .until_us = now + ms * INT64_C(1000) + MACS_STAY_US, .slot = NO_SLOT };
    memcpy(d->mac, mac, 6);
    holding += !place_held(p);
    p->hold_until_us = now + ms * INT64_C(1000);
    due(p->hold_until_us);
    return 0;
}

void places_left(struct vif *v)
{
    for (uint32_t i = 0; v->drains && i < state_places(); i++) {
        struct place *p = state_place(i);
        struct drain *d = p->used ? drain_of(p, v) : NULL;
        if (!d)
            continue;
        d->state = DRAIN_OVER;
        d->until_us = now_us() + MACS_STAY_US;
        if (p->base == d - p->drains + 1)
            p->base = 0;
        v->drains--;
        due(d->until_us);
    }
}

/* ---- time ---- */

static void look_at(struct place *p, int64_t now)
{
    bool alive = false;
    if (place_held(p) && p->hold_until_us <= now) {
        p->hold_until_us = 0;
        holding--;
        hold_drop(p);
    }
    for (unsigned i = 0; i < DRAINS_MAX; i++) {
        struct drain *d = &p->drains[i];
        if (d->state == DRAIN_ON && d->until_us <= now) {
            struct vif *v = vif_by_slot(d->slot);
            if (p->base == i + 1)
                p->base = 0;
            d->until_us = now + MACS_STAY_US;
            d->state = DRAIN_OVER;
            if (v)
                v->drains--;
        } else if (d->state == DRAIN_OVER && d->until_us <= now) {
            d->state = DRAIN_FREE;
        }
        if (d->state != DRAIN_FREE) {
            alive = true;
            due(d->until_us);
        }
    }
    if (place_held(p))
        due(p->hold_until_us);
    else if (!alive)
        forget(p);
}

static void send_announcements(void)
{
    for (unsigned i = 0; to_announce && i < ANNOUNCED_IN_A_TURN; i++) {
        const struct announcement *a = &announcements[announced++ % ANNOUNCEMENTS_MAX];
        to_announce--;
        uplink_queue(a->network, NULL, frames[i], frame_announce(frames[i], a->mac, a->address), 0);
    }
    if (!to_announce)
        announced = 0;
}

void places_turn(void)
{
    send_announcements();
    if (!due_us || turn_us() < due_us)
        return;
    due_us = 0;
    for (uint32_t i = 0; i < state_places(); i++)
        if (state_place(i)->used)
            look_at(state_place(i), turn_us());
}

bool places_waiting(void)
{
    return to_announce > 0;
}

int places_timeout_ms(void)
{
    if (hold_pending())
        return 1;
    if (!due_us)
        return -1;
    int64_t left_ms = (due_us - now_us()) / 1000 + 1;
    return left_ms < 0 ? 0 : left_ms > 60000 ? 60000 : (int)left_ms;
}

/* ---- a switch that starts ---- */

static bool sane(const struct intent *in)
{
    if (in->certain != 1 || in->place >= PLACES_MAX || in->after.network >= NETWORKS_MAX)
        return false;
    for (unsigned i = 0; i < 2; i++)
        if (in->slots[i] != NO_SLOT && (in->slots[i] >= state_used() || in->identities[i].address_count > ADDRESSES_MAX))
            return false;
    return true;
}

void places_redo(void)
{
    if (!state_places())
        return; /* what is behind the records is a hole */
    if (sane(state_intent()))
        carry_out(state_intent());
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    state_intent()->certain = 0;
}

static void resume(struct place *p, int64_t now)
{
    if (p->used != 1 || !p->address || p->network >= NETWORKS_MAX || !networks[p->network].record->used || place_find(&networks[p->network], p->address)) {
        p->used = 0;
        return;
    }
    for (unsigned i = 0; i < DRAINS_MAX; i++) {
        struct drain *d = &p->drains[i];
        const struct vif *v = d->state == DRAIN_ON ? vif_by_slot(d->slot) : NULL;
        if (d->state > DRAIN_OVER)
            d->state = DRAIN_FREE;
        if (d->until_us > now + MACS_STAY_US + DRAIN_MOST_MS * INT64_C(1000))
            d->until_us = now;
        if (d->state == DRAIN_ON && (!v || !vif_identity(v) || memcmp(vif_identity(v)->mac, d->mac, 6)))
            d->state = DRAIN_OVER;
        if (d->state == DRAIN_ON)
            vif_by_slot(d->slot)->drains++;
    }
    if (p->base > DRAINS_MAX || (p->base && p->drains[p->base - 1].state != DRAIN_ON))
        p->base = 0;
    if (p->hold_until_us > now + HOLD_MOST_MS * INT64_C(1000) || p->hold_until_us < 0)
        p->hold_until_us = now;
    holding += place_held(p);
    list_place(p);
    due(now);
}

void places_resume(void)
{
    count = holding = announced = to_announce = 0;
    due_us = 0;
    for (uint32_t i = 0; i < state_places(); i++)
        if (state_place(i)->used)
            resume(state_place(i), now_us());
    /* The guests' frames from before are in the rings again, and those that were held are lost: who asks again is answered by the holder. */
    for (uint32_t slot = 0; holding && slot < state_used(); slot++)
        if (vif_by_slot(slot) && vif_by_slot(slot)->record->counters.tx_frames)
            places_spoke(vif_by_slot(slot));
}

void places_close(void)
{
    hold_drop(NULL);
    table_free(&by_address);
    count = 0;
}
