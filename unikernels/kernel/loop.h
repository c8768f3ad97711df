/*
 * The main loop and its seams. The platform brings waiting and events; the kernel brings timers and the batch hooks that run each
 * time the loop comes to rest.
 */
#ifndef KERNEL_LOOP_H
#define KERNEL_LOOP_H

#include "shoal.h"

#define TIMER_NEVER UINT64_MAX

/* The time at which the first timer is due, or TIMER_NEVER. */
uint64_t timers_next_due_ns(void);

/* Fires what is due. */
void timers_run(uint64_t now_ns);

/* Work gathered during one turn of the loop and done at its end, such as one notification for many frames. */
struct loop_batch {
  void (*flush)(void *context);
  void *context;
  struct loop_batch *next;
  bool queued;
};

/* Flushes `batch` once before the loop rests; asking again before that changes nothing. */
void loop_flush_later(struct loop_batch *batch);

/* Does what loop_flush_later has gathered. */
void loop_flush(void);

/* One turn, without sleep: events, timers, batches. True when there was an event. */
bool loop_turn(void);

/* Turns for ever, asleep in between. */
_Noreturn void loop_run(void);

/* From the platform: handles every event that is pending; true when there was one. */
bool platform_handle_events(void);

/* From the platform: sleeps until an event is pending or due_ns has come. Returns at once when an event is pending. */
void platform_wait(uint64_t due_ns);

#endif
