/* Elements that check and mark: CheckIPHeader, CheckTCPHeader, CheckUDPHeader, CheckICMPHeader, MarkIPHeader. What is no good goes out of output 1, or is gone. */
#include "ip_elements.h"

bool addresses_argument(struct arguments *arguments, const char *name, unsigned flags, struct addresses *addresses) {
  struct slice text, word;
  if (!arguments_text(arguments, name, flags, &text)) return false;
  while (parse_word(&text, &word)) {
    if (addresses->count == ADDRESSES_MAX) return arguments_error(arguments, "%s: more than %u addresses", name, ADDRESSES_MAX);
    if (!parse_ip4(word, &addresses->all[addresses->count])) {
      return arguments_error_at(arguments, word.at, "%s: '%.*s' is not an IP address", name, (int)(word.length < 40 ? word.length : 40), word.at);
    }
    addresses->count++;
  }
  return true;
}

/* ---- CheckIPHeader([BADSRC, OFFSET]; INTERFACES, GOODDST, CHECKSUM), MarkIPHeader([OFFSET]) ---- */

struct check_ip {
  struct element element;
  uint32_t offset;
  bool checksum;
  struct addresses bad_sources, good_destinations;
  uint64_t drops;
};

/* INTERFACES: ADDRESS/LENGTH each; the address is a good destination, the two broadcast addresses of the net are bad sources. */
static void read_interfaces(struct check_ip *check, struct arguments *arguments) {
  struct slice text, word;
  if (!arguments_text(arguments, "INTERFACES", 0, &text)) return;
  check->bad_sources.count = 0;
  while (parse_word(&text, &word)) {
    uint32_t address, mask;
    if (!parse_prefix4(word, &address, &mask) || check->bad_sources.count + 2 > ADDRESSES_MAX) {
      arguments_error_at(arguments, word.at, "'%.*s' is not ADDRESS/LENGTH, or they are more than %u", (int)(word.length < 40 ? word.length : 40), word.at, ADDRESSES_MAX / 2);
      return;
    }
    check->good_destinations.all[check->good_destinations.count++] = address;
    if (mask == UINT32_MAX) continue;
    check->bad_sources.all[check->bad_sources.count++] = (address & mask) | ~mask;
    check->bad_sources.all[check->bad_sources.count++] = address & mask;
  }
}

static bool check_ip_configure(struct element *element, struct arguments *arguments) {
  struct check_ip *check = (struct check_ip *)element;
  bool verbose;
  check->checksum = true;
  /* Unless said otherwise. */
  check->bad_sources = (struct addresses){2, {0, UINT32_MAX}};
  struct addresses bad = {0}, good = {0};
  if (addresses_argument(arguments, "BADSRC", ARGUMENT_POSITION, &bad)) check->bad_sources = bad;
  arguments_u32(arguments, "OFFSET", ARGUMENT_POSITION, 0, PACKET_BYTES_MAX, &check->offset);
  read_interfaces(check, arguments);
  if (addresses_argument(arguments, "GOODDST", 0, &good)) check->good_destinations = good;
  arguments_bool(arguments, "CHECKSUM", 0, &check->checksum);
  arguments_bool(arguments, "VERBOSE", 0, &verbose);
  arguments_bool(arguments, "DETAILS", 0, &verbose);
  return arguments_end(arguments);
}

static bool check_ip_good(struct element *element, struct packet *packet) {
  struct check_ip *check = (struct check_ip *)element;
  if (packet->length < check->offset + IP_BYTES) goto bad;
  uint8_t *header = packet->data + check->offset;
  uint32_t there = packet->length - check->offset, header_bytes = (header[0] & 15u) * 4, length = get16(header + 2);
  if (header[0] >> 4 != 4 || header_bytes < IP_BYTES || header_bytes > length || length > there) goto bad;
  if (check->checksum && checksum_end(checksum_add(header, header_bytes, 0)) != 0) goto bad;
  if (addresses_have(&check->bad_sources, ip4_source(header)) && !addresses_have(&check->good_destinations, ip4_destination(header))) goto bad;
  /* What the link padded. */
  packet_take(packet, there - length);
  ip4_mark(packet, header);
  packet->destination_ip = ip4_destination(header);
  return true;
bad:
  check->drops++;
  return false;
}

static void check_ip_action(struct element *element, struct batch *batch) { keep_good(element, batch, check_ip_good); }
static void check_read_drops(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct check_ip *)element)->drops); }

static const struct handler check_ip_handlers[] = {{"drops", check_read_drops, NULL}, {NULL, NULL, NULL}};
const struct element_class class_check_ip_header = {.name = "CheckIPHeader", .size_bytes = sizeof(struct check_ip), .ports = "1/1-2", .processing = "a/ah", .configure = check_ip_configure,
                                                    .action = check_ip_action, .handlers = check_ip_handlers};

struct mark {
  struct element element;
  uint32_t offset;
};

