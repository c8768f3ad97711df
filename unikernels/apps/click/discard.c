/* Discard: the end of packets. It pulls what it is not pushed. */
#include "element.h"

struct discard {
  struct element element;
  uint64_t packets;
};

static void push(struct element *element, unsigned input, struct batch *batch) {
  (void)input;
  ((struct discard *)element)->packets += batch->count;
  batch_free(batch);
}

static bool run(struct element *element) {
  struct batch batch = BATCH_EMPTY;
  if (element_pull(element, 0, BATCH_PACKETS, &batch) == 0) return false;
  push(element, 0, &batch);
  return true;
}

static void start(struct element *element) {
  if (!element->inputs[0].is_push) element_schedule(element);
}

static void read_count(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct discard *)element)->packets); }

static bool reset(struct element *element, struct slice value, struct output *why) {
  (void)value, (void)why;
  ((struct discard *)element)->packets = 0;
  return true;
}

static const struct handler handlers[] = {{"count", read_count, NULL}, {"reset_counts", NULL, reset}, {NULL, NULL, NULL}};

const struct element_class class_discard = {.name = "Discard",
                                            .size_bytes = sizeof(struct discard),
                                            .ports = "1/0",
                                            .processing = "a/a",
                                            .start = start,
                                            .push = push,
                                            .run = run,
                                            .handlers = handlers,
                                            .pulls = true};
