/*
 * Turns: tasks one after the other, each a batch at a time, in a timer that is due at once, so that frames, timers and the admin port have
 * their turns in between and a guest without work sleeps. And the two ways a batch moves, with the bounds on them.
 */
#include "router.h"

/* Of tasks in one turn: a few microseconds each. */
#define TURN_TASKS 64u
#define SECOND_NS 1000000000ull
#define LINES_A_SECOND 64u

static void turn(void *context);
static struct shoal_timer turn_timer = {.fire = turn};
static struct element *first_task, *last_task;
static uint64_t now_ns, cut;
static unsigned depth, steps;

/* ---- time ---- */

uint64_t click_now_ns(void) { return now_ns; }
uint64_t click_exact_ns(void) { return shoal_now_ns(); }
uint64_t click_wall_ns(void) { return shoal_wall_ns(); }
uint64_t schedule_cut(void) { return cut; }

void element_enter(void) {
  now_ns = shoal_now_ns();
  depth = 0;
  steps = CLICK_STEPS_MAX;
}

void element_timer_set(struct element *element, uint64_t due_ns) { shoal_timer_set(&element->timer, due_ns); }
void element_timer_cancel(struct element *element) { shoal_timer_cancel(&element->timer); }

bool schedule_may_print(void) {
  static uint64_t second, printed, lost;
  if (now_ns / SECOND_NS != second) {
    if (lost > 0) shoal_print("click: %llu lines lost\n", (unsigned long long)lost);
    second = now_ns / SECOND_NS;
    printed = lost = 0;
  }
  if (printed < LINES_A_SECOND) {
    printed++;
    return true;
  }
  lost++;
  return false;
}

/* ---- tasks ---- */

/* As soon as may be, but behind timers that were due before the last turn: what became due since has its turn in the same round of the loop, and
 * reading the time may cost a trap. */
static void start_turn(void) { shoal_timer_set(&turn_timer, now_ns); }

void element_schedule(struct element *element) {
  if (element->scheduled) return;
  element->scheduled = true;
  element->next_task = NULL;
  if (first_task == NULL) {
    first_task = element;
    if (!turn_timer.armed) start_turn();
  } else {
    last_task->next_task = element;
  }
  last_task = element;
}

void element_wake(struct element *element) {
  for (uint32_t i = 0; i < element->wake_count; i++) element_schedule(element->wakes[i]);
}

void schedule_forget(struct element *element) {
  shoal_timer_cancel(&element->timer);
  if (!element->scheduled) return;
  struct element **at = &first_task, *before = NULL;
  while (*at != element) before = *at, at = &(*at)->next_task;
  *at = element->next_task;
  if (last_task == element) last_task = before;
  element->scheduled = false;
}

static void turn(void *context) {
  (void)context;
  element_enter();
  for (unsigned i = 0; i < TURN_TASKS && first_task != NULL; i++) {
    struct element *element = first_task;
    first_task = element->next_task;
    if (first_task == NULL) last_task = NULL;
    element->scheduled = false;
    steps = CLICK_STEPS_MAX;
    if (element->class->run(element)) element_schedule(element);
  }
  if (first_task != NULL) start_turn();
}

/* ---- packets ---- */

void element_push(struct element *element, unsigned output, struct batch *batch) {
  if (batch->first == NULL) return;
  if (output >= element->output_count) {
    batch_free(batch);
    return;
  }
  const struct element_port *port = &element->outputs[output];
  struct element *to = port->peer;
  if (depth >= CLICK_DEPTH_MAX || steps == 0) {
    if (cut == 0) shoal_print("click: %s: a loop without a queue, or a chain too long: packets are dropped\n", element->name);
    cut += batch->count;
    batch_free(batch);
    return;
  }
  depth++, steps--;
  if (to->class->push != NULL) {
    to->class->push(to, port->peer_port, batch);
  } else {
    to->class->action(to, batch);
    element_push(to, 0, batch);
  }
  depth--;
  *batch = BATCH_EMPTY;
}

void element_push_one(struct element *element, unsigned output, struct packet *packet) {
  struct batch batch = BATCH_EMPTY;
  batch_add(&batch, packet);
  element_push(element, output, &batch);
}

unsigned element_pull(struct element *element, unsigned input, unsigned most, struct batch *to) {
  uint32_t before = to->count;
  if (input >= element->input_count || depth >= CLICK_DEPTH_MAX || steps == 0) return 0;
  const struct element_port *port = &element->inputs[input];
  struct element *from = port->peer;
  depth++, steps--;
  if (from->class->pull != NULL) {
    from->class->pull(from, port->peer_port, most, to);
  } else {
    struct batch batch = BATCH_EMPTY;
    element_pull(from, 0, most, &batch);
    if (batch.first != NULL) from->class->action(from, &batch);
    batch_join(to, &batch);
  }
  depth--;
  return to->count - before;
}

void fanout_end(struct fanout *fanout) {
  for (unsigned output = 0; fanout->used != 0; output++, fanout->used >>= 1) {
    if (fanout->used & 1) element_push(fanout->element, output, &fanout->batches[output]);
  }
}

/* ---- whose tasks pull from where ---- */

/* Notes `task` with every element that its pulls can reach; `mark`: which were seen in this round, `stack`: room for all. Without `fill` they
 * are only counted. */
static void reach(struct element *task, uint32_t *mark, struct element **stack, bool fill) {
  uint32_t height = 0;
  stack[height++] = task;
  while (height > 0) {
    struct element *element = stack[--height];
    for (unsigned i = 0; i < element->input_count; i++) {
      struct element *peer = element->inputs[i].peer;
      if (element->inputs[i].is_push || mark[peer->index] == task->index + 1) continue;
      mark[peer->index] = task->index + 1;
      if (fill) peer->wakes[peer->wake_count] = task;
      peer->wake_count++;
      stack[height++] = peer;
    }
  }
}

bool router_connect_wakes(struct router *router) {
  size_t count = router->count == 0 ? 1 : router->count;
  uint32_t *mark = shoal_alloc(count * (sizeof *mark + sizeof(struct element *)) + 16);
  if (mark == NULL) return false;
  struct element **stack = (struct element **)(((uintptr_t)(mark + count) + 7) & ~(uintptr_t)7);
  bool sound = true;
  for (int fill = 0; fill < 2 && sound; fill++) {
    memset(mark, 0, count * sizeof *mark);
    for (uint32_t i = 0; i < router->count; i++) {
      if (router->elements[i]->class->pulls) reach(router->elements[i], mark, stack, fill == 1);
    }
    for (uint32_t i = 0; i < router->count && fill == 0 && sound; i++) {
      struct element *element = router->elements[i];
      element->wakes = element->wake_count == 0 ? NULL : memory_take(&router->memory, element->wake_count * sizeof *element->wakes);
      sound = element->wake_count == 0 || element->wakes != NULL;
      element->wake_count = 0;
    }
  }
  shoal_free(mark);
  return sound;
}
