/*
 * Elements that read or write a field: GetIPAddress, StoreIPAddress, SetIPAddress, SetIPDSCP, SetIPECN, SetIPChecksum, SetTCPChecksum,
 * SetUDPChecksum, FixIPSrc. Packets without a whole IP header pass as they are, unless said otherwise.
 */
#include "ip_elements.h"

struct place_element {
  struct element element;
  uint32_t offset, address;
  bool has_address, at_source, at_destination, by_offset;
};

/* `src` and `dst` (`ip src`, `ip dst` as well) mean the header's fields. */
static bool read_place(struct place_element *of, struct arguments *arguments, struct slice text) {
  uint64_t offset;
  if (slice_starts(text, SLICE("ip "))) text = slice_trim(slice_from(text, 3));
  if (slice_equal(text, SLICE("src"))) return of->at_source = true;
  if (slice_equal(text, SLICE("dst"))) return of->at_destination = true;
  if (!parse_u64(text, PACKET_BYTES_MAX, &offset)) return arguments_error(arguments, "'%.*s' is not an offset, src or dst", (int)(text.length < 40 ? text.length : 40), text.at);
  of->offset = (uint32_t)offset;
  return of->by_offset = true;
}

/* ---- GetIPAddress(OFFSET | IP src|dst): the destination annotation from the packet ---- */

static bool get_configure(struct element *element, struct arguments *arguments) {
  struct place_element *of = (struct place_element *)element;
  struct slice text;
  bool named = arguments_text(arguments, "IP", 0, &text);
  if (named || arguments_text(arguments, "OFFSET", ARGUMENT_POSITION | ARGUMENT_REQUIRED, &text)) read_place(of, arguments, text);
  return arguments_end(arguments);
}

static void get_action(struct element *element, struct batch *batch) {
  const struct place_element *of = (struct place_element *)element;
  BATCH_EACH(packet, batch) {
    struct ip4_view view;
    if (of->by_offset) {
      if (packet->length >= of->offset + 4) packet->destination_ip = get_ip4(packet->data + of->offset);
    } else if (ip4_view(packet, &view)) {
      packet->destination_ip = of->at_source ? ip4_source(view.header) : ip4_destination(view.header);
    }
  }
}

const struct element_class class_get_ip_address = {.name = "GetIPAddress", .size_bytes = sizeof(struct place_element), .ports = "1/1", .processing = "a/a", .configure = get_configure, .action = get_action};

/* ---- SetIPAddress(ADDRESS): the destination annotation ---- */

static bool set_address_configure(struct element *element, struct arguments *arguments) {
  arguments_ip4(arguments, "IPADDR", ARGUMENT_POSITION | ARGUMENT_REQUIRED, &((struct place_element *)element)->address);
  return arguments_end(arguments);
}
static void set_address_action(struct element *element, struct batch *batch) { BATCH_EACH(packet, batch) packet->destination_ip = ((struct place_element *)element)->address; }

const struct element_class class_set_ip_address = {.name = "SetIPAddress", .size_bytes = sizeof(struct place_element), .ports = "1/1", .processing = "a/a", .configure = set_address_configure, .action = set_address_action};

/* ---- StoreIPAddress([ADDRESS,] OFFSET | src | dst): writes the address, or the annotation, into the packet; at src and dst with the checksums ---- */

static bool store_configure(struct element *element, struct arguments *arguments) {
  struct place_element *of = (struct place_element *)element;
  struct slice text;
  if (arguments_rest_count(arguments) > 1) of->has_address = arguments_ip4(arguments, "ADDR", ARGUMENT_POSITION, &of->address);
  if (arguments_text(arguments, "OFFSET", ARGUMENT_POSITION | ARGUMENT_REQUIRED, &text)) read_place(of, arguments, text);
  return arguments_end(arguments);
}

