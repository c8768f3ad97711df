/*
 * What an element is, and what it may call: the only header that an element's source needs (it brings packet.h, arguments.h, output.h).
 *
 * An element is a struct of its own that begins with `struct element`, made zeroed from its class, whose functions are called so:
 *   configure   reads the arguments (arguments.h), in the order of the configuration; other elements may not be configured yet
 *   initialize  all are configured and connected: memory, tables, looking at neighbours. Nothing outside of the new configuration may
 *               change, for it may yet be refused as a whole, and the running one then goes on
 *   take_state  of an element of the same name and class in the configuration that is replaced (Click's hotswap)
 *   start       the configuration runs from now on: timers, tasks, devices. Cannot fail
 *   cleanup     the element goes: gives back what element_alloc does not know of. Also after a failed configure or initialize
 * and in between push, pull or action for packets, run for its task, timer for its timer, handlers for whoever runs it.
 *
 * Threads, ownership: one thread (shoal.h). A batch handed to push is the callee's; one filled by pull is the caller's.
 * Stack: a guest's is small and elements call each other: a push or pull takes at most 512 bytes of it, larger tables are the element's.
 * Bounds: the core cuts chains deeper than CLICK_DEPTH_MAX, and turns of more than CLICK_STEPS_MAX calls, by dropping (a loop without a queue).
 */
#ifndef CLICK_ELEMENT_H
#define CLICK_ELEMENT_H

#include "shoal.h"
#include "arguments.h"
#include "output.h"
#include "packet.h"

#define CLICK_DEPTH_MAX 128u
#define CLICK_STEPS_MAX 1000000u

struct element;
struct router;

/* Named values of an element. read writes its text; write takes it, or says why not into `why` and returns false. Either may be NULL.
 * Every element has class, name, config, ports and handlers besides. */
struct handler {
  const char *name; /* NULL ends a table */
  void (*read)(struct element *element, struct output *out);
  bool (*write)(struct element *element, struct slice value, struct output *why);
};

struct element_class {
  const char *name;
  size_t size_bytes; /* of the element's struct */
  /* Click's codes. ports "INPUTS/OUTPUTS", each "N", "N-M", "N-" or "-" (any), outputs also "=" (as many as inputs). processing, one letter a
   * port, the last for all further ones: h push, l pull, a agnostic; "h" alone is "h/h". flow says which agnostic ports have to be alike: equal
   * letters are; NULL is "x/x", all. */
  const char *ports, *processing, *flow;
  bool (*configure)(struct element *element, struct arguments *arguments); /* NULL: takes no argument */
  bool (*initialize)(struct element *element, struct errors *errors);
  void (*take_state)(struct element *element, struct element *old);
  void (*start)(struct element *element);
  void (*cleanup)(struct element *element);
  /* Packets came at a push input. */
  void (*push)(struct element *element, unsigned input, struct batch *batch);
  /* Up to `most` packets are wanted at a pull output: adds them to `to`, which may hold some. None there now: adds none, and calls
   * element_wake when that changes. */
  void (*pull)(struct element *element, unsigned output, unsigned most, struct batch *to);
  /* Instead of both, where what is done to a packet does not depend on that (input 0, output 0): changes the batch in place, takes out
   * packets that go elsewhere (element_reject, element_push to a further output). May leave it empty. */
  void (*action)(struct element *element, struct batch *batch);
  /* The task, when element_schedule has put it on the list: one batch of work. True: again. */
  bool (*run)(struct element *element);
  /* element_timer_set's time has come. */
  void (*timer)(struct element *element);
  const struct handler *handlers;
  bool pulls; /* the task pulls: it is put on the list when an element before it has packets again (element_wake) */
};

/* The other end; where there can be several (push inputs, pull outputs), one of them. */
struct element_port {
  struct element *peer;
  uint16_t peer_port;
  bool is_push;
};

