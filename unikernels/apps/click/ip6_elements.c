/* IPv6 (RFC 8200): CheckIP6Header, DecIP6HLIM, GetIP6Address. */
#include "ip_elements.h"

#define IP6_BYTES 40u

struct check6 {
  struct element element;
  uint32_t offset;
  uint64_t drops;
};

static bool check_configure(struct element *element, struct arguments *arguments) {
  struct check6 *check = (struct check6 *)element;
  arguments_u32(arguments, "OFFSET", ARGUMENT_POSITION, 0, PACKET_BYTES_MAX, &check->offset);
  return arguments_end(arguments);
}

/* A source that is many, or none while it is not asking for its own address, is no good. */
static bool check_good(struct element *element, struct packet *packet) {
  struct check6 *check = (struct check6 *)element;
  if (packet->length < check->offset + IP6_BYTES) goto bad;
  uint8_t *header = packet->data + check->offset;
  uint32_t there = packet->length - check->offset - IP6_BYTES, payload = get16(header + 4);
  if (header[0] >> 4 != 6 || payload > there || header[8] == 0xff) goto bad;
  packet_take(packet, there - payload);
  packet->network = header;
  packet->transport = header + IP6_BYTES;
  memcpy(packet->destination_ip6, header + 24, 16);
  return true;
bad:
  check->drops++;
  return false;
}

static void check_action(struct element *element, struct batch *batch) { keep_good(element, batch, check_good); }
static void check_drops(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct check6 *)element)->drops); }
static const struct handler check_handlers[] = {{"drops", check_drops, NULL}, {NULL, NULL, NULL}};
const struct element_class class_check_ip6_header = {.name = "CheckIP6Header", .size_bytes = sizeof(struct check6), .ports = "1/1-2", .processing = "a/ah", .configure = check_configure,
                                                     .action = check_action, .handlers = check_handlers};

static bool limit_good(struct element *element, struct packet *packet) {
  uint8_t *header = packet->network;
  if (packet_bytes_from(packet, header) < IP6_BYTES || header[7] <= 1) {
    ((struct check6 *)element)->drops++;
    return false;
  }
  header[7]--;
  return true;
}
static void limit_action(struct element *element, struct batch *batch) { keep_good(element, batch, limit_good); }
const struct element_class class_dec_ip6_hlim = {.name = "DecIP6HLIM", .size_bytes = sizeof(struct check6), .ports = "1/1-2", .processing = "a/ah", .action = limit_action, .handlers = check_handlers};

/* GetIP6Address(OFFSET) */
static bool get_configure(struct element *element, struct arguments *arguments) {
  arguments_u32(arguments, "OFFSET", ARGUMENT_POSITION | ARGUMENT_REQUIRED, 0, PACKET_BYTES_MAX, &((struct check6 *)element)->offset);
  return arguments_end(arguments);
}
static void get_action(struct element *element, struct batch *batch) {
  uint32_t offset = ((struct check6 *)element)->offset;
  BATCH_EACH(packet, batch) {
    if (packet->length >= offset + 16) memcpy(packet->destination_ip6, packet->data + offset, 16);
  }
}
const struct element_class class_get_ip6_address = {.name = "GetIP6Address", .size_bytes = sizeof(struct check6), .ports = "1/1", .processing = "a/a", .configure = get_configure, .action = get_action};
