/*
 * One thread, one loop: events, timers, then what they gathered (batches), then sleep. Nothing spins: the loop only goes round
 * again when there was an event or a timer is due.
 */
#include "loop.h"

static struct loop_batch *batches;

void loop_flush_later(struct loop_batch *batch) {
  if (batch->queued) return;
  batch->queued = true;
  batch->next = batches;
  batches = batch;
}

void loop_flush(void) {
  while (batches != NULL) {
    struct loop_batch *batch = batches;
    batches = batch->next;
    batch->queued = false;
    batch->flush(batch->context);
  }
}

bool loop_turn(void) {
  bool busy = platform_handle_events();
  timers_run(shoal_now_ns());
  loop_flush();
  return busy;
}

void loop_run(void) {
  for (;;) {
    if (!loop_turn()) platform_wait(timers_next_due_ns());
  }
}
