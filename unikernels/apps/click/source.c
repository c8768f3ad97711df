/* InfiniteSource and RatedSource: packets out of nothing, as fast as they are taken or at a rate. */
#include "bucket.h"
#include "element.h"

struct source {
  struct element element;
  struct slice data;
  uint32_t length, burst;
  uint64_t count, limit; /* UINT64_MAX: none */
  bool active, timestamp, rated, begun;
  struct bucket bucket;
};

static bool read_common(struct source *source, struct arguments *arguments) {
  uint32_t length = 0;
  bool has_length = arguments_u32(arguments, "LENGTH", 0, 0, PACKET_BYTES_MAX, &length), ignored;
  if (!arguments_u32(arguments, "DATASIZE", 0, 0, PACKET_BYTES_MAX, &length)) length = has_length ? length : (uint32_t)source->data.length;
  arguments_bool(arguments, "TIMESTAMP", 0, &source->timestamp);
  arguments_bool(arguments, "STOP", 0, &ignored); /* there is no driver to stop */
  if (source->data.length > PACKET_BYTES_MAX) arguments_error(arguments, "DATA: at most %u bytes", PACKET_BYTES_MAX);
  source->length = length;
  return arguments_end(arguments);
}

static void set_limit(struct source *source, int32_t limit) { source->limit = limit < 0 ? UINT64_MAX : (uint64_t)limit; }

static void begin(struct source *source) {
  source->data = SLICE("Sixty-four bytes that a source sends where nothing else is said.");
  source->active = source->timestamp = true;
  source->burst = BATCH_PACKETS;
}

static bool infinite_configure(struct element *element, struct arguments *arguments) {
  struct source *source = (struct source *)element;
  int32_t limit = -1;
  begin(source);
  arguments_string(arguments, "DATA", ARGUMENT_POSITION, &source->data);
  arguments_i32(arguments, "LIMIT", ARGUMENT_POSITION, -1, INT32_MAX, &limit);
  arguments_u32(arguments, "BURST", ARGUMENT_POSITION, 1, 1024, &source->burst);
  arguments_bool(arguments, "ACTIVE", ARGUMENT_POSITION, &source->active);
  set_limit(source, limit);
  return read_common(source, arguments);
}

static bool rated_configure(struct element *element, struct arguments *arguments) {
  struct source *source = (struct source *)element;
  int32_t limit = -1;
  uint64_t rate = 10;
  begin(source);
  source->rated = true;
  arguments_string(arguments, "DATA", ARGUMENT_POSITION, &source->data);
  arguments_u64(arguments, "RATE", ARGUMENT_POSITION, 0, BUCKET_RATE_MAX, &rate);
  arguments_i32(arguments, "LIMIT", ARGUMENT_POSITION, -1, INT32_MAX, &limit);
  arguments_bool(arguments, "ACTIVE", ARGUMENT_POSITION, &source->active);
  bucket_set(&source->bucket, rate, 1);
  set_limit(source, limit);
  return read_common(source, arguments);
}

/* How many may come now, at most `most`. */
static unsigned allowed(struct source *source, unsigned most) {
  if (!source->active || source->count >= source->limit) return 0;
  if (source->limit - source->count < most) most = (unsigned)(source->limit - source->count);
  if (!source->rated) return most;
  if (!source->begun) bucket_begin(&source->bucket, click_now_ns(), 1);
  source->begun = true;
  bucket_fill(&source->bucket, click_now_ns());
  uint64_t may = bucket_count(&source->bucket);
  if (may == 0 && bucket_due_ns(&source->bucket) != UINT64_MAX) element_timer_set(&source->element, bucket_due_ns(&source->bucket));
  return may < most ? (unsigned)may : most;
}