struct element {
  const struct element_class *class;
  struct router *router;
  const char *name;   /* "a/b" inside of a compound element */
  const char *config; /* its arguments, as they are after $parameters were put in */
  struct place place; /* of its declaration */
  uint16_t input_count, output_count;
  struct element_port *inputs, *outputs;
  /* The core's own. */
  uint32_t index;
  bool scheduled, configured;
  struct element *next_task;
  struct element **wakes; /* whose tasks pull from here */
  uint32_t wake_count;
  struct shoal_timer timer;
  struct memory *memory;
};

/* ---- moving packets ---- */

/* The batch goes out there, and is empty afterwards; freed when there is no such output. */
void element_push(struct element *element, unsigned output, struct batch *batch);
/* One packet. */
void element_push_one(struct element *element, unsigned output, struct packet *packet);
/* Adds up to `most` packets from that input to `to`; returns how many. */
unsigned element_pull(struct element *element, unsigned input, unsigned most, struct batch *to);
/* A packet that is no good: out of output 1 when it is connected, else freed. */
static inline void element_reject(struct element *element, struct packet *packet) { element_push_one(element, 1, packet); }

/* Sorting a batch by output: batches are gathered and go out together in fanout_end. 16 outputs are gathered; packets of others go out alone. */
#define FANOUT_OUTPUTS 16u
struct fanout {
  struct element *element;
  unsigned used; /* bit per output */
  struct batch batches[FANOUT_OUTPUTS];
};
static inline void fanout_begin(struct fanout *fanout, struct element *element) { fanout->element = element, fanout->used = 0; }
static inline void fanout_add(struct fanout *fanout, unsigned output, struct packet *packet) {
  if (output >= FANOUT_OUTPUTS) {
    element_push_one(fanout->element, output, packet);
    return;
  }
  if (!(fanout->used >> output & 1)) {
    fanout->used |= 1u << output;
    fanout->batches[output] = BATCH_EMPTY;
  }
  batch_add(&fanout->batches[output], packet);
}
void fanout_end(struct fanout *fanout);

/* ---- tasks, time ---- */

/* Puts the element's task on the list; nothing when it is there. Tasks have their turns one after the other. */
void element_schedule(struct element *element);
/* This element has packets to pull again (a queue that is not empty any more, a limiter whose time has come): the tasks that pull from it are
 * put on the list. */
void element_wake(struct element *element);

/* The element's one timer, on click_now_ns's clock; set again, it moves. Gone with the element. */
void element_timer_set(struct element *element, uint64_t due_ns);
void element_timer_cancel(struct element *element);

/* Since the guest started, monotonic; read once a turn, so it may lag by the length of one. */
uint64_t click_now_ns(void);
/* The same, read now. */
uint64_t click_exact_ns(void);
/* Since 1970. */
uint64_t click_wall_ns(void);

/* ---- memory, neighbours, words ---- */

/* Zeroed, freed with the element; NULL when there is none. */
void *element_alloc(struct element *element, size_t bytes);

/* The element of that name as seen from `element` (in its compound element, then outside); NULL. */
struct element *element_find(struct element *element, struct slice name);

/* The element of that index in the same configuration. */
struct element *element_of(const struct element *element, uint32_t index);

/* Before an element's code runs that was called from outside of the core, such as by a device: reads the time, begins the bounds anew. */
void element_enter(void);

/* A mistake that initialize found, with the place of the element. Returns false. */
bool element_error(struct element *element, struct errors *errors, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A line on the console, at most a few each second (`lost N lines` after that). */
void element_print(struct element *element, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same with a text that is there. */
void element_print_line(const struct output *line);

/* ---- all classes ---- */

/* Tables that end in NULL: the simple elements (classes.c), and those that know IP (classes_ip.c). */
extern const struct element_class *const element_classes[];
extern const struct element_class *const element_classes_ip[];
const struct element_class *element_class_find(struct slice name);

#endif
