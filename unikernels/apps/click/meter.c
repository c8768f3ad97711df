/*
 * Elements that choose by how much there is or by chance or time: Meter and BandwidthMeter, RandomSample, TimeFilter. And AverageCounter, which
 * only tells.
 */
#include "element.h"

/* ---- a rate, as an exponentially weighted mean over epochs of 10 ms, each with a weight of a sixteenth ---- */

#define EPOCH_NS 10000000ull
#define EPOCHS_A_SECOND 100u
#define GAIN_SHIFT 4u
#define SCALE_SHIFT 10u
#define METER_RATES_MAX 64u

struct meter {
  struct element element;
  uint64_t epoch, count, mean;
  uint32_t rate_count;
  bool bytes;
  uint64_t rates[METER_RATES_MAX];
};

static void advance(struct meter *meter) {
  uint64_t epoch = click_now_ns() / EPOCH_NS;
  /* After so many epochs nothing is left of what was. */
  for (unsigned i = 0; meter->epoch < epoch && i < 256; i++, meter->epoch++) {
    uint64_t sample = meter->count << SCALE_SHIFT;
    meter->mean = sample >= meter->mean ? meter->mean + ((sample - meter->mean) >> GAIN_SHIFT) : meter->mean - ((meter->mean - sample) >> GAIN_SHIFT);
    meter->count = 0;
  }
  if (meter->epoch < epoch) meter->epoch = epoch, meter->mean = 0;
}

static uint64_t rate_of(const struct meter *meter) { return meter->mean * EPOCHS_A_SECOND >> SCALE_SHIFT; }

static bool meter_configure(struct element *element, struct arguments *arguments) {
  struct meter *meter = (struct meter *)element;
  struct slice text;
  while (arguments_rest(arguments, &text)) {
    uint64_t rate;
    if (meter->rate_count == METER_RATES_MAX) return arguments_error(arguments, "more than %u rates", METER_RATES_MAX);
    if (!(meter->bytes ? parse_rate(text, &rate) : parse_u64(text, UINT64_MAX, &rate))) return arguments_error(arguments, "'%.*s' is not a rate", (int)(text.length < 40 ? text.length : 40), text.at);
    meter->rates[meter->rate_count++] = rate;
  }
  if (meter->rate_count == 0) return arguments_error(arguments, "a rate is missing");
  if (meter->rate_count + 1 != element->output_count) return arguments_error(arguments, "%u rates are for %u outputs, %u are connected", meter->rate_count, meter->rate_count + 1, element->output_count);
  return arguments_end(arguments);
}

static bool bandwidth_meter_configure(struct element *element, struct arguments *arguments) {
  ((struct meter *)element)->bytes = true;
  return meter_configure(element, arguments);
}

static void meter_push(struct element *element, unsigned input, struct batch *batch) {
  struct meter *meter = (struct meter *)element;
  unsigned output = 0;
  (void)input;
  advance(meter);
  if (meter->bytes) BATCH_EACH(packet, batch) meter->count += packet->length;
  else meter->count += batch->count;
  uint64_t rate = rate_of(meter);
  while (output < meter->rate_count && rate >= meter->rates[output]) output++;
  element_push(element, output, batch);
}

static void meter_take_state(struct element *element, struct element *old) {
  struct meter *meter = (struct meter *)element, *before = (struct meter *)old;
  meter->epoch = before->epoch;
  meter->count = before->count;
  meter->mean = before->mean;
}

static void meter_read_rate(struct element *element, struct output *out) {
  advance((struct meter *)element);
  output_print(out, "%llu", (unsigned long long)rate_of((struct meter *)element));
}

static const struct handler meter_handlers[] = {{"rate", meter_read_rate, NULL}, {NULL, NULL, NULL}};
const struct element_class class_meter = {.name = "Meter", .size_bytes = sizeof(struct meter), .ports = "1/2-", .processing = "h/h", .configure = meter_configure,
                                          .take_state = meter_take_state, .push = meter_push, .handlers = meter_handlers};
const struct element_class class_bandwidth_meter = {.name = "BandwidthMeter", .size_bytes = sizeof(struct meter), .ports = "1/2-", .processing = "h/h", .configure = bandwidth_meter_configure,
                                                    .take_state = meter_take_state, .push = meter_push, .handlers = meter_handlers};

/* ---- RandomSample(P): each packet with probability P, the others out of output 1 ---- */

#define MILLION 1000000u

struct sample {
  struct element element;
  uint32_t millionths;
  bool active;
  uint64_t drops, state;
};

