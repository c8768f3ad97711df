/*
 * An address goes from one guest to another: two identities and a place change. All of it is written down as one intent first; from then on it is
 * certain, for the next switch would end it. Then those outside are told.
 */
#include <string.h>
#include "switch.h"

#define ANNOUNCEMENTS_MAX 1024u
#define ANNOUNCED_IN_A_TURN 32u

struct announcement { struct network *network; uint32_t address; uint8_t mac[6]; };

static struct announcement announcements[ANNOUNCEMENTS_MAX];
static unsigned announced, to_announce; /* a ring */
static uint8_t frames[ANNOUNCED_IN_A_TURN][64];

_Static_assert(DEPARTURES_MAX >= 512 + ANNOUNCED_IN_A_TURN, "announcements take no frame's place");

void place_announce(struct network *n, uint32_t address, const uint8_t mac[6])
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

/* What is known of `from` after it: its connections are its own until the end of the drain, its MAC stands for the address longer. */
static int leave(struct place *p, const struct vif *from, uint32_t drain_ms, int64_t now)
{
    struct drain *d = place_room(p, vif_identity(from)->mac);
    if (!d)
        return EBUSY;
    bool others = place_draining(p);
    *d = (struct drain){ .slot = from->slot, .state = drain_ms ? DRAIN_ON : DRAIN_OVER,
                         .until_us = drain_ms ? now + drain_ms * INT64_C(1000) : now + MACS_STAY_US };
    memcpy(d->mac, vif_identity(from)->mac, 6);
    if (!others || !p->base)
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
        from->drains += (drain_ms > 0) - (known && place_drain(state_place(fresh.place), from));
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
        place_list(p);
    for (unsigned i = 0; i < 2; i++)
        if (both[i])
            identity_learn(both[i]);
    place_due(now + (drain_ms ? drain_ms * INT64_C(1000) : MACS_STAY_US));
    if (to) {
        place_announce(n, address, vif_identity(to)->mac);
        if (place_held(p) && to->record->counters.tx_frames)
            place_give(p, to);
    }
    return 0;
}

void places_announce(void)
{
    for (unsigned i = 0; to_announce && i < ANNOUNCED_IN_A_TURN; i++) {
        const struct announcement *a = &announcements[announced++ % ANNOUNCEMENTS_MAX];
        to_announce--;
        uplink_queue(a->network, NULL, frames[i], NULL, frame_announce(frames[i], a->mac, a->address), 0);
    }
    if (!to_announce)
        announced = 0;
}

bool places_waiting(void)
{
    return to_announce > 0;
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
