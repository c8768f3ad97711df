/*
 * Who a vif is: its MAC, its addresses, its rate. The tables by which frames find their way are filled here and nowhere else; what the
 * agent says is the only thing they follow. Two vifs of a network never have the same MAC or address.
 */
#include <stdlib.h>
#include <string.h>
#include "switch.h"

static struct table macs, addresses;

static uint64_t mac_key(const struct network *n, const uint8_t mac[6])
{
    uint64_t key = (uint64_t)n->index << 48;
    memcpy(&key, mac, 6);
    return key;
}

static uint64_t address_key(const struct network *n, uint32_t address)
{
    return (uint64_t)n->index << 32 | address;
}

const struct identity *vif_identity(const struct vif *v)
{
    uint32_t current = v->record->current;
    return current == 1 || current == 2 ? &v->record->identities[current - 1] : NULL;
}

struct vif *vif_by_mac(const struct network *n, const uint8_t mac[6])
{
    return table_find(&macs, mac_key(n, mac));
}

struct vif *vif_by_address(const struct network *n, uint32_t address)
{
    return table_find(&addresses, address_key(n, address));
}

void identity_forget(struct vif *v)
{
    const struct identity *who = vif_identity(v);
    if (!who)
        return;
    if (vif_by_mac(v->network, who->mac) == v)
        table_remove(&macs, mac_key(v->network, who->mac));
    for (unsigned i = 0; i < who->address_count && i < ADDRESSES_MAX; i++)
        if (vif_by_address(v->network, who->addresses[i]) == v)
            table_remove(&addresses, address_key(v->network, who->addresses[i]));
    link_remove(&v->flood);
}

/* What was counted of addresses that stay, stays. */
static void learn_traffic(struct vif *v, const struct identity *who)
{
    struct traffic *fresh = calloc(who->address_count ? who->address_count : 1, sizeof *fresh);
    if (!fresh)
        abort(); /* the next switch goes on from the state file */
    for (unsigned i = 0; i < who->address_count; i++) {
        const struct traffic *old = traffic_of(v, who->addresses[i]);
        fresh[i] = old ? *old : (struct traffic){ .address = who->addresses[i], .last_us = now_us() };
    }
    free(v->traffic);
    v->traffic = fresh;
    v->traffics = who->address_count;
}

const struct traffic *traffic_of(const struct vif *v, uint32_t address)
{
    for (unsigned i = 0; i < v->traffics; i++)
        if (v->traffic[i].address == address)
            return &v->traffic[i];
    return NULL;
}

void traffic_count(struct vif *v, uint32_t address, size_t length)
{
    for (unsigned i = 0; i < v->traffics; i++)
        if (v->traffic[i].address == address) {
            v->traffic[i].frames++;
            v->traffic[i].bytes += length;
            v->traffic[i].last_us = turn_us();
            return;
        }
}

void identity_learn(struct vif *v)
{
    const struct identity *who = vif_identity(v);
    table_put(&macs, mac_key(v->network, who->mac), v);
    for (unsigned i = 0; i < who->address_count; i++)
        table_put(&addresses, address_key(v->network, who->addresses[i]), v);
    if (who->flags & FLAG_FLOOD)
        link_append(&v->network->flood, &v->flood);
    learn_traffic(v, who);
    pace_start(v, now_us());
    vif_ready(v);
}

int identity_conflict(const struct vif *v, const struct identity *who)
{
    struct vif *other = vif_by_mac(v->network, who->mac);
    if (other && other != v)
        return EADDRINUSE;
    for (unsigned i = 0; i < who->address_count; i++) {
        other = vif_by_address(v->network, who->addresses[i]);
        if (other && other != v)
            return EADDRINUSE;
        for (unsigned j = 0; j < i; j++)
            if (who->addresses[j] == who->addresses[i])
                return EINVAL;
    }
    return 0;
}

int vif_identify(struct vif *v, const struct identity *who)
{
    int error = identity_conflict(v, who);
    if (error)
        return error;
    /* Into the half that is not in use, which then becomes the one that is. */
    uint32_t next = v->record->current == 1 ? 2 : 1;
    identity_forget(v);
    v->record->identities[next - 1] = *who;
    crash_point();
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    v->record->current = next;
    identity_learn(v);
    if (v->record->counters.tx_frames)
        places_spoke(v);
    return 0;
}

void identities_close(void)
{
    table_free(&macs);
    table_free(&addresses);
}
