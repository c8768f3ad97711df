/*
 * Rate limits on what guests send: a bucket of tokens a vif, and a wheel of milliseconds for those whose bucket is empty. A vif that waits
 * keeps its frames in its own ring; nothing is dropped, and its guest is slowed by its own full ring. The bucket may be overdrawn by one
 * frame. A wait longer than the wheel is several waits.
 */
#include <time.h>
#include "switch.h"

#define SLOTS 256u                              /* of a millisecond each */
#define BURST_US 20000                          /* a bucket holds this much of the rate … */
#define BURST_MIN (2 * (int64_t)FRAME_MAX * 8000) /* … and two full frames at least */

static struct link wheel[SLOTS];
static int64_t turned_ms;
static unsigned waiting;

int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 + clock_ahead_us;
}

static int64_t turn;

void turn_begins(void)
{
    turn = 0;
}

int64_t turn_us(void)
{
    if (!turn)
        turn = now_us();
    return turn;
}

void pace_init(void)
{
    for (unsigned i = 0; i < SLOTS; i++)
        wheel[i] = (struct link){ &wheel[i], &wheel[i] };
    turned_ms = now_us() / 1000;
    waiting = 0;
}

static int64_t burst(int64_t rate_kbit)
{
    int64_t most = rate_kbit * BURST_US;
    return most < BURST_MIN ? BURST_MIN : most;
}

void pace_start(struct vif *v, int64_t now)
{
    v->tokens = burst(vif_identity(v)->rate_kbit);
    v->refilled_us = now;
}

bool pace_allows(struct vif *v, int64_t *clock)
{
    int64_t rate_kbit = vif_identity(v)->rate_kbit;
    if (!rate_kbit || v->tokens > 0)
        return true;
    if (!*clock)
        *clock = now_us();
    int64_t now = *clock;
    /* A kilobit a second is a thousandth of a bit a microsecond. */
    int64_t elapsed = now - v->refilled_us;
    if (elapsed > 60000000)
        elapsed = 60000000;
    v->tokens += elapsed * rate_kbit;
    if (v->tokens > burst(rate_kbit))
        v->tokens = burst(rate_kbit);
    v->refilled_us = now;
    if (v->tokens > 0)
        return true;
    int64_t wait_ms = -v->tokens / (rate_kbit * 1000) + 1;
    if (wait_ms >= SLOTS)
        wait_ms = SLOTS - 1;
    if (!waiting)
        turned_ms = now / 1000; /* the wheel stood still while it was empty */
    link_append(&wheel[(now / 1000 + wait_ms) % SLOTS], &v->queue);
    waiting++;
    return false;
}

void pace_pay(struct vif *v, size_t bytes)
{
    if (vif_identity(v)->rate_kbit)
        v->tokens -= (int64_t)bytes * 8000;
}

void pace_wake(void)
{
    if (!waiting)
        return;
    int64_t now_ms = now_us() / 1000;
    if (now_ms - turned_ms > SLOTS)
        turned_ms = now_ms - SLOTS;
    while (turned_ms < now_ms) {
        struct link *slot = &wheel[++turned_ms % SLOTS];
        while (slot->next != slot) {
            struct link *l = slot->next;
            link_remove(l);
            vif_ready((struct vif *)((char *)l - offsetof(struct vif, queue)));
        }
    }
}

int pace_timeout_ms(void)
{
    if (!waiting)
        return -1;
    for (unsigned i = 1; i <= SLOTS; i++) {
        const struct link *slot = &wheel[(turned_ms + i) % SLOTS];
        if (slot->next != slot)
            return (int)i;
    }
    waiting = 0; /* all were woken, or detached while they waited */
    return -1;
}