static bool sample_configure(struct element *element, struct arguments *arguments) {
  struct sample *sample = (struct sample *)element;
  uint64_t p = MILLION, drop;
  bool given = arguments_fixed(arguments, "P", ARGUMENT_POSITION, 6, MILLION, &p);
  given |= arguments_fixed(arguments, "SAMPLE", 0, 6, MILLION, &p);
  if (arguments_fixed(arguments, "DROP", 0, 6, MILLION, &drop)) p = MILLION - drop, given = true;
  sample->active = true;
  arguments_bool(arguments, "ACTIVE", 0, &sample->active);
  sample->millionths = (uint32_t)p;
  if (!given && !arguments->failed) arguments_error(arguments, "missing argument P");
  shoal_random(&sample->state, sizeof sample->state);
  sample->state |= 1;
  return arguments_end(arguments);
}

/* xorshift64*: enough for samples. */
static uint32_t next_random(struct sample *sample) {
  sample->state ^= sample->state >> 12;
  sample->state ^= sample->state << 25;
  sample->state ^= sample->state >> 27;
  return (uint32_t)(sample->state * 2685821657736338717ull >> 32);
}

static void sample_action(struct element *element, struct batch *batch) {
  struct sample *sample = (struct sample *)element;
  struct batch kept = BATCH_EMPTY, others = BATCH_EMPTY;
  if (!sample->active) return;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    bool keep = (uint64_t)next_random(sample) * MILLION >> 32 < sample->millionths;
    batch_add(keep ? &kept : &others, packet);
  }
  sample->drops += others.count;
  element_push(element, 1, &others);
  *batch = kept;
}

static void sample_read(struct element *element, struct output *out) { output_fixed(out, ((struct sample *)element)->millionths, 6); }
static void sample_read_drop(struct element *element, struct output *out) { output_fixed(out, MILLION - ((struct sample *)element)->millionths, 6); }
static void sample_read_drops(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct sample *)element)->drops); }
static void sample_read_active(struct element *element, struct output *out) { output_print(out, "%s", ((struct sample *)element)->active ? "true" : "false"); }

static bool sample_write(struct element *element, struct slice value, struct output *why) {
  uint64_t p;
  if (!parse_fixed(value, 6, MILLION, &p)) {
    output_print(why, "a probability, 0 to 1");
    return false;
  }
  ((struct sample *)element)->millionths = (uint32_t)p;
  return true;
}

static bool sample_write_drop(struct element *element, struct slice value, struct output *why) {
  if (!sample_write(element, value, why)) return false;
  ((struct sample *)element)->millionths = MILLION - ((struct sample *)element)->millionths;
  return true;
}

static bool sample_write_active(struct element *element, struct slice value, struct output *why) {
  if (parse_bool(value, &((struct sample *)element)->active)) return true;
  output_print(why, "true or false");
  return false;
}

static const struct handler sample_handlers[] = {{"sampling_prob", sample_read, sample_write}, {"drop_prob", sample_read_drop, sample_write_drop}, {"drops", sample_read_drops, NULL},
                                                 {"active", sample_read_active, sample_write_active}, {NULL, NULL, NULL}};
const struct element_class class_random_sample = {.name = "RandomSample", .size_bytes = sizeof(struct sample), .ports = "1/1-2", .processing = "a/ah", .configure = sample_configure,
                                                  .action = sample_action, .handlers = sample_handlers};

/* ---- TimeFilter(START, END): packets whose timestamp lies in between, the others out of output 1 ---- */

struct time_filter {
  struct element element;
  uint64_t start_ns, end_ns;
  uint64_t start_delay_ns, end_delay_ns, interval_ns;
  bool by_start_delay, by_end_delay, by_interval, begun;
};

static bool time_filter_configure(struct element *element, struct arguments *arguments) {
  struct time_filter *filter = (struct time_filter *)element;
  filter->end_ns = UINT64_MAX;
  bool start = arguments_ns(arguments, "START", ARGUMENT_POSITION, &filter->start_ns), end = arguments_ns(arguments, "END", ARGUMENT_POSITION, &filter->end_ns);
  filter->by_start_delay = arguments_ns(arguments, "START_DELAY", 0, &filter->start_delay_ns);
  filter->by_end_delay = arguments_ns(arguments, "END_DELAY", 0, &filter->end_delay_ns);
  filter->by_interval = arguments_ns(arguments, "INTERVAL", 0, &filter->interval_ns);
  if ((start && filter->by_start_delay) || end + filter->by_end_delay + filter->by_interval > 1) arguments_error(arguments, "a start or an end is given twice");
  return arguments_end(arguments);
}

