/* Shaper(RATE) and BandwidthShaper(RATE): what is pulled through them keeps to so many packets or bytes a second. */
#include "bucket.h"
#include "element.h"

#define FRAME_UNITS 1600u /* a packet's worth of bytes */

struct shaper {
  struct element element;
  struct bucket bucket;
  bool begun;
};

static uint64_t least_units(const struct element *element);

static void timer(struct element *element) { element_wake(element); }

static void fill(struct shaper *shaper) {
  if (!shaper->begun) bucket_begin(&shaper->bucket, click_now_ns(), least_units(&shaper->element));
  shaper->begun = true;
  bucket_fill(&shaper->bucket, click_now_ns());
}

static void wait(struct shaper *shaper) {
  uint64_t due = bucket_due_ns(&shaper->bucket);
  if (due != UINT64_MAX) element_timer_set(&shaper->element, due);
}

static void take_state(struct element *element, struct element *old) {
  struct shaper *shaper = (struct shaper *)element, *before = (struct shaper *)old;
  if (shaper->bucket.rate == before->bucket.rate) shaper->bucket = before->bucket, shaper->begun = before->begun;
}

static void read_rate(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct shaper *)element)->bucket.rate); }

static void set_rate(struct element *element, uint64_t rate) {
  bucket_set(&((struct shaper *)element)->bucket, rate, least_units(element));
  element_wake(element);
}

/* ---- packets ---- */

static bool configure(struct element *element, struct arguments *arguments) {
  uint64_t rate = 0;
  if (arguments_u64(arguments, "RATE", ARGUMENT_POSITION | ARGUMENT_REQUIRED, 0, BUCKET_RATE_MAX, &rate)) bucket_set(&((struct shaper *)element)->bucket, rate, 1);
  return arguments_end(arguments);
}

static void pull(struct element *element, unsigned output, unsigned most, struct batch *to) {
  struct shaper *shaper = (struct shaper *)element;
  (void)output;
  fill(shaper);
  uint64_t may = bucket_count(&shaper->bucket);
  if (may == 0) wait(shaper);
  else bucket_spend(&shaper->bucket, element_pull(element, 0, may < most ? (unsigned)may : most, to));
}

static bool write_rate(struct element *element, struct slice value, struct output *why) {
  uint64_t rate;
  if (!parse_u64(value, BUCKET_RATE_MAX, &rate)) {
    output_print(why, "packets per second");
    return false;
  }
  set_rate(element, rate);
  return true;
}

static const struct handler handlers[] = {{"rate", read_rate, write_rate}, {NULL, NULL, NULL}};
const struct element_class class_shaper = {.name = "Shaper", .size_bytes = sizeof(struct shaper), .ports = "1/1", .processing = "l/l", .configure = configure,
                                           .take_state = take_state, .pull = pull, .timer = timer, .handlers = handlers};

/* ---- bytes ---- */

static bool bandwidth_configure(struct element *element, struct arguments *arguments) {
  uint64_t rate = 0;
  if (arguments_rate(arguments, "RATE", ARGUMENT_POSITION | ARGUMENT_REQUIRED, &rate)) {
    if (rate > BUCKET_RATE_MAX) arguments_error(arguments, "RATE: at most %llu bytes per second", BUCKET_RATE_MAX);
    else bucket_set(&((struct shaper *)element)->bucket, rate, FRAME_UNITS);
  }
  return arguments_end(arguments);
}

static void bandwidth_pull(struct element *element, unsigned output, unsigned most, struct batch *to) {
  struct shaper *shaper = (struct shaper *)element;
  (void)output;
  fill(shaper);
  while (most > 0 && shaper->bucket.tokens > 0) {
    if (element_pull(element, 0, 1, to) == 0) return;
    bucket_spend(&shaper->bucket, to->last->length);
    most--;
  }
  if (shaper->bucket.tokens <= 0) wait(shaper);
}

static bool bandwidth_write_rate(struct element *element, struct slice value, struct output *why) {
  uint64_t rate;
  if (!parse_rate(value, &rate) || rate > BUCKET_RATE_MAX) {
    output_print(why, "bytes per second, or with a unit such as Mbps");
    return false;
  }
  set_rate(element, rate);
  return true;
}

static const struct handler bandwidth_handlers[] = {{"rate", read_rate, bandwidth_write_rate}, {NULL, NULL, NULL}};
const struct element_class class_bandwidth_shaper = {.name = "BandwidthShaper", .size_bytes = sizeof(struct shaper), .ports = "1/1", .processing = "l/l",
                                                     .configure = bandwidth_configure, .take_state = take_state, .pull = bandwidth_pull, .timer = timer,
                                                     .handlers = bandwidth_handlers};

static uint64_t least_units(const struct element *element) { return element->class == &class_bandwidth_shaper ? FRAME_UNITS : 1; }
