/* Ethernet: Strip, Unstrip, EtherEncap, EtherMirror, HostEtherFilter, DropBroadcasts. */
#include "element.h"

#define ETHER_BYTES 14u

/* ---- Strip(LENGTH), Unstrip(LENGTH) ---- */

struct strip {
  struct element element;
  uint32_t bytes;
};

static bool strip_configure(struct element *element, struct arguments *arguments) {
  arguments_u32(arguments, "LENGTH", ARGUMENT_POSITION | ARGUMENT_REQUIRED, 0, PACKET_BYTES_MAX, &((struct strip *)element)->bytes);
  return arguments_end(arguments);
}

static void strip_action(struct element *element, struct batch *batch) {
  uint32_t bytes = ((struct strip *)element)->bytes;
  struct batch kept = BATCH_EMPTY;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    if (packet_pull(packet, bytes)) batch_add(&kept, packet);
    else packet_free(packet);
  }
  *batch = kept;
}

/* The bytes that were stripped come back, for they lie there still. */
static void unstrip_action(struct element *element, struct batch *batch) {
  uint32_t bytes = ((struct strip *)element)->bytes;
  struct batch kept = BATCH_EMPTY;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    if (packet_headroom(packet) >= bytes && packet_push(packet, bytes)) batch_add(&kept, packet);
    else packet_free(packet);
  }
  *batch = kept;
}

const struct element_class class_strip = {.name = "Strip", .size_bytes = sizeof(struct strip), .ports = "1/1", .processing = "a/a", .configure = strip_configure, .action = strip_action};
const struct element_class class_unstrip = {.name = "Unstrip", .size_bytes = sizeof(struct strip), .ports = "1/1", .processing = "a/a", .configure = strip_configure, .action = unstrip_action};

/* ---- EtherEncap(ETHERTYPE, SRC, DST) ---- */

struct encap {
  struct element element;
  uint8_t header[ETHER_BYTES];
};

static bool encap_configure(struct element *element, struct arguments *arguments) {
  struct encap *encap = (struct encap *)element;
  uint32_t type = 0;
  arguments_u32(arguments, "ETHERTYPE", ARGUMENT_POSITION | ARGUMENT_REQUIRED, 0, 0xffff, &type);
  arguments_ether(arguments, "SRC", ARGUMENT_POSITION | ARGUMENT_REQUIRED, encap->header + 6);
  arguments_ether(arguments, "DST", ARGUMENT_POSITION | ARGUMENT_REQUIRED, encap->header);
  put16(encap->header + 12, type);
  return arguments_end(arguments);
}

static void encap_action(struct element *element, struct batch *batch) {
  const struct encap *encap = (struct encap *)element;
  struct batch kept = BATCH_EMPTY;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    if (packet_push(packet, ETHER_BYTES)) {
      memcpy(packet->data, encap->header, ETHER_BYTES);
      batch_add(&kept, packet);
    } else {
      packet_free(packet);
    }
  }
  *batch = kept;
}

static void encap_read_src(struct element *element, struct output *out) { output_ether(out, ((struct encap *)element)->header + 6); }
static void encap_read_dst(struct element *element, struct output *out) { output_ether(out, ((struct encap *)element)->header); }
static void encap_read_type(struct element *element, struct output *out) { output_print(out, "%04x", get16(((struct encap *)element)->header + 12)); }

static bool encap_write(struct element *element, unsigned at, struct slice value, struct output *why) {
  if (parse_ether(value, ((struct encap *)element)->header + at)) return true;
  output_print(why, "an Ethernet address");
  return false;
}
static bool encap_write_src(struct element *element, struct slice value, struct output *why) { return encap_write(element, 6, value, why); }
static bool encap_write_dst(struct element *element, struct slice value, struct output *why) { return encap_write(element, 0, value, why); }

static const struct handler encap_handlers[] = {{"src", encap_read_src, encap_write_src}, {"dst", encap_read_dst, encap_write_dst}, {"ethertype", encap_read_type, NULL}, {NULL, NULL, NULL}};
const struct element_class class_ether_encap = {.name = "EtherEncap", .size_bytes = sizeof(struct encap), .ports = "1/1", .processing = "a/a", .configure = encap_configure,
                                                .action = encap_action, .handlers = encap_handlers};

