/*
 * A configuration that is built, and perhaps runs. One runs at a time: the next is built beside it, and either takes its place as a whole,
 * with the state of elements of the same name and class, or is refused and leaves no trace.
 */
#ifndef CLICK_ROUTER_H
#define CLICK_ROUTER_H

#include "element.h"
#include "memory.h"

struct router {
  struct memory memory;
  struct element **elements;
  uint32_t count;
  struct slice source; /* as it was written */
  struct element **by_name; /* open addressing */
  uint32_t name_mask;
  uint64_t started_ns;
};

/* NULL, with the mistakes in `errors`, when the text is no sound configuration or there is no memory. */
struct router *router_build(struct slice text, struct errors *errors);

/* Runs `next` in place of what runs (NULL: nothing does from now on), which is freed. */
void router_replace(struct router *next);

/* What runs; NULL. */
struct router *router_running(void);

/* Of one that does not run. */
void router_free(struct router *router);

struct element *router_find(const struct router *router, struct slice name);

/* Tells whose tasks pull from which element (element_wake). False when there is no memory. */
bool router_connect_wakes(struct router *router);

/* ---- handlers (handlers.c) ---- */

/* "element.handler", or a handler of the whole: config, flatconfig, list, classes, packets. False: why not, in `out`. */
bool handlers_read(struct router *router, struct slice name, struct output *out);
bool handlers_write(struct router *router, struct slice name, struct slice value, struct output *why);

/* ---- turns (schedule.c) ---- */

/* Takes the element from the list of tasks, stops its timer. */
void schedule_forget(struct element *element);
/* Packets that were dropped since a chain was too deep or a turn too long. */
uint64_t schedule_cut(void);
/* A line for each that is told (element_print), a few a second. */
bool schedule_may_print(void);

#endif
