/* What a router does to a packet that passes: DecIPTTL, IPGWOptions, IPFragmenter. */
#include "ip_elements.h"

/* ---- DecIPTTL: at 1 or 0 it goes out of output 1 ---- */

struct dec_ttl {
  struct element element;
  bool active, multicast;
  uint64_t drops;
};

static bool dec_ttl_configure(struct element *element, struct arguments *arguments) {
  struct dec_ttl *of = (struct dec_ttl *)element;
  of->active = of->multicast = true;
  arguments_bool(arguments, "ACTIVE", 0, &of->active);
  arguments_bool(arguments, "MULTICAST", 0, &of->multicast);
  return arguments_end(arguments);
}

static bool dec_ttl_good(struct element *element, struct packet *packet) {
  struct dec_ttl *of = (struct dec_ttl *)element;
  uint8_t *header = packet->network;
  if (!of->active) return true;
  if (packet_bytes_from(packet, header) < IP_BYTES || header[8] <= 1) {
    of->drops++;
    return false;
  }
  if (!of->multicast && ip4_is_multicast(ip4_destination(header))) return true;
  checksum_put16(header + 10, header + 8, (uint16_t)(get16(header + 8) - 0x100));
  return true;
}

static void dec_ttl_action(struct element *element, struct batch *batch) { keep_good(element, batch, dec_ttl_good); }
static void dec_ttl_drops(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct dec_ttl *)element)->drops); }

static const struct handler dec_ttl_handlers[] = {{"drops", dec_ttl_drops, NULL}, {NULL, NULL, NULL}};
const struct element_class class_dec_ip_ttl = {.name = "DecIPTTL", .size_bytes = sizeof(struct dec_ttl), .ports = "1/1-2", .processing = "a/ah", .configure = dec_ttl_configure,
                                               .action = dec_ttl_action, .handlers = dec_ttl_handlers};

/*
 * ---- IPGWOptions(ADDRESS [, OTHERS]): record route and timestamps get the address (RFC 791, 1812); an option that is malformed sends the packet
 * out of output 1, with the place of the mistake for ICMPError's parameter problem ----
 */

#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_RECORD_ROUTE 7
#define OPTION_TIMESTAMP 68

struct gateway_options {
  struct element element;
  uint32_t address;
  struct addresses mine;
};

static bool gateway_configure(struct element *element, struct arguments *arguments) {
  struct gateway_options *of = (struct gateway_options *)element;
  if (arguments_ip4(arguments, "MYADDR", ARGUMENT_POSITION | ARGUMENT_REQUIRED, &of->address)) of->mine = (struct addresses){1, {of->address}};
  addresses_argument(arguments, "OTHERADDRS", ARGUMENT_POSITION, &of->mine);
  return arguments_end(arguments);
}

/* Milliseconds since midnight UT. */
static uint32_t time_of_day(void) { return (uint32_t)(click_wall_ns() / 1000000 % 86400000); }

/* Where in the option a mistake lies, -1: nowhere. `length` is the option's, at least 3. */
static int record_route(const struct gateway_options *of, uint8_t *option, uint32_t length) {
  uint32_t pointer = option[2];
  if (pointer < 4) return 2;
  if (pointer > length) return -1; /* full */
  if (pointer + 3 > length) return 2;
  put_ip4(option + pointer - 1, of->address);
  option[2] = (uint8_t)(pointer + 4);
  return -1;
}

static int record_time(const struct gateway_options *of, uint8_t *option, uint32_t length) {
  uint32_t pointer = option[2];
  if (length < 4) return 1;
  uint32_t flag = option[3] & 15u, overflow = option[3] >> 4, bytes = flag == 0 ? 4 : 8;
  if (pointer < 5) return 2;
  if (flag != 0 && flag != 1 && flag != 3) return 3;
  if (pointer > length) {
    if (overflow == 15) return 3;
    option[3] = (uint8_t)((overflow + 1) << 4 | flag);
    return -1;
  }
  if (pointer - 1 + bytes > length) return 2;
  uint8_t *at = option + pointer - 1;
  if (flag == 3 && !addresses_have(&of->mine, get_ip4(at))) return -1;
  if (flag == 1) put_ip4(at, of->address);
  put32(at + bytes - 4, time_of_day());
  option[2] = (uint8_t)(pointer + bytes);
  return -1;
}

/* Where in the header a mistake lies, 0: nowhere. */
static uint32_t do_options(const struct gateway_options *of, uint8_t *header, uint32_t header_bytes) {
  for (uint32_t at = IP_BYTES; at < header_bytes && header[at] != OPTION_END;) {
    if (header[at] == OPTION_NOP) {
      at++;
      continue;
    }
    uint32_t length = at + 1 < header_bytes ? header[at + 1] : 0;
    if (length < 2 || at + length > header_bytes) return at + 1;
    bool route = header[at] == OPTION_RECORD_ROUTE, time = header[at] == OPTION_TIMESTAMP;
    if (route || time) {
      if (length < 3) return at + 1;
      int mistake = route ? record_route(of, header + at, length) : record_time(of, header + at, length);
      if (mistake >= 0) return at + (uint32_t)mistake;
    }
    at += length;
  }
  return 0;
}

static bool gateway_good(struct element *element, struct packet *packet) {
  struct ip4_view view;
  if (!ip4_view(packet, &view)) return false;
  if (view.header_bytes == IP_BYTES) return true;
  uint32_t mistake = do_options((struct gateway_options *)element, view.header, view.header_bytes);
  ip4_set_checksum(view.header);
  if (mistake != 0) packet->user[0] = (uint8_t)mistake; /* ICMPError reads it */
  return mistake == 0;
}

