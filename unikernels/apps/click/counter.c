/* Counter: how many packets and bytes went through, and how fast. */
#include "element.h"

#define SECOND_NS 1000000000ull

struct counter {
  struct element element;
  uint64_t packets, bytes;
  /* The rate: of the last whole second. */
  uint64_t second_ns, packets_then, bytes_then, packet_rate, byte_rate;
};

static void measure(struct counter *counter) {
  uint64_t now = click_now_ns(), passed = now - counter->second_ns;
  if (passed < SECOND_NS) return;
  counter->packet_rate = (counter->packets - counter->packets_then) * 1000 / (passed / 1000000);
  counter->byte_rate = (counter->bytes - counter->bytes_then) * 1000 / (passed / 1000000);
  counter->packets_then = counter->packets;
  counter->bytes_then = counter->bytes;
  counter->second_ns = now;
}

static void action(struct element *element, struct batch *batch) {
  struct counter *counter = (struct counter *)element;
  measure(counter);
  counter->packets += batch->count;
  BATCH_EACH(packet, batch) counter->bytes += packet->length;
}

static void take_state(struct element *element, struct element *old) {
  struct counter *counter = (struct counter *)element, *before = (struct counter *)old;
  memcpy((char *)counter + sizeof *element, (char *)before + sizeof *element, sizeof *counter - sizeof *element);
}

static void read_count(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct counter *)element)->packets); }
static void read_bytes(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct counter *)element)->bytes); }
static void read_rate(struct element *element, struct output *out) {
  measure((struct counter *)element);
  output_print(out, "%llu", (unsigned long long)((struct counter *)element)->packet_rate);
}
static void read_byte_rate(struct element *element, struct output *out) {
  measure((struct counter *)element);
  output_print(out, "%llu", (unsigned long long)((struct counter *)element)->byte_rate);
}

static bool reset(struct element *element, struct slice value, struct output *why) {
  struct counter *counter = (struct counter *)element;
  (void)value, (void)why;
  counter->packets = counter->bytes = counter->packets_then = counter->bytes_then = counter->packet_rate = counter->byte_rate = 0;
  return true;
}

static const struct handler handlers[] = {{"count", read_count, NULL},         {"byte_count", read_bytes, NULL}, {"rate", read_rate, NULL},
                                          {"byte_rate", read_byte_rate, NULL}, {"reset", NULL, reset},           {"reset_counts", NULL, reset},
                                          {NULL, NULL, NULL}};

const struct element_class class_counter = {
    .name = "Counter", .size_bytes = sizeof(struct counter), .ports = "1/1", .processing = "a/a", .take_state = take_state, .action = action, .handlers = handlers};
