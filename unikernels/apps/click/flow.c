/* Elements that only lead packets elsewhere: Idle, Null, Tee, Switch, PaintSwitch, RoundRobinSched, PrioSched, and the annotation they go by: Paint. */
#include "element.h"

/* ---- Idle: nothing comes out, what goes in is gone ---- */

static void idle_push(struct element *element, unsigned input, struct batch *batch) {
  (void)element, (void)input;
  batch_free(batch);
}
static void idle_pull(struct element *element, unsigned output, unsigned most, struct batch *to) { (void)element, (void)output, (void)most, (void)to; }

const struct element_class class_idle = {
    .name = "Idle", .size_bytes = sizeof(struct element), .ports = "-/-", .processing = "a/a", .flow = "x/y", .push = idle_push, .pull = idle_pull};

/* ---- Null ---- */

static void null_action(struct element *element, struct batch *batch) { (void)element, (void)batch; }

const struct element_class class_null = {.name = "Null", .size_bytes = sizeof(struct element), .ports = "1/1", .processing = "a/a", .action = null_action};

/* ---- Tee([N]): a copy to each output ---- */

static bool tee_configure(struct element *element, struct arguments *arguments) {
  uint32_t count = element->output_count;
  if (arguments_u32(arguments, "N", ARGUMENT_POSITION, 1, 4096, &count) && count != element->output_count) {
    arguments_error(arguments, "%u outputs are connected, not %u", element->output_count, count);
  }
  return arguments_end(arguments);
}

static void tee_push(struct element *element, unsigned input, struct batch *batch) {
  (void)input;
  for (unsigned output = 1; output < element->output_count; output++) {
    struct batch copies = BATCH_EMPTY;
    BATCH_EACH(packet, batch) {
      struct packet *copy = packet_copy(packet);
      if (copy != NULL) batch_add(&copies, copy);
    }
    element_push(element, output, &copies);
  }
  element_push(element, 0, batch);
}

const struct element_class class_tee = {
    .name = "Tee", .size_bytes = sizeof(struct element), .ports = "1/1-", .processing = "h/h", .configure = tee_configure, .push = tee_push};

/* ---- Switch([OUTPUT]): all to one output, that a handler changes ---- */

struct switcher {
  struct element element;
  int32_t output;
};

static bool switch_configure(struct element *element, struct arguments *arguments) {
  struct switcher *switcher = (struct switcher *)element;
  arguments_i32(arguments, "OUTPUT", ARGUMENT_POSITION, INT32_MIN, (int32_t)element->output_count - 1, &switcher->output);
  return arguments_end(arguments);
}

static void switch_push(struct element *element, unsigned input, struct batch *batch) {
  int32_t output = ((struct switcher *)element)->output;
  (void)input;
  if (output < 0) batch_free(batch);
  else element_push(element, (unsigned)output, batch);
}

static void switch_take_state(struct element *element, struct element *old) {
  /* Only where the arguments are as they were: otherwise they say what is wanted now. */
  if (strcmp(element->config, old->config) == 0 && ((struct switcher *)old)->output < (int32_t)element->output_count) {
    ((struct switcher *)element)->output = ((struct switcher *)old)->output;
  }
}

static void switch_read(struct element *element, struct output *out) { output_print(out, "%d", ((struct switcher *)element)->output); }

static bool switch_write(struct element *element, struct slice value, struct output *why) {
  bool minus = value.length > 0 && value.at[0] == '-';
  uint64_t number;
  if (!parse_u64(slice_from(value, minus ? 1 : 0), INT32_MAX, &number) || (!minus && number >= element->output_count)) {
    output_print(why, "an output's number, or a negative one for none");
    return false;
  }
  ((struct switcher *)element)->output = minus ? -1 : (int32_t)number;
  return true;
}

static const struct handler switch_handlers[] = {{"switch", switch_read, switch_write}, {NULL, NULL, NULL}};
const struct element_class class_switch = {.name = "Switch", .size_bytes = sizeof(struct switcher), .ports = "1/-", .processing = "h/h", .configure = switch_configure,
                                           .take_state = switch_take_state, .push = switch_push, .handlers = switch_handlers};