static void gateway_action(struct element *element, struct batch *batch) { keep_good(element, batch, gateway_good); }

const struct element_class class_ip_gw_options = {.name = "IPGWOptions", .size_bytes = sizeof(struct gateway_options), .ports = "1/1-2", .processing = "a/ah", .configure = gateway_configure, .action = gateway_action};

/* ---- IPFragmenter(MTU): what is longer goes on in pieces; out of output 1 when it must not be cut ---- */

struct fragmenter {
  struct element element;
  uint32_t mtu;
  bool honor_df;
  uint64_t fragments, drops;
};

static bool fragmenter_configure(struct element *element, struct arguments *arguments) {
  struct fragmenter *of = (struct fragmenter *)element;
  uint32_t ignored;
  bool verbose;
  of->honor_df = true;
  arguments_u32(arguments, "MTU", ARGUMENT_POSITION | ARGUMENT_REQUIRED, 68, 65535, &of->mtu);
  arguments_bool(arguments, "HONOR_DF", ARGUMENT_POSITION, &of->honor_df);
  arguments_bool(arguments, "VERBOSE", ARGUMENT_POSITION, &verbose);
  arguments_u32(arguments, "HEADROOM", 0, 0, PACKET_BYTES_MAX, &ignored);
  return arguments_end(arguments);
}

/* The header of all fragments but the first: only options that say so are copied. Returns its length. */
static uint32_t copy_header(uint8_t *to, const uint8_t *header, uint32_t header_bytes) {
  uint32_t length = IP_BYTES;
  memcpy(to, header, IP_BYTES);
  for (uint32_t at = IP_BYTES; at < header_bytes && header[at] != OPTION_END;) {
    uint32_t bytes = header[at] == OPTION_NOP ? 1 : at + 1 < header_bytes ? header[at + 1] : 0;
    if (bytes == 0 || at + bytes > header_bytes) break;
    if (header[at] & 0x80) {
      memcpy(to + length, header + at, bytes);
      length += bytes;
    }
    at += bytes;
  }
  while (length % 4 != 0) to[length++] = OPTION_END;
  to[0] = (uint8_t)(0x40 | length / 4);
  return length;
}

static struct packet *make_fragment(const struct packet *packet, const uint8_t *header, uint32_t header_bytes, const uint8_t *bytes, uint32_t length, uint16_t field) {
  uint32_t before = (uint32_t)(packet->network - packet->data);
  struct packet *made = packet_new(PACKET_HEADROOM, before + header_bytes + length);
  if (made == NULL) return NULL;
  uint8_t *data = made->data;
  uint32_t made_length = made->length;
  *made = *packet;
  made->next = NULL;
  made->data = data;
  made->length = made_length;
  memcpy(data, packet->data, before);
  memcpy(data + before, header, header_bytes);
  memcpy(data + before + header_bytes, bytes, length);
  ip4_mark(made, data + before);
  put16(made->network + 2, header_bytes + length);
  put16(made->network + 6, field);
  ip4_set_checksum(made->network);
  return made;
}

/* Adds the pieces; all or none. */
static bool fragment(struct fragmenter *of, struct packet *packet, const struct ip4_view *view, struct batch *to) {
  uint8_t rest_header[60];
  uint32_t rest_bytes = copy_header(rest_header, view->header, view->header_bytes), done = 0;
  struct batch pieces = BATCH_EMPTY;
  while (done < view->transport_bytes) {
    uint32_t header_bytes = done == 0 ? view->header_bytes : rest_bytes, left = view->transport_bytes - done;
    uint32_t room = (of->mtu - header_bytes) & ~7u, length = left <= of->mtu - header_bytes ? left : room;
    uint16_t offset = (uint16_t)((view->fragment & IP_OFFSET_MASK) + done / 8);
    uint16_t field = (uint16_t)((view->fragment & (0xffffu ^ IP_OFFSET_MASK)) | offset | (length < left ? IP_FLAG_MF : 0));
    struct packet *piece = offset > IP_OFFSET_MASK ? NULL : make_fragment(packet, done == 0 ? view->header : rest_header, header_bytes, view->transport + done, length, field);
    if (piece == NULL) {
      batch_free(&pieces);
      return false;
    }
    batch_add(&pieces, piece);
    done += length;
  }
  of->fragments += pieces.count;
  batch_join(to, &pieces);
  return true;
}

static void fragmenter_push(struct element *element, unsigned input, struct batch *batch) {
  struct fragmenter *of = (struct fragmenter *)element;
  struct batch kept = BATCH_EMPTY;
  (void)input;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    struct ip4_view view;
    uint32_t length = packet_bytes_from(packet, packet->network);
    if (length <= of->mtu) {
      batch_add(&kept, packet);
    } else if (ip4_view(packet, &view) && (!(view.fragment & IP_FLAG_DF) || !of->honor_df) && of->mtu >= view.header_bytes + 8) {
      if (!fragment(of, packet, &view, &kept)) of->drops++;
      packet_free(packet);
    } else {
      of->drops++;
      element_reject(element, packet);
    }
  }
  element_push(element, 0, &kept);
}

static void read_fragments(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct fragmenter *)element)->fragments); }
static void read_drops(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct fragmenter *)element)->drops); }

static const struct handler fragmenter_handlers[] = {{"fragments", read_fragments, NULL}, {"drops", read_drops, NULL}, {NULL, NULL, NULL}};
const struct element_class class_ip_fragmenter = {.name = "IPFragmenter", .size_bytes = sizeof(struct fragmenter), .ports = "1/1-2", .processing = "h/h", .configure = fragmenter_configure,
                                                  .push = fragmenter_push, .handlers = fragmenter_handlers};
