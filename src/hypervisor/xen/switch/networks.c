/*
 * Networks, by name, and whether each has its way out (packet.h). A network whose bridge is missing, or whose interface somebody took away,
 * keeps its guests together and waits to be asked for again.
 */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "switch.h"

struct network networks[NETWORKS_MAX];
unsigned networks_count;
const struct way *uplink_way = &(const struct way){ packet_open, packet_join, packet_close };

void networks_init(void)
{
    networks_count = 0;
    for (unsigned i = 0; i < NETWORKS_MAX; i++) {
        networks[i] = (struct network){ .index = i, .packet = { .fd = -1, .guard = -1 }, .record = state_network(i) };
        networks[i].flood = (struct link){ &networks[i].flood, &networks[i].flood };
    }
}

struct network *network_find(const char *name)
{
    for (unsigned i = 0; i < NETWORKS_MAX; i++)
        if (networks[i].record->used && !strcmp(networks[i].record->name, name))
            return &networks[i];
    return NULL;
}

static bool interface_taken(const char *interface)
{
    for (unsigned i = 0; i < NETWORKS_MAX; i++)
        if (networks[i].record->used && !strcmp(networks[i].record->interface, interface))
            return true;
    return false;
}

/* shoal-NAME, cut; where two networks begin alike, the end is of the hash of the whole. */
static void name_interface(struct network_record *r, const char *name)
{
    uint32_t hash = 2166136261u;
    snprintf(r->interface, sizeof r->interface, "shoal-%.9s", name);
    for (const char *c = name; *c; c++)
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    if (interface_taken(r->interface))
        snprintf(r->interface, sizeof r->interface, "shoal-%.4s%05x", name, hash & 0xfffff);
}

static void close_uplink(struct network *n)
{
    if (n->packet.fd < 0)
        return;
    n->lost += packet_lost(&n->packet);
    uplink_way->close(&n->packet, n->record->interface);
    n->next = n->held = 0;
}

static int open_uplink(struct network *n)
{
    int error = uplink_way->open(&n->packet, n->record->interface, n->record->bridge);
    if (!error && wait_for(n->packet.fd, EPOLLIN, WAIT_UPLINK, n->index)) {
        error = errno;
        close_uplink(n);
    }
    if (!error && n->index >= networks_count)
        networks_count = n->index + 1;
    return error;
}

int network_add(const char *name, const char *bridge, struct network **found)
{
    struct network *n = network_find(name);
    if (n) {
        *found = n;
        if (strcmp(n->record->bridge, bridge))
            return EEXIST;
        /* One that is there is put on its bridge again: somebody may have made the bridge anew. */
        return n->packet.fd < 0 ? open_uplink(n) : uplink_way->join(n->record->interface, bridge);
    }
    for (unsigned i = 0; i < NETWORKS_MAX && !n; i++)
        if (!networks[i].record->used)
            n = &networks[i];
    if (!n)
        return ENOSPC;
    struct network_record fresh = { 0 };
    snprintf(fresh.name, sizeof fresh.name, "%s", name);
    snprintf(fresh.bridge, sizeof fresh.bridge, "%s", bridge);
    name_interface(&fresh, name);
    *n->record = fresh;
    int error = open_uplink(n);
    if (error)
        return error;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    n->record->used = 1;
    *found = n;
    return 0;
}

void network_resume(unsigned index)
{
    struct network *n = &networks[index];
    struct network_record *r = n->record;
    if (!r->used)
        return;
    r->name[sizeof r->name - 1] = r->bridge[sizeof r->bridge - 1] = r->interface[sizeof r->interface - 1] = 0;
    int error = open_uplink(n);
    if (error)
        fprintf(stderr, "shoal-switch: network %s has no uplink: %s on %s: %s\n", r->name, r->interface, r->bridge, strerror(error));
}

void network_event(struct network *n, uint32_t events)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (!(events & (EPOLLERR | EPOLLHUP)) || n->packet.fd < 0)
        return; /* frames are found by looking into the ring */
    getsockopt(n->packet.fd, SOL_SOCKET, SO_ERROR, &error, &length);
    fprintf(stderr, "shoal-switch: network %s lost its uplink: %s\n", n->record->name, strerror(error));
    close_uplink(n);
}

uint64_t networks_lost(void)
{
    uint64_t lost = 0;
    for (unsigned i = 0; i < NETWORKS_MAX; i++)
        lost += networks[i].lost += packet_lost(&networks[i].packet);
    return lost;
}

void networks_close(void)
{
    for (unsigned i = 0; i < NETWORKS_MAX; i++)
        close_uplink(&networks[i]);
}
