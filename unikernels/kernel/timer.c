/*
 * Timers as a list sorted by due time. Guests have a handful, so a list beats a heap; equal times fire in the order they were
 * set.
 */
#include "loop.h"

static struct shoal_timer *first;

void shoal_timer_cancel(struct shoal_timer *timer) {
  if (!timer->armed) return;
  struct shoal_timer **at = &first;
  while (*at != NULL && *at != timer) at = &(*at)->next;
  if (*at == NULL) shoal_panic("timer: armed but not listed");
  *at = timer->next;
  timer->armed = false;
}

void shoal_timer_set(struct shoal_timer *timer, uint64_t due_ns) {
  shoal_timer_cancel(timer);
  struct shoal_timer **at = &first;
  while (*at != NULL && (*at)->due_ns <= due_ns) at = &(*at)->next;
  timer->due_ns = due_ns;
  timer->next = *at;
  timer->armed = true;
  *at = timer;
}

uint64_t timers_next_due_ns(void) { return first == NULL ? TIMER_NEVER : first->due_ns; }

void timers_run(uint64_t now_ns) {
  /* Counted first: a timer that arms itself for the past again must not keep the loop from the network. */
  size_t due = 0;
  for (struct shoal_timer *timer = first; timer != NULL && timer->due_ns <= now_ns; timer = timer->next) due++;
  for (; due > 0 && first != NULL && first->due_ns <= now_ns; due--) {
    struct shoal_timer *timer = first;
    first = timer->next;
    timer->armed = false;
    timer->fire(timer->context);
  }
}
