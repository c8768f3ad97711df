/* Queue and Unqueue: where packets wait between those who push and those who pull. */
#include "element.h"

#define CAPACITY_MOST 1000000u

struct queue {
  struct element element;
  uint32_t capacity, highwater;
  uint64_t drops;
  struct batch packets;
};

static bool queue_configure(struct element *element, struct arguments *arguments) {
  struct queue *queue = (struct queue *)element;
  queue->capacity = 1000;
  arguments_u32(arguments, "CAPACITY", ARGUMENT_POSITION, 0, CAPACITY_MOST, &queue->capacity);
  return arguments_end(arguments);
}

static void queue_push(struct element *element, unsigned input, struct batch *batch) {
  struct queue *queue = (struct queue *)element;
  bool was_empty = queue->packets.count == 0;
  (void)input;
  uint32_t room = queue->capacity > queue->packets.count ? queue->capacity - queue->packets.count : 0;
  batch_move(&queue->packets, batch, room);
  if (queue->packets.count > queue->highwater) queue->highwater = queue->packets.count;
  if (was_empty && queue->packets.count > 0) element_wake(element);
  queue->drops += batch->count;
  if (batch->count > 0) element_push(element, 1, batch);
}

static void queue_pull(struct element *element, unsigned output, unsigned most, struct batch *to) {
  (void)output;
  batch_move(to, &((struct queue *)element)->packets, most);
}

/* The packets, as far as they fit; what it dropped so far. */
static void queue_take_state(struct element *element, struct element *old) {
  struct queue *queue = (struct queue *)element, *before = (struct queue *)old;
  batch_move(&queue->packets, &before->packets, queue->capacity);
  queue->drops = before->drops + before->packets.count;
  queue->highwater = queue->packets.count > before->highwater ? queue->packets.count : before->highwater;
}

static void queue_start(struct element *element) {
  if (((struct queue *)element)->packets.count > 0) element_wake(element);
}

static void queue_cleanup(struct element *element) { batch_free(&((struct queue *)element)->packets); }

static void queue_read_length(struct element *element, struct output *out) { output_print(out, "%u", ((struct queue *)element)->packets.count); }
static void queue_read_highwater(struct element *element, struct output *out) { output_print(out, "%u", ((struct queue *)element)->highwater); }
static void queue_read_capacity(struct element *element, struct output *out) { output_print(out, "%u", ((struct queue *)element)->capacity); }
static void queue_read_drops(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct queue *)element)->drops); }

static bool queue_write_capacity(struct element *element, struct slice value, struct output *why) {
  struct queue *queue = (struct queue *)element;
  uint64_t capacity;
  if (!parse_u64(value, CAPACITY_MOST, &capacity)) {
    output_print(why, "a capacity is a number up to %u", CAPACITY_MOST);
    return false;
  }
  queue->capacity = (uint32_t)capacity;
  while (queue->packets.count > capacity) {
    /* The first ones go, and are no drops of the queue's own. */
    packet_free(batch_take(&queue->packets));
  }
  return true;
}

static bool queue_reset_counts(struct element *element, struct slice value, struct output *why) {
  struct queue *queue = (struct queue *)element;
  (void)value, (void)why;
  queue->drops = 0;
  queue->highwater = queue->packets.count;
  return true;
}

static bool queue_reset(struct element *element, struct slice value, struct output *why) {
  batch_free(&((struct queue *)element)->packets);
  return queue_reset_counts(element, value, why);
}

static const struct handler queue_handlers[] = {{"length", queue_read_length, NULL}, {"highwater_length", queue_read_highwater, NULL}, {"capacity", queue_read_capacity, queue_write_capacity},
                                                {"drops", queue_read_drops, NULL},   {"reset_counts", NULL, queue_reset_counts},       {"reset", NULL, queue_reset},
                                                {NULL, NULL, NULL}};

const struct element_class class_queue = {.name = "Queue", .size_bytes = sizeof(struct queue), .ports = "1/1-2", .processing = "h/lh", .configure = queue_configure,
                                          .take_state = queue_take_state, .start = queue_start, .cleanup = queue_cleanup, .push = queue_push, .pull = queue_pull, .handlers = queue_handlers};

/* ---- Unqueue([BURST], LIMIT, ACTIVE): pulls and pushes ---- */

struct unqueue {
  struct element element;
  uint32_t burst;
  bool active, limited;
  uint64_t limit, count;
};

static bool unqueue_configure(struct element *element, struct arguments *arguments) {
  struct unqueue *unqueue = (struct unqueue *)element;
  int32_t limit = -1;
  unqueue->burst = BATCH_PACKETS;
  unqueue->active = true;
  arguments_u32(arguments, "BURST", ARGUMENT_POSITION, 1, 1024, &unqueue->burst);
  arguments_bool(arguments, "ACTIVE", 0, &unqueue->active);
  arguments_i32(arguments, "LIMIT", 0, -1, INT32_MAX, &limit);
  unqueue->limited = limit >= 0;
  unqueue->limit = limit >= 0 ? (uint64_t)limit : 0;
  return arguments_end(arguments);
}

static bool unqueue_run(struct element *element) {
  struct unqueue *unqueue = (struct unqueue *)element;
  struct batch batch = BATCH_EMPTY;
  uint32_t most = unqueue->burst;
  if (!unqueue->active || (unqueue->limited && unqueue->count >= unqueue->limit)) return false;
  if (unqueue->limited && unqueue->limit - unqueue->count < most) most = (uint32_t)(unqueue->limit - unqueue->count);
  if (element_pull(element, 0, most, &batch) == 0) return false;
  unqueue->count += batch.count;
  element_push(element, 0, &batch);
  return true;
}

static void unqueue_read_count(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct unqueue *)element)->count); }
static void unqueue_read_active(struct element *element, struct output *out) { output_print(out, "%s", ((struct unqueue *)element)->active ? "true" : "false"); }

static bool unqueue_write_active(struct element *element, struct slice value, struct output *why) {
  if (!parse_bool(value, &((struct unqueue *)element)->active)) {
    output_print(why, "true or false");
    return false;
  }
  element_schedule(element);
  return true;
}

static bool unqueue_reset(struct element *element, struct slice value, struct output *why) {
  (void)value, (void)why;
  ((struct unqueue *)element)->count = 0;
  element_schedule(element);
  return true;
}

static const struct handler unqueue_handlers[] = {
    {"count", unqueue_read_count, NULL}, {"active", unqueue_read_active, unqueue_write_active}, {"reset", NULL, unqueue_reset}, {NULL, NULL, NULL}};

const struct element_class class_unqueue = {.name = "Unqueue", .size_bytes = sizeof(struct unqueue), .ports = "1/1", .processing = "l/h", .configure = unqueue_configure,
                                            .start = element_schedule, .run = unqueue_run, .handlers = unqueue_handlers, .pulls = true};
