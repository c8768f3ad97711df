/* ICMPError and ICMPPingResponder (RFC 792, 1122, 1812). */
#include "ip_elements.h"

#define ERROR_TTL 255u

struct named {
  const char *name;
  uint8_t type, value; /* type 255: a type's name */
};

static const struct named names[] = {
    {"unreachable", 255, ICMP_UNREACHABLE}, {"sourcequench", 255, ICMP_SOURCE_QUENCH}, {"redirect", 255, ICMP_REDIRECT}, {"timeexceeded", 255, ICMP_TIME_EXCEEDED}, {"parameterproblem", 255, ICMP_PARAMETER},
    {"net", ICMP_UNREACHABLE, 0}, {"host", ICMP_UNREACHABLE, 1}, {"protocol", ICMP_UNREACHABLE, 2}, {"port", ICMP_UNREACHABLE, 3}, {"needfrag", ICMP_UNREACHABLE, 4}, {"srcroutefail", ICMP_UNREACHABLE, 5},
    {"netunknown", ICMP_UNREACHABLE, 6}, {"hostunknown", ICMP_UNREACHABLE, 7}, {"netprohibited", ICMP_UNREACHABLE, 9}, {"hostprohibited", ICMP_UNREACHABLE, 10}, {"filterprohibited", ICMP_UNREACHABLE, 13},
    {"net", ICMP_REDIRECT, 0}, {"host", ICMP_REDIRECT, 1}, {"tosnet", ICMP_REDIRECT, 2}, {"toshost", ICMP_REDIRECT, 3},
    {"transit", ICMP_TIME_EXCEEDED, 0}, {"reassembly", ICMP_TIME_EXCEEDED, 1}, {"erroratptr", ICMP_PARAMETER, 0}, {"missingopt", ICMP_PARAMETER, 1}, {"length", ICMP_PARAMETER, 2}};

static bool read_name(struct slice text, uint8_t type, uint32_t *value) {
  uint64_t number;
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
    if (names[i].type == type && slice_equal(text, (struct slice){names[i].name, strlen(names[i].name)})) return *value = names[i].value, true;
  }
  return parse_u64(text, 255, &number) ? *value = (uint32_t)number, true : false;
}

struct icmp_error {
  struct element element;
  uint32_t address, type, code, mtu, path_mtu;
  bool fix_source;
  struct addresses bad;
  uint64_t made, refused;
};

static bool error_configure(struct element *element, struct arguments *arguments) {
  struct icmp_error *of = (struct icmp_error *)element;
  struct slice text;
  of->mtu = of->path_mtu = 576;
  of->fix_source = true;
  arguments_ip4(arguments, "SRC", ARGUMENT_POSITION | ARGUMENT_REQUIRED, &of->address);
  if (arguments_text(arguments, "TYPE", ARGUMENT_POSITION | ARGUMENT_REQUIRED, &text) &&
      (!read_name(text, 255, &of->type) || (of->type != ICMP_UNREACHABLE && of->type != ICMP_SOURCE_QUENCH && of->type != ICMP_REDIRECT && of->type != ICMP_TIME_EXCEEDED && of->type != ICMP_PARAMETER))) {
    arguments_error(arguments, "TYPE: '%.*s' is not an ICMP error", (int)(text.length < 40 ? text.length : 40), text.at);
  }
  if (arguments_text(arguments, "CODE", ARGUMENT_POSITION, &text) && !read_name(text, (uint8_t)of->type, &of->code)) {
    arguments_error(arguments, "CODE: '%.*s' is not one of that error", (int)(text.length < 40 ? text.length : 40), text.at);
  }
  addresses_argument(arguments, "BADADDRS", ARGUMENT_POSITION, &of->bad);
  arguments_u32(arguments, "MTU", ARGUMENT_POSITION, 68, PACKET_BYTES_MAX - PACKET_HEADROOM, &of->mtu);
  arguments_u32(arguments, "PMTU", 0, 0, 65535, &of->path_mtu);
  arguments_bool(arguments, "SET_FIX_ANNO", 0, &of->fix_source);
  return arguments_end(arguments);
}

/* No error answers an error, a later fragment, a broadcast, or a source that is no host. */
static bool deserves(const struct icmp_error *of, const struct packet *packet, const struct ip4_view *view) {
  uint32_t source = ip4_source(view->header), destination = ip4_destination(view->header);
  if (!ip4_is_first(view) || packet->type == PACKET_BROADCAST || packet->type == PACKET_MULTICAST || ip4_is_multicast(destination) || destination == UINT32_MAX) return false;
  uint8_t first = view->header[12];
  if (source == 0 || first >= 224 || first == 127 || first == 0 || addresses_have(&of->bad, source) || addresses_have(&of->bad, destination)) return false;
  if (view->protocol != PROTOCOL_ICMP) return true;
  if (view->transport_bytes == 0) return false;
  uint8_t type = view->transport[0];
  return type == ICMP_ECHO || type == ICMP_ECHO_REPLY || (type >= 13 && type <= 18);
}