/* The field of a transport's checksum that covers the addresses; NULL: there is none here. */
static uint8_t *transport_field(const struct ip4_view *view) {
  if (!ip4_is_first(view)) return NULL;
  if (view->protocol == PROTOCOL_TCP && view->transport_bytes >= 18) return view->transport + 16;
  if (view->protocol == PROTOCOL_UDP && view->transport_bytes >= UDP_BYTES && get16(view->transport + 6) != 0) return view->transport + 6;
  return NULL;
}

static void store_header(const struct ip4_view *view, uint8_t *at, uint32_t address) {
  uint8_t bytes[4], *field = transport_field(view);
  memcpy(bytes, &address, 4);
  for (unsigned i = 0; i < 4; i += 2) {
    if (field != NULL) put16(field, checksum_update16(get16(field), get16(at + i), get16(bytes + i)));
    checksum_put16(view->header + 10, at + i, get16(bytes + i));
  }
  if (field != NULL && view->protocol == PROTOCOL_UDP && get16(field) == 0) put16(field, 0xffff);
}

static void store_action(struct element *element, struct batch *batch) {
  const struct place_element *of = (struct place_element *)element;
  BATCH_EACH(packet, batch) {
    struct ip4_view view;
    uint32_t address = of->has_address ? of->address : packet->destination_ip;
    if (of->by_offset) {
      if (packet->length >= of->offset + 4) put_ip4(packet->data + of->offset, address);
    } else if (ip4_view(packet, &view)) {
      store_header(&view, view.header + (of->at_source ? 12 : 16), address);
    }
  }
}

const struct element_class class_store_ip_address = {.name = "StoreIPAddress", .size_bytes = sizeof(struct place_element), .ports = "1/1", .processing = "a/a", .configure = store_configure, .action = store_action};

/* ---- SetIPDSCP(DSCP), SetIPECN(ECN) ---- */

struct tos {
  struct element element;
  uint8_t mask, value;
};

static bool dscp_configure(struct element *element, struct arguments *arguments) {
  uint32_t value = 0;
  arguments_u32(arguments, "DSCP", ARGUMENT_POSITION | ARGUMENT_REQUIRED, 0, 63, &value);
  ((struct tos *)element)->mask = 0xfc;
  ((struct tos *)element)->value = (uint8_t)(value << 2);
  return arguments_end(arguments);
}

static bool ecn_configure(struct element *element, struct arguments *arguments) {
  static const struct { const char *name; uint8_t value; } names[] = {{"no", 0}, {"not-ect", 0}, {"ect1", 1}, {"ect(1)", 1}, {"ect0", 2}, {"ect2", 2}, {"ect(0)", 2}, {"ce", 3}, {"ect3", 3}};
  struct slice text;
  uint64_t number;
  ((struct tos *)element)->mask = 3;
  if (arguments_text(arguments, "ECN", ARGUMENT_POSITION | ARGUMENT_REQUIRED, &text)) {
    bool known = parse_u64(text, 3, &number);
    if (known) ((struct tos *)element)->value = (uint8_t)number;
    for (unsigned i = 0; !known && i < sizeof names / sizeof *names; i++) {
      if (slice_same(text, (struct slice){names[i].name, strlen(names[i].name)})) known = true, ((struct tos *)element)->value = names[i].value;
    }
    if (!known) arguments_error(arguments, "'%.*s' is not an ECN value (0 to 3, no, ect1, ect2, ce)", (int)(text.length < 40 ? text.length : 40), text.at);
  }
  return arguments_end(arguments);
}

static void tos_action(struct element *element, struct batch *batch) {
  const struct tos *tos = (struct tos *)element;
  BATCH_EACH(packet, batch) {
    struct ip4_view view;
    if (!ip4_view(packet, &view)) continue;
    uint16_t word = get16(view.header);
    checksum_put16(view.header + 10, view.header, (uint16_t)((word & ~(unsigned)tos->mask) | tos->value));
  }
}

