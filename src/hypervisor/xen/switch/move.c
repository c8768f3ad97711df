/*
 * A turn of the data path, in two halves. What came by the uplinks is delivered by one call, and the guests are told by one. Then frames are
 * taken from the guests that are ready, a share of each in turn, and copied in by one call; those for outside leave by one call an uplink,
 * those for guests are delivered by one; then all is answered, and the guests are told. A request is answered
 * only when its frame is where it belongs, so a switch that is killed loses none: the next one finds it in the ring again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xen/grant_table.h>
#include "hypervisor.h"
#include "switch.h"

#define SHARE 32u           /* frames of one vif before the next has its turn */
#define GUEST_FRAMES 256u   /* of all vifs in a turn */
#define UPLINK_FRAMES 128u  /* of one uplink in a turn … */
#define UPLINKS_FRAMES 256u /* … and of all */
#define DELIVERIES 512u     /* copied at once; a flood may take several calls */
#define SLOT_BYTES 2048u    /* two a page: no frame crosses one */

struct taken {
    struct vif *from;       /* NULL: an uplink */
    struct network *network;
    uint8_t *bytes;
    uint32_t index;
    uint16_t id, length;
    int16_t status;
    uint8_t checksum;
    bool whole;             /* there is a frame */
    const uint8_t *mapped;  /* as `mapped` of struct frame */
};
/* segment: its place in `outgoing`; WRITTEN: it is in the guest's page already. */
struct delivery { struct vif *to; const uint8_t *bytes; uint32_t index; int segment; uint16_t id, length, flags; };
enum { WRITTEN = -1 };

_Static_assert(GUEST_FRAMES + DELIVERIES <= ANSWERS_MAX, "all answers of a turn fit the state file");
_Static_assert(GUEST_FRAMES + UPLINKS_FRAMES <= DEPARTURES_MAX, "each frame leaves once at most");
_Static_assert(UPLINK_FRAMES <= PACKET_SLOTS / 2, "there is room for what comes during a turn");

struct totals totals;
static struct taken taken[GUEST_FRAMES > UPLINKS_FRAMES ? GUEST_FRAMES : UPLINKS_FRAMES];
static struct delivery deliveries[DELIVERIES];
static xengnttab_grant_copy_segment_t incoming[GUEST_FRAMES], outgoing[DELIVERIES];
static struct answer answers[GUEST_FRAMES + DELIVERIES];
static unsigned incoming_slot[GUEST_FRAMES];
static unsigned taken_count, incoming_count, delivery_count, outgoing_count, answer_count, first_network;
static struct vif *touched;
static uint8_t (*slots)[SLOT_BYTES];

int move_init(void)
{
    if (slots)
        return 0;
    slots = aligned_alloc(PAGE, GUEST_FRAMES * SLOT_BYTES);
    return slots ? 0 : -1;
}

/* ---- taking ---- */

static bool take_request(struct vif *v)
{
    const volatile netif_tx_request_t *request = &v->tx->ring[v->tx_taken % RING_SLOTS].req;
    const netif_tx_request_t r = { .gref = request->gref, .offset = request->offset, .flags = request->flags, .id = request->id, .size = request->size };
    if (r.flags & NETTXF_extra_info) {
        vif_fail(v, "extra information that was not agreed on");
        return false;
    }
    bool part = v->skipping || (r.flags & NETTXF_more_data);
    v->skipping = (r.flags & NETTXF_more_data) != 0;
    bool well = !part && r.size >= FRAME_MIN && r.size <= FRAME_MAX && (uint32_t)r.offset + r.size <= PAGE;
    taken[taken_count] = (struct taken){
        .from = v, .network = v->network, .bytes = slots[taken_count], .index = v->tx_taken++, .id = r.id, .length = r.size, .status = NETIF_RSP_ERROR,
        .checksum = (uint8_t)(r.flags & NETTXF_csum_blank ? CHECKSUM_BLANK | CHECKSUM_VALID : r.flags & NETTXF_data_validated ? CHECKSUM_VALID : 0),
    };
    pace_pay(v, well ? r.size : FRAME_MIN);
    const uint8_t *page = well ? lasting_page(v, r.gref, false) : NULL;
    if (well)
        lasting_count(v);
    if (page) {
        memcpy(slots[taken_count], page + r.offset, r.size < FRAME_HEAD ? r.size : FRAME_HEAD);
        taken[taken_count].mapped = r.size > FRAME_HEAD ? page + r.offset : NULL;
        taken[taken_count].whole = true;
    } else if (well) {
        incoming_slot[incoming_count] = taken_count;
        incoming[incoming_count++] = (xengnttab_grant_copy_segment_t){
            .source.foreign = { .ref = r.gref, .offset = r.offset, .domid = v->record->domid }, .dest.virt = slots[taken_count],
            .len = r.size, .flags = GNTCOPY_source_gref, .status = GNTST_general_error,
        };
    } else {
        v->record->counters.tx_dropped++;
    }
    taken_count++;
    return true;
}

