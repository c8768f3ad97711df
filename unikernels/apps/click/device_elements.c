/*
 * FromDevice(DEVNAME) and ToDevice(DEVNAME): frames of one of the guest's network devices. Frames that come in one turn of the kernel go on
 * as batches; what is sent is told to the other end once a turn.
 */
#include "devices.h"

#define FRAME_BYTES_MIN 14u

static struct device *configure_device(struct element *element, struct arguments *arguments, unsigned *index) {
  struct slice name;
  static const char *const ignored[] = {"SNIFFER", "PROMISC", "SNAPLEN", "FORCE_IP", "METHOD", "BPF_FILTER", "OUTBOUND", "HEADROOM", "BURST", "QUIET", "DEBUG", "NO_PAD", "ENCAP", "TIMESTAMP", "PROTOCOL"};
  (void)element;
  struct device *device = NULL;
  if (arguments_text(arguments, "DEVNAME", ARGUMENT_POSITION | ARGUMENT_REQUIRED, &name)) {
    if (!device_parse(name, index)) arguments_error(arguments, "'%.*s' is not the name of a device (eth0 to eth%u)", (int)(name.length < 40 ? name.length : 40), name.at, DEVICES - 1);
    else if ((device = device_open(*index)) == NULL) arguments_error(arguments, "the guest has no device %u", *index);
  }
  /* What chooses how Linux is asked for frames means nothing here. */
  for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++) arguments_text(arguments, ignored[i], 0, &name);
  return device;
}

/* ---- FromDevice ---- */

struct from_device {
  struct element element;
  struct device *device;
  struct batch gathered;
  uint64_t count;
  unsigned index;
};

static void from_send(struct from_device *from) {
  struct batch batch = from->gathered;
  from->gathered = BATCH_EMPTY;
  from->count += batch.count;
  if (batch.first != NULL) {
    uint64_t now = click_wall_ns();
    BATCH_EACH(packet, &batch) packet->timestamp_ns = now;
  }
  element_push(&from->element, 0, &batch);
}

static void from_receive(struct element *element, struct packet *packet) {
  struct from_device *from = (struct from_device *)element;
  batch_add(&from->gathered, packet);
  if (from->gathered.count < BATCH_PACKETS) {
    element_schedule(element);
    return;
  }
  element_enter();
  from_send(from);
}

static bool from_run(struct element *element) {
  from_send((struct from_device *)element);
  return false;
}

static bool from_configure(struct element *element, struct arguments *arguments) {
  struct from_device *from = (struct from_device *)element;
  from->device = configure_device(element, arguments, &from->index);
  return arguments_end(arguments);
}

/* Two would each want all frames. */
static bool from_initialize(struct element *element, struct errors *errors) {
  const struct from_device *from = (struct from_device *)element;
  for (uint32_t i = 0; i < element->index; i++) {
    const struct element *other = element_of(element, i);
    if (other->class != element->class || ((const struct from_device *)other)->index != from->index) continue;
    return element_error(element, errors, "%s takes the frames of device %u already", other->name, from->index);
  }
  return true;
}

static void from_take_state(struct element *element, struct element *old) {
  struct from_device *from = (struct from_device *)element, *before = (struct from_device *)old;
  if (from->index != before->index) return;
  from->count = before->count;
  batch_join(&from->gathered, &before->gathered);
}

static void from_start(struct element *element) {
  struct from_device *from = (struct from_device *)element;
  from->device->receiver = element;
  from->device->receive = from_receive;
  if (from->gathered.count > 0) element_schedule(element);
}

static void from_cleanup(struct element *element) {
  struct from_device *from = (struct from_device *)element;
  if (from->device != NULL && from->device->receiver == element) from->device->receiver = NULL;
  batch_free(&from->gathered);
}

static void from_read_count(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct from_device *)element)->count); }
static void from_read_drops(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct from_device *)element)->device->lost); }
static bool from_reset(struct element *element, struct slice value, struct output *why) {
  (void)value, (void)why;
  ((struct from_device *)element)->count = 0;
  return true;
}

static const struct handler from_handlers[] = {{"count", from_read_count, NULL}, {"kernel_drops", from_read_drops, NULL}, {"reset_counts", NULL, from_reset}, {NULL, NULL, NULL}};
const struct element_class class_from_device = {.name = "FromDevice", .size_bytes = sizeof(struct from_device), .ports = "0/1", .processing = "h/h", .configure = from_configure,
                                                .initialize = from_initialize, .take_state = from_take_state, .start = from_start, .cleanup = from_cleanup, .run = from_run,
                                                .handlers = from_handlers};