/* ---- EtherMirror: back to where it came from ---- */

static void mirror_action(struct element *element, struct batch *batch) {
  (void)element;
  BATCH_EACH(packet, batch) {
    uint8_t kept[6];
    if (packet->length < 12) continue;
    memcpy(kept, packet->data, 6);
    memcpy(packet->data, packet->data + 6, 6);
    memcpy(packet->data + 6, kept, 6);
  }
}

const struct element_class class_ether_mirror = {.name = "EtherMirror", .size_bytes = sizeof(struct element), .ports = "1/1", .processing = "a/a", .action = mirror_action};

/* ---- HostEtherFilter(ETHER [, DROP_OWN, DROP_OTHER]): frames for this station and for many ---- */

struct host_filter {
  struct element element;
  uint8_t address[6];
  uint32_t offset;
  bool drop_own, drop_other;
};

static bool host_configure(struct element *element, struct arguments *arguments) {
  struct host_filter *filter = (struct host_filter *)element;
  filter->drop_other = true;
  arguments_ether(arguments, "ETHER", ARGUMENT_POSITION | ARGUMENT_REQUIRED, filter->address);
  arguments_bool(arguments, "DROP_OWN", ARGUMENT_POSITION, &filter->drop_own);
  arguments_bool(arguments, "DROP_OTHER", ARGUMENT_POSITION, &filter->drop_other);
  arguments_u32(arguments, "OFFSET", 0, 0, 256, &filter->offset);
  return arguments_end(arguments);
}

static void host_action(struct element *element, struct batch *batch) {
  const struct host_filter *filter = (struct host_filter *)element;
  struct batch kept = BATCH_EMPTY;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const uint8_t *frame = packet->data + filter->offset;
    bool good = packet->length >= filter->offset + ETHER_BYTES;
    if (good && filter->drop_own && memcmp(frame + 6, filter->address, 6) == 0) good = false;
    if (good) {
      packet->type = memcmp(frame, everybody, 6) == 0 ? PACKET_BROADCAST : frame[0] & 1 ? PACKET_MULTICAST : memcmp(frame, filter->address, 6) == 0 ? PACKET_HOST : PACKET_OTHERHOST;
      good = packet->type != PACKET_OTHERHOST || !filter->drop_other;
    }
    if (good) batch_add(&kept, packet);
    else element_reject(element, packet);
  }
  *batch = kept;
}

const struct element_class class_host_ether_filter = {.name = "HostEtherFilter", .size_bytes = sizeof(struct host_filter), .ports = "1/1-2", .processing = "a/ah",
                                                      .configure = host_configure, .action = host_action};

/* ---- DropBroadcasts: what came as a broadcast or multicast ---- */

struct drop_broadcasts {
  struct element element;
  uint64_t drops;
};

static void drop_action(struct element *element, struct batch *batch) {
  struct drop_broadcasts *drop = (struct drop_broadcasts *)element;
  struct batch kept = BATCH_EMPTY;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    if (packet->type != PACKET_BROADCAST && packet->type != PACKET_MULTICAST) {
      batch_add(&kept, packet);
    } else {
      drop->drops++;
      element_reject(element, packet);
    }
  }
  *batch = kept;
}

static void drop_read(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct drop_broadcasts *)element)->drops); }
static void drop_take_state(struct element *element, struct element *old) { ((struct drop_broadcasts *)element)->drops = ((struct drop_broadcasts *)old)->drops; }

static const struct handler drop_handlers[] = {{"drops", drop_read, NULL}, {NULL, NULL, NULL}};
const struct element_class class_drop_broadcasts = {.name = "DropBroadcasts", .size_bytes = sizeof(struct drop_broadcasts), .ports = "1/1-2", .processing = "a/ah",
                                                    .take_state = drop_take_state, .action = drop_action, .handlers = drop_handlers};