static struct packet *make_error(const struct icmp_error *of, const struct packet *packet, const struct ip4_view *view) {
  uint32_t quoted = view->header_bytes + view->transport_bytes, most = of->mtu - IP_BYTES - ICMP_BYTES;
  if (quoted > most) quoted = most;
  uint32_t length = IP_BYTES + ICMP_BYTES + quoted;
  struct packet *made = packet_new(PACKET_HEADROOM, length);
  if (made == NULL) return NULL;
  uint8_t *header = made->data, *icmp = header + IP_BYTES;
  memset(header, 0, IP_BYTES + ICMP_BYTES);
  header[0] = 0x45;
  header[1] = (uint8_t)(0xc0 | (view->header[1] & 0x1e)); /* internetwork control (RFC 1812, 4.3.2.5) */
  put16(header + 2, length);
  header[8] = ERROR_TTL;
  header[9] = PROTOCOL_ICMP;
  put_ip4(header + 12, of->address);
  put_ip4(header + 16, ip4_source(view->header));
  ip4_set_checksum(header);
  icmp[0] = (uint8_t)of->type;
  icmp[1] = (uint8_t)of->code;
  if (of->type == ICMP_PARAMETER && of->code == 0) icmp[4] = packet->user[0];
  if (of->type == ICMP_REDIRECT) put_ip4(icmp + 4, packet->destination_ip);
  if (of->type == ICMP_UNREACHABLE && of->code == 4) put16(icmp + 6, of->path_mtu);
  memcpy(icmp + ICMP_BYTES, view->header, quoted);
  put16(icmp + 2, checksum_end(checksum_add(icmp, ICMP_BYTES + quoted, 0)));
  ip4_mark(made, header);
  made->destination_ip = ip4_source(view->header);
  made->fix_ip_source = of->fix_source;
  made->timestamp_ns = packet->timestamp_ns;
  made->device = packet->device;
  return made;
}

static void error_push(struct element *element, unsigned input, struct batch *batch) {
  struct icmp_error *of = (struct icmp_error *)element;
  struct batch out = BATCH_EMPTY;
  (void)input;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL; packet_free(packet)) {
    struct ip4_view view;
    struct packet *made = ip4_view(packet, &view) && deserves(of, packet, &view) ? make_error(of, packet, &view) : NULL;
    if (made == NULL) {
      of->refused++;
      continue;
    }
    of->made++;
    batch_add(&out, made);
  }
  element_push(element, 0, &out);
}

static void read_made(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct icmp_error *)element)->made); }
static void read_refused(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct icmp_error *)element)->refused); }
static void read_src(struct element *element, struct output *out) { output_ip4(out, ((struct icmp_error *)element)->address); }
static bool write_src(struct element *element, struct slice value, struct output *why) {
  if (parse_ip4(value, &((struct icmp_error *)element)->address)) return true;
  output_print(why, "an IP address");
  return false;
}

static const struct handler error_handlers[] = {{"made", read_made, NULL}, {"refused", read_refused, NULL}, {"src", read_src, write_src}, {NULL, NULL, NULL}};
const struct element_class class_icmp_error = {.name = "ICMPError", .size_bytes = sizeof(struct icmp_error), .ports = "1/1", .processing = "h/h", .configure = error_configure, .push = error_push, .handlers = error_handlers};

/* ---- ICMPPingResponder: echo requests become their replies; all else goes out of output 1 ---- */

static bool answer(struct element *element, struct packet *packet) {
  struct ip4_view view;
  (void)element;
  if (!ip4_view(packet, &view) || view.protocol != PROTOCOL_ICMP || !ip4_is_first(&view) || view.transport_bytes < ICMP_BYTES || view.transport[0] != ICMP_ECHO) return false;
  uint32_t source = ip4_source(view.header);
  put_ip4(view.header + 12, ip4_destination(view.header));
  put_ip4(view.header + 16, source);
  checksum_put16(view.transport + 2, view.transport, (uint16_t)(ICMP_ECHO_REPLY << 8 | view.transport[1]));
  packet->destination_ip = source;
  return true;
}

static void answer_action(struct element *element, struct batch *batch) { keep_good(element, batch, answer); }

const struct element_class class_icmp_ping_responder = {.name = "ICMPPingResponder", .size_bytes = sizeof(struct element), .ports = "1/1-2", .processing = "a/ah", .action = answer_action};