/* ---- ToDevice: pulls when it can, else drops what does not fit ---- */

struct to_device {
  struct element element;
  struct device *device;
  struct batch held; /* pulled, but there was no room */
  uint64_t count, drops;
  unsigned index;
};

static bool to_configure(struct element *element, struct arguments *arguments) {
  struct to_device *to = (struct to_device *)element;
  to->device = configure_device(element, arguments, &to->index);
  return arguments_end(arguments);
}

/* Sends from the front; stops where there is no room. */
static void send(struct to_device *to, struct batch *batch) {
  while (batch->first != NULL) {
    const struct packet *packet = batch->first;
    if (packet->length < FRAME_BYTES_MIN || packet->length > SHOAL_NET_FRAME_BYTES) {
      to->drops++;
      packet_free(batch_take(batch));
      continue;
    }
    uint8_t *room = to->device->up ? shoal_net_reserve(to->device->net) : NULL;
    if (room == NULL) return;
    memcpy(room, packet->data, packet->length);
    shoal_net_commit(to->device->net, packet->length, 0);
    to->count++;
    packet_free(batch_take(batch));
  }
}

static void to_push(struct element *element, unsigned input, struct batch *batch) {
  struct to_device *to = (struct to_device *)element;
  (void)input;
  send(to, batch);
  to->drops += batch->count;
  batch_free(batch);
}

static bool to_run(struct element *element) {
  struct to_device *to = (struct to_device *)element;
  if (element->inputs[0].is_push) return false;
  send(to, &to->held);
  /* With no room, or no device, packets stay where they are until there is. */
  if (to->held.count > 0 || !to->device->up) return false;
  if (element_pull(element, 0, BATCH_PACKETS, &to->held) == 0) return false;
  send(to, &to->held);
  return to->held.count == 0;
}

static void to_take_state(struct element *element, struct element *old) {
  struct to_device *to = (struct to_device *)element, *before = (struct to_device *)old;
  if (to->index != before->index) return;
  to->count = before->count;
  to->drops = before->drops;
  if (!element->inputs[0].is_push) batch_join(&to->held, &before->held);
}

static void to_start(struct element *element) {
  struct to_device *to = (struct to_device *)element;
  unsigned free = 0;
  while (free < DEVICE_SENDERS - 1 && to->device->senders[free] != NULL) free++;
  to->device->senders[free] = element;
  if (!element->inputs[0].is_push) element_schedule(element);
}

static bool to_initialize(struct element *element, struct errors *errors) {
  const struct to_device *to = (struct to_device *)element;
  unsigned count = 1;
  for (uint32_t i = 0; i < element->index; i++) {
    const struct element *other = element_of(element, i);
    count += other->class == element->class && ((const struct to_device *)other)->index == to->index;
  }
  return count <= DEVICE_SENDERS || element_error(element, errors, "more than %u elements send on device %u", DEVICE_SENDERS, to->index);
}

static void to_cleanup(struct element *element) {
  struct to_device *to = (struct to_device *)element;
  for (unsigned i = 0; to->device != NULL && i < DEVICE_SENDERS; i++) {
    if (to->device->senders[i] == element) to->device->senders[i] = NULL;
  }
  batch_free(&to->held);
}

static void to_read_count(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct to_device *)element)->count); }
static void to_read_drops(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct to_device *)element)->drops); }
static bool to_reset(struct element *element, struct slice value, struct output *why) {
  (void)value, (void)why;
  ((struct to_device *)element)->count = ((struct to_device *)element)->drops = 0;
  return true;
}

static const struct handler to_handlers[] = {{"count", to_read_count, NULL}, {"drops", to_read_drops, NULL}, {"reset_counts", NULL, to_reset}, {NULL, NULL, NULL}};
const struct element_class class_to_device = {.name = "ToDevice", .size_bytes = sizeof(struct to_device), .ports = "1/0", .processing = "a/a", .configure = to_configure,
                                              .initialize = to_initialize, .take_state = to_take_state, .start = to_start, .cleanup = to_cleanup, .push = to_push, .run = to_run,
                                              .handlers = to_handlers, .pulls = true};
