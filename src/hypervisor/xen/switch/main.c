/*
 * The loop: event channels, uplinks, the control socket, waits for rates; then turns of the data path, until there is nothing to do.
 *   shoal-switch [--socket PATH] [--state PATH] [--pid-file PATH] [--foreground]
 * Goes to the background once the socket listens and all vifs of the state file are attached again. A clean end keeps the state file, and
 * loses no frame: what was not answered is in the rings for the next one. A second switch with the same state file is refused.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "hypervisor.h"
#include "switch.h"

#define EVENTS_AT_ONCE 64
#define TURNS 8    /* before the kernel is asked again what else there is */
#define LOOKS 16   /* after work, before it waits: to be woken costs more than these */
#define NICE (-5)  /* above the kernel's own thread for frames: what cannot be carried is dropped early, and not in place of the carrying */

static int loop = -1;
static bool stop, busy; /* busy: the last turn moved something */

static int wait_control(int operation, int fd, uint32_t events, unsigned kind, uint32_t which)
{
    struct epoll_event e = { .events = events, .data.u64 = (uint64_t)kind << 32 | which };
    return epoll_ctl(loop, operation, fd, &e);
}

int wait_for(int fd, uint32_t events, unsigned kind, uint32_t which)
{
    return wait_control(EPOLL_CTL_ADD, fd, events, kind, which);
}

void wait_change(int fd, uint32_t events, unsigned kind, uint32_t which)
{
    if (wait_control(EPOLL_CTL_MOD, fd, events, kind, which))
        abort();
}

int switch_open(const char *state_path)
{
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0 || move_init()) {
        perror("shoal-switch");
        return -1;
    }
    if (state_open(state_path) || hypervisor_open())
        return -1;
    if (wait_for(hypervisor_fd(), EPOLLIN, WAIT_XEN, 0)) {
        perror("shoal-switch: waiting for event channels");
        return -1;
    }
    pace_init();
    networks_init();
    vifs_init();
    for (unsigned i = 0; i < NETWORKS_MAX; i++)
        network_resume(i);
    places_redo();
    vifs_resume();
    places_resume();
    return 0;
}

void switch_close(void)
{
    places_close();
    vifs_close();
    networks_close();
    state_close();
    close(loop);
    loop = -1;
}

static void happened(const struct epoll_event *e)
{
    uint32_t which = (uint32_t)e->data.u64;
    switch (e->data.u64 >> 32) {
    case WAIT_XEN:
        events_take();
        break;
    case WAIT_UPLINK:
        network_event(&networks[which], e->events);
        break;
    case WAIT_LISTENER:
        control_event(UINT32_MAX, e->events);
        break;
    case WAIT_CLIENT:
        control_event(which, e->events);
        break;
    case WAIT_SIGNAL:
        stop = true;
        break;
    }
}

/* Hears of everything, and waits for something unless there is work. Whoever is waited for is to tell us by event. */
static void hear(int timeout_ms)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    if (timeout_ms && !busy && !move_waiting())
        vifs_rest(0);
    events_unmask();
    int waits_ms = pace_timeout_ms(), due_ms = places_timeout_ms();
    if (due_ms >= 0 && (waits_ms < 0 || due_ms < waits_ms))
        waits_ms = due_ms;
    if (backlog_pending())
        waits_ms = 1; /* guests do not tell of posted buffers */
    if (busy || move_waiting())
        timeout_ms = 0;
    else if (waits_ms >= 0 && (timeout_ms < 0 || waits_ms < timeout_ms))
        timeout_ms = waits_ms;
    totals.waits++;
    int count = epoll_wait(loop, events, EVENTS_AT_ONCE, timeout_ms);
    for (int i = 0; i < count; i++)
        happened(&events[i]);
}

static void turn(void)
{
    pace_wake();
    busy = move_turn();
    vifs_rest(IDLE_TURNS);
    events_unmask();
}

static bool look(void)
{
    for (unsigned looks = 0; looks < LOOKS; looks++) {
        if (move_waiting())
            return true;
        __builtin_ia32_pause();
    }
    return false;
}

/* Waits unless there is work, then does some turns; with a timeout of 0 one. */
void switch_step(int timeout_ms)
{
    hear(timeout_ms);
    turn();
    for (unsigned turns = 1; timeout_ms && busy && turns < TURNS; turns++) {
        busy = look();
        if (busy)
            turn();
    }
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

/* Forks before anything of Xen's is opened. The parent leaves with 0 once the child wrote a byte to the returned descriptor, with 1 when
 * the child ended without. -2 on failure. */
static int to_background(void)
{
    int ends[2];
    char byte;
    if (pipe2(ends, O_CLOEXEC)) {
        perror("shoal-switch: pipe");
        return -2;
    }
    pid_t child = fork();
    if (child < 0) {
        perror("shoal-switch: fork");
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

/* As a descriptor of the loop: a switch that is never idle sees them, too. */
static int signals(void)
{
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0 || wait_for(fd, EPOLLIN, WAIT_SIGNAL, 0)) {
        perror("shoal-switch: signals");
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *socket_path = "/run/shoal/switch.sock", *state_path = "/run/shoal/switch.state", *pid_path = NULL;
    bool foreground = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--foreground"))
            foreground = true;
        else if (!strcmp(argv[i], "--socket") && i + 1 < argc)
            socket_path = argv[++i];
        else if (!strcmp(argv[i], "--state") && i + 1 < argc)
            state_path = argv[++i];
        else if (!strcmp(argv[i], "--pid-file") && i + 1 < argc)
            pid_path = argv[++i];
        else {
            fprintf(stderr, "usage: shoal-switch [--socket PATH] [--state PATH] [--pid-file PATH] [--foreground]\n");
            return 2;
        }
    }
    if (setpriority(PRIO_PROCESS, 0, NICE))
        perror("shoal-switch: priority"); /* it works without */
    int ready = foreground ? -1 : to_background();
    if (ready == -2 || switch_open(state_path) || signals() || control_open(socket_path) || (pid_path && write_pid(pid_path)))
        return 1;
    if (ready >= 0) {
        if (write(ready, "", 1) != 1)
            return 1;
        close(ready);
    }
    while (!stop)
        switch_step(-1);
    control_close();
    switch_close();
    return 0;
}
