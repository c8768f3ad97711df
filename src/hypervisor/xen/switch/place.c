/*
 * Addresses that go from one guest to another, or wait for a guest that is not there yet. A place is what is known of one: who has connections
 * left there and until when (flow.c says whose a frame is), whether frames for it are kept (hold.c), and which MACs stood for it a while ago, so
 * that whoever still uses one of those reaches its holder. Whose an address is stays in the identities; most addresses have no place.
 */
#include <stdio.h>
#include <string.h>
#include "switch.h"

static struct table by_address;
static unsigned count, holding;
static int64_t due_us; /* something may be due from then on; 0: nothing */

static uint64_t key_of(uint16_t network, uint32_t address)
{
    return (uint64_t)network << 32 | address;
}

struct place *place_find(const struct network *n, uint32_t address)
{
    return count ? table_find(&by_address, key_of((uint16_t)n->index, address)) : NULL;
}

void place_due(int64_t at_us)
{
    if (!due_us || at_us < due_us)
        due_us = at_us;
}

void place_list(struct place *p)
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

struct drain *place_drain(struct place *p, const struct vif *v)
{
    for (unsigned i = 0; i < DRAINS_MAX; i++)
        if (p->drains[i].state == DRAIN_ON && p->drains[i].slot == v->slot)
            return &p->drains[i];
    return NULL;
}

bool place_drains(const struct place *p, const struct vif *v)
{
    return v->drains && place_drain((struct place *)p, v);
}

bool place_draining(const struct place *p)
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
    const struct drain *held = NULL; /* the MAC of the youngest hold */
    for (unsigned i = 0; i < DRAINS_MAX; i++) {
        const struct drain *d = &p->drains[i];
        if (d->state == DRAIN_OVER && d->slot == NO_SLOT && (!held || d->until_us > held->until_us))
            held = d;
    }
    if (held)
        return held->mac;
    virtual_mac(mac, p->address);
    return mac;
}

/* A drain to be written: that of the same MAC, a free one, or the one whose MAC is the next to be forgotten. NULL: all have connections. */
struct drain *place_room(struct place *p, const uint8_t mac[6])
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
    const bool known = knows_mac(p, f->destination);
    if (v && v != owner && !known && !place_drains(p, v))
        return v;
    /* Of one that is held any MAC will do: it may be that of a guest that had it before. */
    if (place_held(p) && (!owner || !owner->record->counters.tx_frames)) {
        *kept = hold_keep(p, f, checksum);
        return NULL;
    }
    if (!v && !known)
        return NULL;
    struct vif *to = place_draining(p) ? flow_choose(p, f, owner) : owner;
    if (to)
        memcpy(f->bytes, vif_identity(to)->mac, 6);
    return to;
}

void place_give(struct place *p, struct vif *owner)
{
    p->hold_until_us = 0;
    holding--;
    hold_give(p, owner);
    place_due(now_us() + MACS_STAY_US);
}

void places_spoke(struct vif *v)
{
    const struct identity *who = vif_identity(v);
    for (unsigned i = 0; holding && who && i < who->address_count; i++) {
        struct place *p = place_find(v->network, who->addresses[i]);
        if (p && place_held(p))
            place_give(p, v);
    }
}

int place_for(struct network *n, uint32_t address, uint32_t *index, struct place *p)
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

int place_here(struct network *n, uint32_t address)
{
    struct vif *owner = vif_by_address(n, address);
    struct place *p = place_find(n, address);
    if (!owner || !vif_identity(owner))
        return ENOENT;
    place_announce(n, address, vif_identity(owner)->mac);
    if (p && place_held(p))
        place_give(p, owner);
    return 0;
}

int place_hold(struct network *n, uint32_t address, uint32_t ms, const uint8_t *given)
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
        place_list(p);
    }
    uint8_t mac[6];
    if (given)
        memcpy(mac, given, 6);
    else
        virtual_mac(mac, address);
    struct drain *d = place_room(p, mac);
    if (!d)
        return EBUSY;
    *d = (struct drain){ .state = DRAIN_OVER, .until_us = now + ms * INT64_C(1000) + MACS_STAY_US, .slot = NO_SLOT };
    memcpy(d->mac, mac, 6);
    holding += !place_held(p);
    p->hold_until_us = now + ms * INT64_C(1000);
    if (!owner)
        place_announce(n, address, mac);
    place_due(p->hold_until_us);
    return 0;
}

void places_left(struct vif *v)
{
    for (uint32_t i = 0; v->drains && i < state_places(); i++) {
        struct place *p = state_place(i);
        struct drain *d = p->used ? place_drain(p, v) : NULL;
        if (!d)
            continue;
        d->state = DRAIN_OVER;
        d->until_us = now_us() + MACS_STAY_US;
        if (p->base == d - p->drains + 1)
            p->base = 0;
        v->drains--;
        place_due(d->until_us);
    }
}

/* ---- time ---- */

static bool others_drain(const struct place *p, unsigned but)
{
    for (unsigned i = 0; i < DRAINS_MAX; i++)
        if (i != but && p->drains[i].state == DRAIN_ON)
            return true;
    return false;
}

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
        struct vif *v = d->state == DRAIN_ON ? vif_by_slot(d->slot) : NULL;
        if (v && d->until_us <= now && v == vif_by_address(&networks[p->network], p->address) && others_drain(p, i)) {
            d->until_us = now + MACS_STAY_US; /* it has the address again, and its connections with it */
        } else if (d->state == DRAIN_ON && d->until_us <= now) {
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
            place_due(d->until_us);
        }
    }
    if (place_held(p))
        place_due(p->hold_until_us);
    else if (!alive)
        forget(p);
}

void places_turn(void)
{
    if (!due_us || turn_us() < due_us)
        return;
    due_us = 0;
    for (uint32_t i = 0; i < state_places(); i++)
        if (state_place(i)->used)
            look_at(state_place(i), turn_us());
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
    place_list(p);
    place_due(now);
}

void places_resume(void)
{
    count = holding = 0;
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