static void take_share(struct vif *v, int64_t *now)
{
    for (unsigned n = 0; n < SHARE && taken_count < GUEST_FRAMES; n++) {
        if (!pace_allows(v, now))
            return;
        if (!vif_look(v)) {
            if (!v->failing)
                vif_watch(v);
            return;
        }
        if (!take_request(v))
            return;
    }
    vif_ready(v);
}

static void take_from_guests(void)
{
    int64_t now = 0;
    struct vif *v;
    vifs_poll();
    while (taken_count < GUEST_FRAMES && (v = vifs_next()))
        take_share(v, &now);
    if (incoming_count) {
        hypervisor_copy(incoming, incoming_count);
        totals.copies++;
    }
    for (unsigned i = 0; i < incoming_count; i++) {
        struct taken *t = &taken[incoming_slot[i]];
        t->whole = incoming[i].status == GNTST_okay;
        if (!t->whole)
            t->from->record->counters.tx_dropped++;
    }
    crash_point();
}

static void take_from_uplinks(void)
{
    /* Another network is the first to be served each time. */
    first_network++;
    for (unsigned i = 0; i < networks_count; i++) {
        struct network *n = &networks[(first_network + i) % networks_count];
        for (unsigned count = 0; count < UPLINK_FRAMES && taken_count < UPLINKS_FRAMES; count++) {
            unsigned checksum;
            size_t length;
            uint8_t *bytes;
            if (!uplink_take(n, &bytes, &length, &checksum))
                break;
            taken[taken_count++] = (struct taken){ .network = n, .bytes = bytes, .length = (uint16_t)length, .checksum = (uint8_t)checksum, .whole = true };
        }
    }
}

/* ---- answering ---- */

static void touch(struct vif *v)
{
    if (v->touched)
        return;
    v->touched = true;
    v->touched_next = touched;
    touched = v;
}

static void deliver_all(void)
{
    if (!delivery_count)
        return;
    if (outgoing_count) {
        hypervisor_copy(outgoing, outgoing_count);
        totals.copies++;
    }
    outgoing_count = 0;
    crash_point();
    for (unsigned i = 0; i < delivery_count; i++) {
        const struct delivery *d = &deliveries[i];
        struct counters *c = &d->to->record->counters;
        bool well = d->segment == WRITTEN || outgoing[d->segment].status == GNTST_okay;
        answers[answer_count++] = (struct answer){ .slot = d->to->slot, .index = d->index, .ring = RING_RX,
            .rx = { .id = d->id, .flags = well ? d->flags : 0, .status = well ? (int16_t)d->length : NETIF_RSP_ERROR } };
        if (!well) {
            c->rx_dropped++;
            continue;
        }
        c->rx_frames++;
        c->rx_bytes += d->length;
        mirror_frame(d->to, d->bytes, d->length);
    }
    delivery_count = 0;
}

/* From the commit on, all of these answers are given, by whomever. */
static void answer_all(void)
{
    if (!answer_count)
        return;
    state_commit(answers, answer_count);
    for (unsigned i = 0; i < answer_count; i++) {
        crash_point();
        vif_answer(vif_by_slot(answers[i].slot), &answers[i]);
    }
    answer_count = 0;
    while (touched) {
        struct vif *v = touched;
        touched = v->touched_next;
        v->touched = false;
        crash_point();
        if (!v->failing)
            vif_push(v);
    }
    events_notify();
    crash_point();
    state_clear();
}

/* ---- forwarding ---- */

void move_deliver(struct vif *v, uint8_t *frame, size_t length, unsigned checksum)
{
    const bool able = v->tx && !v->failing;
    if (able && !v->backlog_count && vif_buffer(v)) {
        move_put(v, frame, length, checksum);
    } else if (able && !v->failing && backlog_keep(v, frame, length, checksum)) {
        totals.waited++;
    } else {
        v->record->counters.rx_dropped++;
        totals.dropped++;
    }
}

void move_put(struct vif *v, uint8_t *frame, size_t length, unsigned checksum)
{
    if (delivery_count == DELIVERIES) {
        deliver_all();
        answer_all();
    }
    const volatile netif_rx_request_t *r = &v->rx->ring[v->rx_taken % RING_SLOTS].req;
    const uint32_t ref = r->gref;
    uint8_t *page = lasting_page(v, ref, true);
    v->stuck = false;
    lasting_count(v);
    deliveries[delivery_count++] = (struct delivery){
        .to = v, .bytes = frame, .segment = page ? WRITTEN : (int)outgoing_count, .index = v->rx_taken++, .id = r->id, .length = (uint16_t)length,
        .flags = (uint16_t)((checksum & CHECKSUM_BLANK ? NETRXF_csum_blank : 0) | (checksum ? NETRXF_data_validated : 0)),
    };
    if (page)
        memcpy(page, frame, length);
    else
        outgoing[outgoing_count++] = (xengnttab_grant_copy_segment_t){
            .source.virt = frame, .dest.foreign = { .ref = ref, .domid = v->record->domid },
            .len = (uint16_t)length, .flags = GNTCOPY_dest_gref, .status = GNTST_general_error,
        };
    touch(v);
}

