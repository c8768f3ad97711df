/*
 * The control socket: clients that send lines and get one answer to each, in order. A client that does not read its answers is not read
 * either, so it costs a bounded amount of memory and nobody else's time.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "switch.h"

#define CLIENTS_MAX 64u
#define LINE_MAX_BYTES 1024u
#define INPUT_BYTES 16384u
#define UNREAD_MAX (256u * 1024u) /* answers waiting, above which no further request is handled */
#define SHARE 64u                 /* requests of one client before frames have their turn */

struct client {
    int fd;                   /* -1: free */
    bool more, ending;        /* more: there may be requests in the input that were not handled yet */
    size_t have, sent;
    char input[INPUT_BYTES];
    struct reply out;
};

static struct client *clients[CLIENTS_MAX];
static int listener = -1;
static char *socket_path;

void reply_add(struct reply *r, const char *format, ...)
{
    for (;;) {
        va_list arguments;
        va_start(arguments, format);
        int wanted = vsnprintf(r->bytes ? r->bytes + r->length : NULL, r->room - r->length, format, arguments);
        va_end(arguments);
        if (wanted < 0)
            abort();
        if ((size_t)wanted < r->room - r->length) {
            r->length += (size_t)wanted;
            return;
        }
        r->room = (r->room + (size_t)wanted + 1) * 2;
        r->bytes = realloc(r->bytes, r->room);
        if (!r->bytes)
            abort();
    }
}

int control_open(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof a.sun_path) {
        fprintf(stderr, "shoal-switch: the socket's path is too long\n");
        return -1;
    }
    strcpy(a.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    mode_t mask = umask(0177);
    int failed = fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 64);
    umask(mask);
    if (failed || wait_for(fd, EPOLLIN, WAIT_LISTENER, 0)) {
        perror(path);
        return -1;
    }
    listener = fd;
    socket_path = strdup(path);
    return 0;
}

static void end_client(uint32_t which)
{
    struct client *c = clients[which];
    clients[which] = NULL;
    close(c->fd);
    free(c->out.bytes);
    free(c);
}

static void accept_client(void)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        if (clients[i])
            continue;
        clients[i] = calloc(1, sizeof *clients[i]);
        if (!clients[i])
            abort();
        clients[i]->fd = fd;
        if (wait_for(fd, EPOLLIN, WAIT_CLIENT, i))
            end_client(i);
        return;
    }
    close(fd);
}

/* False when the client is gone. */
static bool send_answers(struct client *c)
{
    while (c->sent < c->out.length) {
        ssize_t sent = send(c->fd, c->out.bytes + c->sent, c->out.length - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (sent < 0) {
            c->out.length -= c->sent;
            memmove(c->out.bytes, c->out.bytes + c->sent, c->out.length);
            c->sent = 0;
            return true;
        }
        c->sent += (size_t)sent;
    }
    c->sent = c->out.length = 0;
    if (c->out.room > UNREAD_MAX) {
        free(c->out.bytes);
        c->out = (struct reply){ 0 };
    }
    return !c->ending;
}

static void handle_lines(struct client *c)
{
    size_t at = 0;
    c->more = false;
    for (unsigned handled = 0; !c->ending; handled++) {
        char *line = c->input + at, *end = memchr(line, '\n', c->have - at);
        size_t length = end ? (size_t)(end - line) + 1 : c->have - at;
        if (length > LINE_MAX_BYTES) {
            reply_add(&c->out, "error EMSGSIZE a request has at most %u bytes; the connection ends\n", LINE_MAX_BYTES);
            c->ending = true;
            break;
        }
        if (!end)
            break;
        if (c->out.length > UNREAD_MAX || handled == SHARE) {
            c->more = true;
            break;
        }
        *end = 0;
        if (memchr(line, 0, length - 1))
            reply_add(&c->out, "error EINVAL a request is text\n");
        else
            request_handle(line, &c->out);
        at += length;
    }
    memmove(c->input, c->input + at, c->have - at);
    c->have -= at;
}

static void serve(uint32_t which, uint32_t events)
{
    struct client *c = clients[which];
    if (!c)
        return;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !c->more) {
        ssize_t got = recv(c->fd, c->input + c->have, INPUT_BYTES - c->have, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
            end_client(which);
            return;
        }
        if (got > 0)
            c->have += (size_t)got;
    }
    handle_lines(c);
    if (!send_answers(c)) {
        end_client(which);
        return;
    }
    /* With more to do, EPOLLOUT brings us back: at once, or when the client has read. */
    wait_change(c->fd, (c->more ? 0 : EPOLLIN) | (c->more || c->out.length ? EPOLLOUT : 0), WAIT_CLIENT, which);
}

void control_event(uint32_t which, uint32_t events)
{
    if (which == UINT32_MAX)
        accept_client();
    else if (which < CLIENTS_MAX)
        serve(which, events);
}

void control_close(void)
{
    for (uint32_t i = 0; i < CLIENTS_MAX; i++)
        if (clients[i])
            end_client(i);
    if (listener < 0)
        return;
    close(listener);
    listener = -1;
    unlink(socket_path);
    free(socket_path);
    socket_path = NULL;
}