static bool mark_configure(struct element *element, struct arguments *arguments) {
  arguments_u32(arguments, "OFFSET", ARGUMENT_POSITION, 0, PACKET_BYTES_MAX, &((struct mark *)element)->offset);
  return arguments_end(arguments);
}

static void mark_action(struct element *element, struct batch *batch) {
  uint32_t offset = ((struct mark *)element)->offset;
  BATCH_EACH(packet, batch) {
    /* Too short for a header: unmarked, and whoever needs one drops it. */
    if (packet->length < offset + IP_BYTES) packet->network = packet->transport = NULL;
    else if (packet->data[offset] >> 4 == 6) packet->network = packet->data + offset, packet->transport = packet->length < offset + 40 ? NULL : packet->data + offset + 40;
    else ip4_mark(packet, packet->data + offset);
  }
}

const struct element_class class_mark_ip_header = {.name = "MarkIPHeader", .size_bytes = sizeof(struct mark), .ports = "1/1", .processing = "a/a", .configure = mark_configure, .action = mark_action};

/* ---- CheckTCPHeader, CheckUDPHeader, CheckICMPHeader. Of a packet in fragments only the first has a header, and none a checksum over what it
 * has itself: there what can be seen is checked. ---- */

struct check_transport {
  struct element element;
  uint64_t drops;
  bool checksum;
};

static bool transport_configure(struct element *element, struct arguments *arguments) {
  struct check_transport *check = (struct check_transport *)element;
  bool ignored;
  check->checksum = true;
  arguments_bool(arguments, "CHECKSUM", 0, &check->checksum);
  arguments_bool(arguments, "VERBOSE", 0, &ignored);
  arguments_bool(arguments, "DETAILS", 0, &ignored);
  return arguments_end(arguments);
}

static bool sum_holds(const struct ip4_view *view, uint32_t length) {
  return checksum_end(checksum_add(view->transport, length, ip4_pseudo_sum(view->header + 12, view->protocol, length))) == 0;
}

static bool tcp_good(const struct check_transport *check, const struct ip4_view *view) {
  if (view->protocol != PROTOCOL_TCP) return false;
  if (!ip4_is_first(view)) return true;
  uint32_t header = view->transport_bytes < TCP_BYTES ? 0 : (view->transport[12] >> 4) * 4u;
  if (header < TCP_BYTES || header > view->transport_bytes) return false;
  return ip4_is_fragment(view) || !check->checksum || sum_holds(view, view->transport_bytes);
}

static bool udp_good(const struct check_transport *check, const struct ip4_view *view) {
  if (view->protocol != PROTOCOL_UDP) return false;
  if (!ip4_is_first(view)) return true;
  if (view->transport_bytes < UDP_BYTES) return false;
  uint32_t length = get16(view->transport + 4);
  if (length < UDP_BYTES) return false;
  if (ip4_is_fragment(view)) return true;
  return length <= view->transport_bytes && (!check->checksum || get16(view->transport + 6) == 0 || sum_holds(view, length));
}

static bool icmp_good(const struct check_transport *check, const struct ip4_view *view) {
  if (view->protocol != PROTOCOL_ICMP) return false;
  if (!ip4_is_first(view)) return true;
  if (view->transport_bytes < ICMP_BYTES) return false;
  return ip4_is_fragment(view) || !check->checksum || checksum_end(checksum_add(view->transport, view->transport_bytes, 0)) == 0;
}

static bool transport_good(struct element *element, struct packet *packet, bool (*good)(const struct check_transport *, const struct ip4_view *)) {
  struct check_transport *check = (struct check_transport *)element;
  struct ip4_view view;
  if (ip4_view(packet, &view) && good(check, &view)) return true;
  check->drops++;
  return false;
}

static bool tcp_packet(struct element *element, struct packet *packet) { return transport_good(element, packet, tcp_good); }
static bool udp_packet(struct element *element, struct packet *packet) { return transport_good(element, packet, udp_good); }
static bool icmp_packet(struct element *element, struct packet *packet) { return transport_good(element, packet, icmp_good); }
static void tcp_action(struct element *element, struct batch *batch) { keep_good(element, batch, tcp_packet); }
static void udp_action(struct element *element, struct batch *batch) { keep_good(element, batch, udp_packet); }
static void icmp_action(struct element *element, struct batch *batch) { keep_good(element, batch, icmp_packet); }
static void transport_read_drops(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct check_transport *)element)->drops); }

static const struct handler transport_handlers[] = {{"drops", transport_read_drops, NULL}, {NULL, NULL, NULL}};
#define TRANSPORT_CLASS(of, class_name) \
  {.name = class_name, .size_bytes = sizeof(struct check_transport), .ports = "1/1-2", .processing = "a/ah", .configure = transport_configure, .action = of, .handlers = transport_handlers}
const struct element_class class_check_tcp_header = TRANSPORT_CLASS(tcp_action, "CheckTCPHeader");
const struct element_class class_check_udp_header = TRANSPORT_CLASS(udp_action, "CheckUDPHeader");
const struct element_class class_check_icmp_header = TRANSPORT_CLASS(icmp_action, "CheckICMPHeader");