/* ---- Paint(COLOR), PaintSwitch, CheckPaint(COLOR), PaintTee(COLOR) ---- */

struct paint {
  struct element element;
  uint32_t color;
};

static bool paint_configure(struct element *element, struct arguments *arguments) {
  arguments_u32(arguments, "COLOR", ARGUMENT_POSITION | ARGUMENT_REQUIRED, 0, 255, &((struct paint *)element)->color);
  return arguments_end(arguments);
}

static void paint_action(struct element *element, struct batch *batch) {
  BATCH_EACH(packet, batch) packet->paint = (uint8_t)((struct paint *)element)->color;
}

static void paint_read(struct element *element, struct output *out) { output_print(out, "%u", ((struct paint *)element)->color); }

static bool paint_write(struct element *element, struct slice value, struct output *why) {
  uint64_t color;
  if (!parse_u64(value, 255, &color)) {
    output_print(why, "a color is a number up to 255");
    return false;
  }
  ((struct paint *)element)->color = (uint32_t)color;
  return true;
}

static const struct handler paint_handlers[] = {{"color", paint_read, paint_write}, {NULL, NULL, NULL}};
const struct element_class class_paint = {.name = "Paint", .size_bytes = sizeof(struct paint), .ports = "1/1", .processing = "a/a", .configure = paint_configure,
                                          .action = paint_action, .handlers = paint_handlers};

static void check_paint_action(struct element *element, struct batch *batch) {
  struct batch kept = BATCH_EMPTY;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    if (packet->paint == ((struct paint *)element)->color) batch_add(&kept, packet);
    else element_reject(element, packet);
  }
  *batch = kept;
}

const struct element_class class_check_paint = {.name = "CheckPaint", .size_bytes = sizeof(struct paint), .ports = "1/1-2", .processing = "a/ah", .configure = paint_configure,
                                                .action = check_paint_action, .handlers = paint_handlers};

/* A copy of each packet of the color goes out of output 1. */
static void paint_tee_action(struct element *element, struct batch *batch) {
  BATCH_EACH(packet, batch) {
    struct packet *copy = packet->paint == ((struct paint *)element)->color ? packet_copy(packet) : NULL;
    if (copy != NULL) element_push_one(element, 1, copy);
  }
}

const struct element_class class_paint_tee = {.name = "PaintTee", .size_bytes = sizeof(struct paint), .ports = "1/2", .processing = "a/ah", .configure = paint_configure,
                                              .action = paint_tee_action, .handlers = paint_handlers};

static void paint_switch_push(struct element *element, unsigned input, struct batch *batch) {
  struct fanout fanout;
  (void)input;
  fanout_begin(&fanout, element);
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) fanout_add(&fanout, packet->paint, packet);
  fanout_end(&fanout);
}

const struct element_class class_paint_switch = {.name = "PaintSwitch", .size_bytes = sizeof(struct element), .ports = "1/-", .processing = "h/h", .push = paint_switch_push};

/* ---- RoundRobinSched: from each input in turn; PrioSched: from the first that has one ---- */

struct round_robin {
  struct element element;
  uint32_t next;
};

static void round_robin_pull(struct element *element, unsigned output, unsigned most, struct batch *to) {
  struct round_robin *robin = (struct round_robin *)element;
  uint32_t empty = 0, want = to->count + most;
  (void)output;
  while (to->count < want && empty < element->input_count) {
    empty = element_pull(element, robin->next, 1, to) == 0 ? empty + 1 : 0;
    if (++robin->next >= element->input_count) robin->next = 0;
  }
}

const struct element_class class_round_robin_sched = {.name = "RoundRobinSched", .size_bytes = sizeof(struct round_robin), .ports = "1-/1", .processing = "l/l", .pull = round_robin_pull};

static void prio_pull(struct element *element, unsigned output, unsigned most, struct batch *to) {
  uint32_t want = to->count + most;
  (void)output;
  for (unsigned input = 0; input < element->input_count && to->count < want; input++) element_pull(element, input, want - to->count, to);
}

const struct element_class class_prio_sched = {.name = "PrioSched", .size_bytes = sizeof(struct element), .ports = "1-/1", .processing = "l/l", .pull = prio_pull};
