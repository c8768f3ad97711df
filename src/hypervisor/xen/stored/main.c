/*
 * The loop: sockets, event channels, deaths.
 *   shoal-stored [--socket PATH] [--pid-file PATH] [--foreground]
 * Goes to the background once the socket listens and dom0's kernel is connected, so that a script may go on. `--without-xen` serves the
 * socket alone: for tests of the protocol on any machine.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "store.h"

static volatile sig_atomic_t stop;
static void on_signal(int number) { (void)number; stop = 1; }

static int listen_on(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof a.sun_path) {
        fprintf(stderr, "shoal-stored: the socket's path is too long\n");
        return -1;
    }
    strcpy(a.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    mode_t mask = umask(0077);
    int failed = fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 64);
    umask(mask);
    if (failed) {
        perror(path);
        return -1;
    }
    return fd;
}

static int write_pid(const char *path)
{
    FILE *f = fopen(path, "w");
    if (!f) {
        perror(path);
        return -1;
    }
    fprintf(f, "%ld\n", (long)getpid());
    return fclose(f);
}

/* Forks before anything of Xen's is opened (its hypercall buffers do not survive a fork). The parent leaves with 0 once the child wrote a
 * byte to the returned descriptor, with 1 when the child ended without. -2 on failure. */
static int to_background(void)
{
    int ends[2];
    char byte;
    if (pipe2(ends, O_CLOEXEC)) {
        perror("shoal-stored: pipe");
        return -2;
    }
    pid_t child = fork();
    if (child < 0) {
        perror("shoal-stored: fork");
        return -2;
    }
    if (child > 0) {
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 1 ? 0 : 1);
    }
    close(ends[0]);
    setsid();
    return ends[1];
}

static void turn(int listener, bool xen, bool more)
{
    /* Slot 0 listens, 1 is Xen's; the rest are sockets in the order of the list. Few clients: dom0's own programs. */
    static struct pollfd *p;
    static struct connection **who;
    static size_t room;
    size_t count = 2;
    for (struct connection *c = connections; c && c->fd >= 0; c = c->next)
        count++;
    if (count > room) {
        room = count * 2;
        p = realloc(p, room * sizeof *p);
        who = realloc(who, room * sizeof *who);
        if (!p || !who)
            abort();
    }
    p[0] = (struct pollfd){ .fd = listener, .events = POLLIN };
    p[1] = (struct pollfd){ .fd = xen ? domains_fd() : -1, .events = POLLIN };
    count = 2;
    for (struct connection *c = connections; c && c->fd >= 0; c = c->next) {
        who[count] = c;
        p[count++] = (struct pollfd){ .fd = c->fd, .events = (short)(POLLIN | (c->out_first ? POLLOUT : 0)) };
    }
    if (poll(p, (nfds_t)count, more ? 0 : xen ? domains_timeout_ms() : -1) < 0)
        return;
    if (p[0].revents) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            connection_new(fd, 0, true);
    }
    if (p[1].revents)
        domains_event();
    for (size_t i = 2; i < count; i++) {
        if (p[i].revents & POLLOUT)
            socket_flush(who[i]);
        if (p[i].revents & (POLLIN | POLLHUP | POLLERR))
            socket_readable(who[i]);
    }
}

int main(int argc, char **argv)
{
    const char *socket_path = "/run/xenstored/socket", *pid_path = NULL;
    bool foreground = false, xen = true;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--foreground"))
            foreground = true;
        else if (!strcmp(argv[i], "--without-xen"))
            xen = false;
        else if (!strcmp(argv[i], "--socket") && i + 1 < argc)
            socket_path = argv[++i];
        else if (!strcmp(argv[i], "--pid-file") && i + 1 < argc)
            pid_path = argv[++i];
        else {
            fprintf(stderr, "usage: shoal-stored [--socket PATH] [--pid-file PATH] [--foreground] [--without-xen]\n");
            return 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    int ready = foreground ? -1 : to_background();
    if (ready == -2)
        return 1;
    tree_init();
    tree_make("/tool/xenstored", 0);
    tree_make("/local/domain", 0);
    tree_make("/vm", 0);
    int listener = listen_on(socket_path);
    if (listener < 0 || (xen && domains_open()))
        return 1;
    if (pid_path && write_pid(pid_path))
        return 1;
    if (ready >= 0) {
        if (write(ready, "", 1) != 1)
            return 1;
        close(ready);
    }
    bool more = false;
    while (!stop) {
        turn(listener, xen, more);
        more = xen && domains_work();
        /* What the rings' requests brought for sockets goes out now, not with the next poll. */
        for (struct connection *c = connections; c && c->fd >= 0; c = c->next)
            if (c->out_first)
                socket_flush(c);
        connections_sweep();
    }
    unlink(socket_path);
    return 0;
}