static uint64_t add_ns(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

static void time_filter_begin(struct time_filter *filter, uint64_t first_ns) {
  filter->begun = true;
  if (filter->by_start_delay) filter->start_ns = add_ns(first_ns, filter->start_delay_ns);
  if (filter->by_end_delay) filter->end_ns = add_ns(first_ns, filter->end_delay_ns);
  if (filter->by_interval) filter->end_ns = add_ns(filter->start_ns, filter->interval_ns);
}

static void time_filter_action(struct element *element, struct batch *batch) {
  struct time_filter *filter = (struct time_filter *)element;
  struct batch kept = BATCH_EMPTY, others = BATCH_EMPTY;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    if (!filter->begun) time_filter_begin(filter, packet->timestamp_ns);
    batch_add(packet->timestamp_ns >= filter->start_ns && packet->timestamp_ns < filter->end_ns ? &kept : &others, packet);
  }
  element_push(element, 1, &others);
  *batch = kept;
}

static void time_filter_read_start(struct element *element, struct output *out) { output_fixed(out, ((struct time_filter *)element)->start_ns, 9); }
static void time_filter_read_end(struct element *element, struct output *out) { output_fixed(out, ((struct time_filter *)element)->end_ns, 9); }

static bool write_time(uint64_t *to, struct slice value, struct output *why) {
  if (parse_ns(value, to)) return true;
  output_print(why, "seconds since 1970");
  return false;
}
static bool time_filter_write_start(struct element *element, struct slice value, struct output *why) { return write_time(&((struct time_filter *)element)->start_ns, value, why); }
static bool time_filter_write_end(struct element *element, struct slice value, struct output *why) { return write_time(&((struct time_filter *)element)->end_ns, value, why); }

static const struct handler time_filter_handlers[] = {{"start", time_filter_read_start, time_filter_write_start}, {"end", time_filter_read_end, time_filter_write_end}, {NULL, NULL, NULL}};
const struct element_class class_time_filter = {.name = "TimeFilter", .size_bytes = sizeof(struct time_filter), .ports = "1/1-2", .processing = "a/ah", .configure = time_filter_configure,
                                                .action = time_filter_action, .handlers = time_filter_handlers};

/* ---- AverageCounter([IGNORE]): rates from the first packet to the last ---- */

struct average {
  struct element element;
  uint64_t ignore_ns, first_ns, last_ns, packets, bytes;
};

static bool average_configure(struct element *element, struct arguments *arguments) {
  arguments_ns(arguments, "IGNORE", ARGUMENT_POSITION, &((struct average *)element)->ignore_ns);
  return arguments_end(arguments);
}

static void average_action(struct element *element, struct batch *batch) {
  struct average *average = (struct average *)element;
  uint64_t now = click_now_ns();
  if (average->first_ns == 0) average->first_ns = now == 0 ? 1 : now;
  if (now < average->first_ns + average->ignore_ns) return;
  average->packets += batch->count;
  BATCH_EACH(packet, batch) average->bytes += packet->length;
  average->last_ns = now;
}

/* Per second, over the time from the first packet on that was not ignored. */
static void average_write_rate(const struct average *average, uint64_t count, struct output *out) {
  uint64_t start = average->first_ns + average->ignore_ns;
  uint64_t us = average->last_ns > start ? (average->last_ns - start) / 1000 : 0;
  /* Three digits behind the point, as far as they fit. */
  if (us == 0) output_print(out, "0");
  else if (count < UINT64_MAX / 1000000000ull) output_fixed(out, count * 1000000000ull / us, 3);
  else output_print(out, "%llu", (unsigned long long)(count / us * 1000000));
}

static void average_read_count(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct average *)element)->packets); }
static void average_read_bytes(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct average *)element)->bytes); }
static void average_read_rate(struct element *element, struct output *out) { average_write_rate((struct average *)element, ((struct average *)element)->packets, out); }
static void average_read_byte_rate(struct element *element, struct output *out) { average_write_rate((struct average *)element, ((struct average *)element)->bytes, out); }

static bool average_reset(struct element *element, struct slice value, struct output *why) {
  struct average *average = (struct average *)element;
  (void)value, (void)why;
  average->first_ns = average->last_ns = average->packets = average->bytes = 0;
  return true;
}

static void average_take_state(struct element *element, struct element *old) {
  memcpy(&((struct average *)element)->first_ns, &((struct average *)old)->first_ns, sizeof(struct average) - offsetof(struct average, first_ns));
}

static const struct handler average_handlers[] = {{"count", average_read_count, NULL}, {"byte_count", average_read_bytes, NULL}, {"rate", average_read_rate, NULL},
                                                  {"byte_rate", average_read_byte_rate, NULL}, {"reset", NULL, average_reset}, {NULL, NULL, NULL}};
const struct element_class class_average_counter = {.name = "AverageCounter", .size_bytes = sizeof(struct average), .ports = "1/1", .processing = "a/a", .configure = average_configure,
                                                    .take_state = average_take_state, .action = average_action, .handlers = average_handlers};