const struct element_class class_set_ip_dscp = {.name = "SetIPDSCP", .size_bytes = sizeof(struct tos), .ports = "1/1", .processing = "a/a", .configure = dscp_configure, .action = tos_action};
const struct element_class class_set_ip_ecn = {.name = "SetIPECN", .size_bytes = sizeof(struct tos), .ports = "1/1", .processing = "a/a", .configure = ecn_configure, .action = tos_action};

/* ---- SetIPChecksum, SetTCPChecksum, SetUDPChecksum: made anew over the whole. Fragments have no whole: those are left alone. ---- */

static void ip_checksum_action(struct element *element, struct batch *batch) {
  (void)element;
  BATCH_EACH(packet, batch) {
    struct ip4_view view;
    if (ip4_view(packet, &view)) ip4_set_checksum(view.header);
  }
}

static void set_sum(const struct ip4_view *view, uint8_t *field, uint32_t length) {
  put16(field, 0);
  put16(field, checksum_end(checksum_add(view->transport, length, ip4_pseudo_sum(view->header + 12, view->protocol, length))));
}

static bool tcp_checksum_good(struct element *element, struct packet *packet) {
  struct ip4_view view;
  (void)element;
  if (!ip4_view(packet, &view) || view.protocol != PROTOCOL_TCP || ip4_is_fragment(&view) || view.transport_bytes < TCP_BYTES) return false;
  set_sum(&view, view.transport + 16, view.transport_bytes);
  return true;
}

static bool udp_checksum_good(struct element *element, struct packet *packet) {
  struct ip4_view view;
  (void)element;
  if (!ip4_view(packet, &view) || view.protocol != PROTOCOL_UDP || ip4_is_fragment(&view) || view.transport_bytes < UDP_BYTES) return false;
  uint32_t length = get16(view.transport + 4);
  if (length < UDP_BYTES || length > view.transport_bytes) return false;
  set_sum(&view, view.transport + 6, length);
  if (get16(view.transport + 6) == 0) put16(view.transport + 6, 0xffff);
  return true;
}

static bool no_arguments(struct element *element, struct arguments *arguments) {
  bool ignored;
  (void)element;
  arguments_bool(arguments, "FIXOFF", ARGUMENT_POSITION, &ignored);
  return arguments_end(arguments);
}

static void tcp_checksum_action(struct element *element, struct batch *batch) { keep_good(element, batch, tcp_checksum_good); }
static void udp_checksum_action(struct element *element, struct batch *batch) { keep_good(element, batch, udp_checksum_good); }

const struct element_class class_set_ip_checksum = {.name = "SetIPChecksum", .size_bytes = sizeof(struct element), .ports = "1/1", .processing = "a/a", .action = ip_checksum_action};
const struct element_class class_set_tcp_checksum = {.name = "SetTCPChecksum", .size_bytes = sizeof(struct element), .ports = "1/1-2", .processing = "a/ah", .configure = no_arguments, .action = tcp_checksum_action};
const struct element_class class_set_udp_checksum = {.name = "SetUDPChecksum", .size_bytes = sizeof(struct element), .ports = "1/1-2", .processing = "a/ah", .configure = no_arguments, .action = udp_checksum_action};

/* ---- FixIPSrc(ADDRESS): the source of packets that ask for it (those of ICMPError) ---- */

static bool fix_configure(struct element *element, struct arguments *arguments) {
  arguments_ip4(arguments, "IPADDR", ARGUMENT_POSITION | ARGUMENT_REQUIRED, &((struct place_element *)element)->address);
  return arguments_end(arguments);
}

static void fix_action(struct element *element, struct batch *batch) {
  BATCH_EACH(packet, batch) {
    struct ip4_view view;
    if (!packet->fix_ip_source || !ip4_view(packet, &view)) continue;
    packet->fix_ip_source = false;
    store_header(&view, view.header + 12, ((struct place_element *)element)->address);
  }
}

const struct element_class class_fix_ip_src = {.name = "FixIPSrc", .size_bytes = sizeof(struct place_element), .ports = "1/1", .processing = "a/a", .configure = fix_configure, .action = fix_action};