static void make(struct source *source, unsigned count, struct batch *to) {
  uint64_t now = source->timestamp && count > 0 ? click_wall_ns() : 0;
  uint32_t length = source->length, given = source->data.length < length ? (uint32_t)source->data.length : length;
  unsigned made = 0;
  for (; made < count; made++) {
    struct packet *packet = packet_new(PACKET_HEADROOM, length);
    if (packet == NULL) break;
    if (given > 0) memcpy(packet->data, source->data.at, given);
    if (given < length) memset(packet->data + given, 0, length - given);
    packet->timestamp_ns = now;
    batch_add(to, packet);
  }
  source->count += made;
  if (source->rated) bucket_spend(&source->bucket, made);
}

static bool run(struct element *element) {
  struct source *source = (struct source *)element;
  struct batch batch = BATCH_EMPTY;
  unsigned count = allowed(source, source->burst);
  if (count == 0) return false;
  make(source, count, &batch);
  element_push(element, 0, &batch);
  return true;
}

static void pull(struct element *element, unsigned output, unsigned most, struct batch *to) {
  struct source *source = (struct source *)element;
  (void)output;
  make(source, allowed(source, most), to);
}

static void go(struct element *element) {
  if (element->outputs[0].is_push) element_schedule(element);
  else element_wake(element);
}

static void take_state(struct element *element, struct element *old) {
  struct source *source = (struct source *)element, *before = (struct source *)old;
  if (strcmp(element->config, old->config) != 0) return;
  source->count = before->count;
  source->active = before->active;
  source->bucket = before->bucket;
  source->begun = before->begun;
}

static void read_count(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct source *)element)->count); }
static void read_active(struct element *element, struct output *out) { output_print(out, "%s", ((struct source *)element)->active ? "true" : "false"); }
static void read_rate(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct source *)element)->bucket.rate); }
static void read_limit(struct element *element, struct output *out) {
  struct source *source = (struct source *)element;
  if (source->limit == UINT64_MAX) output_print(out, "-1");
  else output_print(out, "%llu", (unsigned long long)source->limit);
}

static bool write_active(struct element *element, struct slice value, struct output *why) {
  if (!parse_bool(value, &((struct source *)element)->active)) {
    output_print(why, "true or false");
    return false;
  }
  go(element);
  return true;
}

static bool write_limit(struct element *element, struct slice value, struct output *why) {
  uint64_t limit = UINT64_MAX;
  if (!slice_equal(value, SLICE("-1")) && !parse_u64(value, INT32_MAX, &limit)) {
    output_print(why, "a number of packets, or -1");
    return false;
  }
  ((struct source *)element)->limit = limit;
  go(element);
  return true;
}

static bool write_rate(struct element *element, struct slice value, struct output *why) {
  uint64_t rate;
  if (!parse_u64(value, BUCKET_RATE_MAX, &rate)) {
    output_print(why, "packets per second");
    return false;
  }
  bucket_set(&((struct source *)element)->bucket, rate, 1);
  go(element);
  return true;
}

static bool reset(struct element *element, struct slice value, struct output *why) {
  (void)value, (void)why;
  ((struct source *)element)->count = 0;
  go(element);
  return true;
}

static const struct handler infinite_handlers[] = {
    {"count", read_count, NULL}, {"active", read_active, write_active}, {"limit", read_limit, write_limit}, {"reset", NULL, reset}, {"reset_counts", NULL, reset}, {NULL, NULL, NULL}};
static const struct handler rated_handlers[] = {{"count", read_count, NULL},           {"active", read_active, write_active}, {"limit", read_limit, write_limit}, {"rate", read_rate, write_rate},
                                                {"reset", NULL, reset},                {"reset_counts", NULL, reset},         {NULL, NULL, NULL}};

const struct element_class class_infinite_source = {.name = "InfiniteSource", .size_bytes = sizeof(struct source), .ports = "0/1", .processing = "a/a", .configure = infinite_configure,
                                                    .take_state = take_state, .start = go, .pull = pull, .run = run, .timer = go, .handlers = infinite_handlers};
const struct element_class class_rated_source = {.name = "RatedSource", .size_bytes = sizeof(struct source), .ports = "0/1", .processing = "a/a", .configure = rated_configure,
                                                 .take_state = take_state, .start = go, .pull = pull, .run = run, .timer = go, .handlers = rated_handlers};
