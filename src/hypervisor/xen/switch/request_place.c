/* The requests about addresses: move, hold, announce, traffic. */
#include <arpa/inet.h>
#include <string.h>
#include "request.h"
#include "switch.h"

/* The network and the address that a line begins with; NULL with the refusal given. */
static struct network *place_of(struct line *l, struct reply *r, uint32_t *address)
{
    struct network *n = l->count >= 3 ? network_find(l->words[1]) : NULL;
    if (l->count < 3 || inet_pton(AF_INET, l->words[2], address) != 1 || !*address) {
        refuse(r, EINVAL, "name a network and an address");
        return NULL;
    }
    l->used[1] = l->used[2] = true;
    if (!n)
        refuse(r, ENOENT, "no such network");
    return n;
}

/* The vif of KEY=DOMID.HANDLE, NULL when it is not said; false with the refusal given. */
static bool vif_named(struct line *l, const char *key, struct vif **v, struct reply *r)
{
    const char *text = value_of(l, key), *dot = text ? strchr(text, '.') : NULL;
    char front[8] = "";
    uint64_t domid, handle;
    *v = NULL;
    if (!text)
        return true;
    if (dot && dot - text < (long)sizeof front)
        memcpy(front, text, (size_t)(dot - text));
    if (!dot || !number(front, DOMIDS - 1, &domid) || !number(dot + 1, UINT32_MAX, &handle)) {
        refuse(r, EINVAL, "name a vif: DOMID.HANDLE");
        return false;
    }
    *v = vif_find((unsigned)domid, (uint32_t)handle);
    if (!*v)
        refuse(r, ENOENT, "no such vif is attached");
    return *v != NULL;
}

void request_move(struct line *l, struct reply *r)
{
    uint32_t address;
    uint64_t drain_ms = 0;
    struct vif *from, *to;
    struct network *n = place_of(l, r, &address);
    if (!n)
        return;
    const char *drain = value_of(l, "drain");
    if (!vif_named(l, "from", &from, r) || !vif_named(l, "to", &to, r))
        return;
    if ((drain && !number(drain, DRAIN_MOST_MS, &drain_ms)) || !all_used(l)) {
        refuse(r, EINVAL, "move NETWORK ADDRESS [from=DOMID.HANDLE] [to=DOMID.HANDLE] [drain=MS]");
        return;
    }
    int error = place_move(n, address, from, to, (uint32_t)drain_ms);
    if (error == EADDRINUSE)
        refuse(r, error, "another vif of the network has this address");
    else if (error == EBUSY)
        refuse(r, error, "connections of too many former holders are still left");
    else if (error == ENOSPC)
        refuse(r, error, "no room for another address");
    else if (error)
        refuse(r, error, "from one vif of the network to another, both with an identity");
    else
        reply_add(r, "ok\n");
}

void request_hold(struct line *l, struct reply *r)
{
    uint32_t address;
    uint64_t ms;
    struct network *n = place_of(l, r, &address);
    if (!n)
        return;
    uint8_t mac[6];
    const char *mac_text = value_of(l, "mac");
    if (!number_of(l, "ms", HOLD_MOST_MS, &ms) || (mac_text && !parse_mac(mac_text, mac)) || !all_used(l)) {
        refuse(r, EINVAL, "hold NETWORK ADDRESS ms=MS [mac=MAC] (0: no longer)");
        return;
    }
    int error = place_hold(n, address, (uint32_t)ms, mac_text ? mac : NULL);
    if (error == EEXIST)
        refuse(r, error, "a guest that runs has this address");
    else if (error)
        refuse(r, error, "no room for another address");
    else
        reply_add(r, "ok\n");
}

void request_announce(struct line *l, struct reply *r)
{
    uint32_t address;
    struct network *n = place_of(l, r, &address);
    if (!n)
        return;
    if (!all_used(l))
        refuse(r, EINVAL, "announce NETWORK ADDRESS");
    else if (place_here(n, address))
        refuse(r, ENOENT, "nobody has this address");
    else
        reply_add(r, "ok\n");
}

void request_traffic(struct line *l, struct reply *r)
{
    uint32_t address;
    struct network *n = place_of(l, r, &address);
    if (!n)
        return;
    const struct vif *v = vif_by_address(n, address);
    const struct place *p = place_find(n, address);
    const struct traffic *t = v ? traffic_of(v, address) : NULL;
    unsigned drains = 0;
    if (!all_used(l)) {
        refuse(r, EINVAL, "traffic NETWORK ADDRESS");
        return;
    }
    if (!t && !p) {
        refuse(r, ENOENT, "nobody has this address");
        return;
    }
    for (unsigned i = 0; p && i < DRAINS_MAX; i++)
        drains += p->drains[i].state == DRAIN_ON;
    reply_add(r, "ok frames=%lu bytes=%lu idle_ms=%ld drains=%u held=%u waiting=%u\n", t ? t->frames : 0, t ? t->bytes : 0,
              t ? (long)((now_us() - t->last_us) / 1000) : 0, drains, p && place_held(p), p ? hold_count(p) : 0);
}
