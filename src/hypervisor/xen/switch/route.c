/*
 * What a guest may send, and who gets a frame: by MAC as the agent said, but for addresses that move or wait (place.c). And what is noted of frames
 * on the way.
 */
#include "switch.h"

/* Somebody else's address is nobody's to use, not even that of a guest whose own is not known; but who forwards passes on what others sent. By ARP
 * it speaks for itself, like all. */
static bool usurps(const struct vif *v, const struct frame *f)
{
    if (f->ipv4 && vif_identity(v)->flags & FLAG_UNLOCKED)
        return false;
    const struct vif *owner = f->has_sender && f->sender ? vif_by_address(v->network, f->sender) : NULL;
    return owner && owner != v;
}

/* A guest may use an address that it gave away for the connections that it has left there. Its ARP requests then come from nobody: they are
 * answered, and teach nobody that the address is there. */
bool route_allows(const struct vif *from, struct frame *f)
{
    const struct place *p = from->drains && f->has_sender && f->sender ? place_find(from->network, f->sender) : NULL;
    if (!p || !place_drains(p, from) || vif_by_address(from->network, f->sender) == from)
        return frame_allowed(f, vif_identity(from), 0) && !usurps(from, f);
    if (!frame_allowed(f, vif_identity(from), f->sender))
        return false;
    if (f->target)
        return true;
    if (!f->arp_request || f->arp_target == f->sender)
        return false;
    f->sender = 0;
    frame_hide_sender(f->bytes);
    return true;
}

void route_sent(struct vif *from, const struct frame *f)
{
    struct place *p;
    if (from->record->counters.tx_frames == 1)
        places_spoke(from);
    if (!f->protocol)
        return;
    traffic_count(from, f->sender, f->length);
    /* A connection is with a guest that has, or had, the address, and not with one that forwards it. */
    if ((p = place_find(from->network, f->sender)) && place_draining(p) && (vif_by_address(from->network, f->sender) == from || place_drains(p, from)))
        flow_sent(p, f, from);
}

/* Who has the MAC that a frame is for, or the address of a place; NULL: nobody here. */
struct vif *route_receiver(struct network *n, struct frame *f, unsigned checksum, bool *kept)
{
    struct vif *to = vif_by_mac(n, f->destination);
    struct place *p = f->target ? place_find(n, f->target) : NULL;
    *kept = false;
    if (p)
        frame_complete(f); /* it may be kept */
    if (p)
        to = place_choose(p, to, f, checksum, kept);
    if (to && f->protocol)
        traffic_count(to, f->target, f->length);
    return to;
}

/* Whom a multicast neighbour solicitation asks, which nobody else then gets: guests are not woken by questions about others. */
struct vif *route_solicited(struct network *n, const struct vif *from, const struct frame *f)
{
    struct vif *to = f->group && f->solicits ? vif_by_mac(n, f->solicited) : NULL;
    return to == from ? NULL : to;
}

/* The MAC that an ARP request asks for. One that asks for its sender's own address is an announcement, or a search for a double. */
const uint8_t *route_asked(struct network *n, const struct vif *from, const struct frame *f)
{
    if (!f->arp_request || f->arp_target == f->sender)
        return NULL;
    const struct vif *to = vif_by_address(n, f->arp_target);
    if (to)
        return to == from ? NULL : vif_identity(to)->mac;
    const struct place *p = place_find(n, f->arp_target);
    return p && place_held(p) ? place_mac(p) : NULL;
}