static void flood(struct network *n, const struct vif *but, uint8_t *frame, size_t length, unsigned checksum)
{
    for (struct link *l = n->flood.next; l != &n->flood; l = l->next) {
        struct vif *v = (struct vif *)((char *)l - offsetof(struct vif, flood));
        if (v != but)
            move_deliver(v, frame, length, checksum);
    }
}

static int16_t forward_from_guest(struct taken *t, struct frame *f)
{
    struct vif *from = t->from;
    struct counters *c = &from->record->counters;
    if (!route_allows(from, f))
        return NETIF_RSP_DROPPED;
    c->tx_frames++;
    c->tx_bytes += f->length;
    if (from->mirror || f->group)
        frame_complete(f);
    mirror_frame(from, f->bytes, f->length);
    route_sent(from, f);
    const uint8_t *asked = route_asked(t->network, from, f);
    if (asked) {
        move_deliver(from, f->bytes, frame_answer_arp(f->bytes, asked), 0);
        return NETIF_RSP_OKAY;
    }
    bool kept = false;
    struct vif *to = f->group ? route_solicited(t->network, from, f) : route_receiver(t->network, f, t->checksum, &kept);
    if (to || kept) {
        frame_complete(f);
        if (to && to != from)
            move_deliver(to, f->bytes, f->length, t->checksum);
        return NETIF_RSP_OKAY;
    }
    if (!uplink_queue(t->network, from, f->bytes, f->mapped, f->length, t->checksum)) {
        c->tx_dropped++;
        totals.dropped++;
    }
    if (f->group)
        flood(t->network, from, f->bytes, f->length, t->checksum);
    return NETIF_RSP_OKAY;
}

static void forward_from_uplink(struct taken *t, struct frame *f)
{
    const uint8_t *asked = route_asked(t->network, NULL, f);
    struct vif *to = route_solicited(t->network, NULL, f);
    bool kept = false;
    if (asked) {
        uplink_queue(t->network, NULL, f->bytes, NULL, frame_answer_arp(f->bytes, asked), 0);
    } else if (f->group && !to) {
        flood(t->network, NULL, f->bytes, f->length, t->checksum);
    } else if (to || (to = route_receiver(t->network, f, t->checksum, &kept))) {
        move_deliver(to, f->bytes, f->length, t->checksum);
    } else if (!kept) {
        totals.dropped++;
    }
}

static void forward(unsigned i)
{
    struct taken *t = &taken[i];
    struct frame f;
    if (!t->whole || (t->from && t->from->failing))
        return;
    totals.frames++;
    totals.bytes += t->length;
    if (!frame_parse(&f, t->bytes, t->length)) {
        t->status = NETIF_RSP_ERROR;
    } else if (t->from) {
        f.mapped = t->mapped;
        t->status = forward_from_guest(t, &f);
    } else {
        forward_from_uplink(t, &f);
    }
    if (t->from && t->status != NETIF_RSP_OKAY) {
        t->from->record->counters.tx_dropped++;
        totals.dropped++;
    }
}

static void forward_all(void)
{
    for (unsigned i = 0; i < taken_count; i++) {
        forward(i);
        crash_point();
    }
}

/* Guests begin on what came from outside while what they sent is on its way. */
static bool move_from_uplinks(void)
{
    taken_count = 0;
    take_from_uplinks();
    forward_all();
    deliver_all();
    answer_all();
    return taken_count > 0;
}

static bool move_from_guests(void)
{
    taken_count = incoming_count = 0;
    take_from_guests();
    forward_all();
    bool waited = backlog_deliver() | hold_deliver();
    places_announce();
    uplinks_send(); /* and what the uplinks were answered */
    crash_point();
    deliver_all();
    for (unsigned i = 0; i < taken_count; i++) {
        const struct taken *t = &taken[i];
        answers[answer_count++] = (struct answer){ .slot = t->from->slot, .index = t->index, .ring = RING_TX,
                                                   .tx = { .id = t->id, .status = t->status } };
        touch(t->from);
    }
    answer_all();
    return taken_count > 0 || waited;
}

bool move_turn(void)
{
    turn_begins();
    places_turn();
    bool outside = move_from_uplinks(), inside = move_from_guests();
    uplinks_give_back(); /* useless frames, too */
    hold_clear();
    backlog_clear();
    if (outside || inside) {
        totals.turns++;
        mirrors_flush();
    }
    vifs_bury();
    lasting_map();
    return outside || inside;
}

bool move_waiting(void)
{
    vifs_poll();
    for (unsigned i = 0; i < networks_count; i++)
        if (uplink_waiting(&networks[i]))
            return true;
    return vifs_waiting() || places_waiting() || backlog_ready();
}
