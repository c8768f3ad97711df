/*
 * Connections: who asks, what is half read from them, what still waits to be sent. Sockets are read and answered here, a batch at a time;
 * rings in domain.c. A closed connection stays in the list until the sweep at the end of a turn, so that nothing that runs meanwhile
 * holds a dead pointer.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "store.h"

/* Sockets first, rings after them: who looks at sockets stops at the first ring and never walks over a thousand guests. */
struct connection *connections;
static struct connection *connections_last;
static unsigned closing; /* closed and not yet swept */

#define INPUT_MAX (64u * 1024u) /* bytes of a socket parsed in one turn */

struct connection *connection_new(int fd, unsigned domid, bool privileged)
{
    struct connection *c = xalloc(sizeof *c);
    c->fd = fd;
    c->domid = domid;
    c->privileged = privileged;
    c->payload = xalloc(XENSTORE_PAYLOAD_MAX + 1);
    if (fd >= 0)
        c->input = xalloc(INPUT_MAX);
    if (fd >= 0) {
        c->next = connections;
        if (connections)
            connections->prev = c;
        else
            connections_last = c;
        connections = c;
    } else {
        c->prev = connections_last;
        if (connections_last)
            connections_last->next = c;
        else
            connections = c;
        connections_last = c;
    }
    return c;
}

void connection_close(struct connection *c)
{
    if (c->closed)
        return;
    c->closed = true;
    closing++;
    watches_drop(c);
    transactions_drop(c);
}

void connections_sweep(void)
{
    if (!closing)
        return;
    for (struct connection *c = connections, *next; c; c = next) {
        next = c->next;
        if (!c->closed || c->ready || c->ring)
            continue;
        if (c->prev) c->prev->next = c->next; else connections = c->next;
        if (c->next) c->next->prev = c->prev; else connections_last = c->prev;
        closing--;
        if (c->fd >= 0)
            close(c->fd);
        for (struct chunk *k = c->out_first, *after; k; k = after) {
            after = k->next;
            free(k);
        }
        free(c->input);
        free(c->payload);
        free(c);
    }
}

void connection_send(struct connection *c, uint32_t type, uint32_t req_id, uint32_t tx_id, const void *payload, size_t len)
{
    struct xsd_sockmsg h = { type, req_id, tx_id, (uint32_t)len };
    struct chunk *k = xalloc(sizeof *k + sizeof h + len);
    memcpy(k->bytes, &h, sizeof h);
    if (len)
        memcpy(k->bytes + sizeof h, payload, len);
    k->len = sizeof h + len;
    if (c->out_last)
        c->out_last->next = k;
    else
        c->out_first = k;
    c->out_last = k;
    c->out_bytes += k->len;
    if (c->ring && !c->closed)
        domain_flush(c);
}

void socket_flush(struct connection *c)
{
    while (c->out_first && !c->closed) {
        struct iovec v[64];
        int count = 0;
        for (struct chunk *k = c->out_first; k && count < 64; k = k->next)
            v[count++] = (struct iovec){ k->bytes + k->done, k->len - k->done };
        struct msghdr m = { .msg_iov = v, .msg_iovlen = (size_t)count };
        ssize_t sent = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR)
                connection_close(c);
            return;
        }
        c->out_bytes -= (size_t)sent;
        while (sent > 0) {
            struct chunk *k = c->out_first;
            size_t part = k->len - k->done < (size_t)sent ? k->len - k->done : (size_t)sent;
            k->done += part;
            sent -= (ssize_t)part;
            if (k->done == k->len) {
                c->out_first = k->next;
                if (!c->out_first)
                    c->out_last = NULL;
                free(k);
            }
        }
    }
}

void socket_readable(struct connection *c)
{
    ssize_t got = recv(c->fd, c->input + c->input_have, INPUT_MAX - c->input_have, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            connection_close(c);
        return;
    }
    c->input_have += (size_t)got;
    size_t at = 0;
    while (!c->closed && c->input_have - at >= sizeof(struct xsd_sockmsg)) {
        struct xsd_sockmsg h;
        memcpy(&h, c->input + at, sizeof h);
        if (h.len > XENSTORE_PAYLOAD_MAX) {
            connection_close(c);
            return;
        }
        if (c->input_have - at - sizeof h < h.len)
            break;
        memcpy(c->payload, c->input + at + sizeof h, h.len);
        c->payload[h.len] = 0;
        at += sizeof h + h.len;
        request_handle(c, &h, c->payload);
    }
    memmove(c->input, c->input + at, c->input_have - at);
    c->input_have -= at;
    socket_flush(c);
}
