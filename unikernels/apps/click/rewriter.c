/*
 * IPRewriter, TCPRewriter, UDPRewriter, ICMPPingRewriter: translators of addresses and ports. A packet of a flow that is known is rewritten, whichever input it comes by; what
 * becomes of another one its input says. Fragments behind a first one follow it.
 */
#include "ip_elements.h"
#include "rewriter.h"

#define SECOND 1000000000ull
#define INPUTS_MAX 64u
#define FRAGMENTS 256u
#define FRAGMENT_NS (30 * SECOND)
#define EXPIRE_A_BATCH 32u
#define EXPIRE_A_TICK 8192u
#define TICK_NS SECOND
#define CAPACITY 8192u

/* flow.seen */
enum seen { SEEN_FORWARD = 1, SEEN_REPLY = 2, FIN_FORWARD = 4, FIN_REPLY = 8, SEEN_RST = 16 };

enum input_kind { INPUT_DROP, INPUT_PASS, INPUT_KEEP, INPUT_PATTERN, INPUT_MAPPER };
struct input_spec {
  enum input_kind kind;
  struct rewrite_pattern pattern; /* of keep and pass the outputs */
  struct slice name;              /* a mapper's, until it is looked up */
  struct element *mapper;
};

struct fragment {
  uint64_t until_ns;
  uint32_t source, destination, new_source, new_destination;
  uint16_t id, output;
  uint8_t protocol;
};

struct rewriter {
  struct element element;
  struct input_spec inputs[INPUTS_MAX];
  uint32_t input_count, capacity;
  bool tcp, udp, ping, annotate;
  uint64_t timeouts_ns[FLOW_KINDS], guarantee_ns;
  uint64_t failures, drops;
  struct flow_table table;
  struct fragment fragments[FRAGMENTS];
};

/* ---- arguments ---- */

static bool read_input(struct rewriter *rewriter, struct slice text, struct arguments *arguments) {
  struct input_spec *spec = &rewriter->inputs[rewriter->input_count++];
  struct slice whole = text, word;
  if (!parse_word(&text, &word)) return arguments_error(arguments, "what becomes of new flows is missing");
  if (slice_equal(word, SLICE("drop")) || slice_equal(word, SLICE("discard"))) {
    spec->kind = INPUT_DROP;
  } else if (slice_equal(word, SLICE("pass")) || slice_equal(word, SLICE("passthrough")) || slice_equal(word, SLICE("nochange"))) {
    spec->kind = INPUT_PASS;
    if (!rewrite_output_read(&text, &spec->pattern.forward_output, arguments)) return false;
  } else if (slice_equal(word, SLICE("keep"))) {
    spec->kind = INPUT_KEEP;
    if (!rewrite_output_read(&text, &spec->pattern.forward_output, arguments) || !rewrite_output_read(&text, &spec->pattern.reply_output, arguments)) return false;
  } else if (text.length == 0) {
    spec->kind = INPUT_MAPPER;
    spec->name = word;
  } else {
    spec->kind = INPUT_PATTERN;
    if (!slice_equal(word, SLICE("pattern"))) text = whole;
    if (!rewrite_pattern_read(&text, &spec->pattern, arguments)) return false;
  }
  return parse_word(&text, &word) ? arguments_error_at(arguments, word.at, "'%.*s' is too much", (int)(word.length < 40 ? word.length : 40), word.at) : true;
}

static bool configure(struct rewriter *rewriter, struct arguments *arguments) {
  static const char *const names[FLOW_KINDS] = {"TCP_TIMEOUT", "TCP_NODATA_TIMEOUT", "TCP_DONE_TIMEOUT", "UDP_TIMEOUT", "UDP_STREAMING_TIMEOUT", NULL};
  static const uint64_t seconds[FLOW_KINDS] = {86400, 300, 240, 300, 300, 300};
  struct slice text;
  bool streaming = false;
  rewriter->capacity = CAPACITY;
  rewriter->guarantee_ns = 5 * SECOND;
  rewriter->annotate = true;
  for (unsigned i = 0; i < FLOW_KINDS; i++) {
    rewriter->timeouts_ns[i] = seconds[i] * SECOND;
    if (names[i] != NULL && (i < FLOW_UDP ? rewriter->tcp : rewriter->udp) && arguments_ns(arguments, names[i], 0, &rewriter->timeouts_ns[i]) && i == FLOW_UDP_STREAM) streaming = true;
  }
  if (rewriter->ping || !(rewriter->tcp && rewriter->udp)) {
    uint64_t *only = &rewriter->timeouts_ns[rewriter->ping ? FLOW_PING : rewriter->tcp ? FLOW_TCP : FLOW_UDP];
    arguments_ns(arguments, "TIMEOUT", 0, only);
  }
  if (!streaming) rewriter->timeouts_ns[FLOW_UDP_STREAM] = rewriter->timeouts_ns[FLOW_UDP];
  arguments_ns(arguments, "GUARANTEE", 0, &rewriter->guarantee_ns);
  arguments_u32(arguments, "MAPPING_CAPACITY", 0, 1, FLOWS_MAX, &rewriter->capacity);
  arguments_u32(arguments, "CAPACITY", 0, 1, FLOWS_MAX, &rewriter->capacity);
  arguments_bool(arguments, "DST_ANNO", 0, &rewriter->annotate);
  for (unsigned i = 0; i < FLOW_KINDS; i++) {
    if (rewriter->timeouts_ns[i] == 0) rewriter->timeouts_ns[i] = 1;
  }
  if (arguments->element->input_count > INPUTS_MAX) return arguments_error(arguments, "more than %u inputs", INPUTS_MAX);
  while (rewriter->input_count < INPUTS_MAX && arguments_rest(arguments, &text)) read_input(rewriter, text, arguments);
  if (!arguments->failed && rewriter->input_count != arguments->element->input_count) {
    return arguments_error(arguments, "%u inputs are described, %u are connected", rewriter->input_count, arguments->element->input_count);
  }
  return arguments_end(arguments);
}

static bool ip_configure(struct element *element, struct arguments *arguments) {
  struct rewriter *rewriter = (struct rewriter *)element;
  rewriter->tcp = rewriter->udp = true;
  return configure(rewriter, arguments);
}
static bool tcp_configure(struct element *element, struct arguments *arguments) {
  ((struct rewriter *)element)->tcp = true;
  return configure((struct rewriter *)element, arguments);
}
static bool udp_configure(struct element *element, struct arguments *arguments) {
  ((struct rewriter *)element)->udp = true;
  return configure((struct rewriter *)element, arguments);
}
static bool ping_configure(struct element *element, struct arguments *arguments) {
  ((struct rewriter *)element)->ping = true;
  return configure((struct rewriter *)element, arguments);
}

static bool initialize(struct element *element, struct errors *errors) {
  struct rewriter *rewriter = (struct rewriter *)element;
  for (uint32_t i = 0; i < rewriter->input_count; i++) {
    struct input_spec *spec = &rewriter->inputs[i];
    if (spec->kind != INPUT_MAPPER) continue;
    spec->mapper = element_find(element, spec->name);
    if (spec->mapper == NULL || !is_mapper(spec->mapper)) return element_error(element, errors, "'%.*s' is no mapper", (int)(spec->name.length < 40 ? spec->name.length : 40), spec->name.at);
    if (mapper_output_most(spec->mapper) >= element->output_count) return element_error(element, errors, "%s has outputs that are not connected here", spec->mapper->name);
  }
  if (!flow_table_start(&rewriter->table, rewriter->capacity)) return element_error(element, errors, "no memory for %u flows", rewriter->capacity);
  memcpy(rewriter->table.timeouts_ns, rewriter->timeouts_ns, sizeof rewriter->timeouts_ns);
  rewriter->table.guarantee_ns = rewriter->guarantee_ns;
  return true;
}

/* Flows go on where the same is done to them. */
static void take_state(struct element *element, struct element *old) {
  struct rewriter *rewriter = (struct rewriter *)element, *before = (struct rewriter *)old;
  if (strcmp(element->config, old->config) != 0 || element->output_count != old->output_count) return;
  struct flow_table kept = rewriter->table;
  rewriter->table = before->table;
  before->table = kept;
  memcpy(rewriter->fragments, before->fragments, sizeof rewriter->fragments);
  rewriter->failures = before->failures;
  rewriter->drops = before->drops;
}

static void cleanup(struct element *element) { flow_table_end(&((struct rewriter *)element)->table); }
static void start(struct element *element) { element_timer_set(element, click_now_ns() + TICK_NS); }

static void timer(struct element *element) {
  flow_expire(&((struct rewriter *)element)->table, click_now_ns(), EXPIRE_A_TICK);
  element_timer_set(element, click_now_ns() + TICK_NS);
}

/* ---- packets ---- */

/* False: not one of ours, or not whole. */
static bool read_tuple(const struct rewriter *rewriter, const struct ip4_view *view, struct flow_tuple *tuple) {
  const uint8_t *transport = view->transport;
  uint16_t ports[2] = {0, 0};
  switch (view->protocol) {
    case PROTOCOL_TCP:
    case PROTOCOL_UDP:
      if (!(view->protocol == PROTOCOL_TCP ? rewriter->tcp : rewriter->udp) || view->transport_bytes < (view->protocol == PROTOCOL_TCP ? TCP_BYTES : UDP_BYTES)) return false;
      memcpy(ports, transport, 4);
      break;
    case PROTOCOL_ICMP:
      if (!rewriter->ping || view->transport_bytes < ICMP_BYTES || (transport[0] != ICMP_ECHO && transport[0] != ICMP_ECHO_REPLY)) return false;
      memcpy(&ports[transport[0] == ICMP_ECHO ? 0 : 1], transport + 4, 2);
      break;
    default: return false;
  }
  *tuple = (struct flow_tuple){ip4_source(view->header), ip4_destination(view->header), ports[0], ports[1]};
  return true;
}

/* What a checksum's sum changes by when the bytes become others (RFC 1624). */
static uint32_t difference(const void *was, const void *is, unsigned bytes) {
  const uint8_t *a = was, *b = is;
  uint32_t sum = 0;
  for (unsigned i = 0; i < bytes; i += 2) sum += (uint16_t)~get16(a + i) + (uint32_t)get16(b + i);
  return sum;
}

static void add_difference(uint8_t *field, uint32_t sum) { put16(field, checksum_end((uint16_t)~get16(field) + (sum & 0xffff) + (sum >> 16))); }

static void rewrite_addresses(const struct ip4_view *view, const uint32_t addresses[2]) {
  add_difference(view->header + 10, difference(view->header + 12, addresses, 8));
  memcpy(view->header + 12, addresses, 8);
}

static void rewrite(const struct ip4_view *view, const struct flow_tuple *to) {
  uint32_t addresses[2] = {to->source, to->destination};
  uint16_t ports[2] = {to->source_port, to->destination_port};
  uint8_t *transport = view->transport;
  uint32_t sum = difference(view->header + 12, addresses, 8);
  rewrite_addresses(view, addresses);
  if (view->protocol == PROTOCOL_ICMP) {
    uint16_t id = transport[0] == ICMP_ECHO ? ports[0] : ports[1];
    add_difference(transport + 2, difference(transport + 4, &id, 2));
    memcpy(transport + 4, &id, 2);
    return;
  }
  uint8_t *field = transport + (view->protocol == PROTOCOL_TCP ? 16 : 6);
  sum += difference(transport, ports, 4);
  memcpy(transport, ports, 4);
  if (view->protocol == PROTOCOL_UDP && get16(field) == 0) return;
  add_difference(field, sum);
  if (view->protocol == PROTOCOL_UDP && get16(field) == 0) put16(field, 0xffff);
}

/* After a packet of that direction. */
static enum flow_kind kind_after(struct flow *flow, const struct ip4_view *view, enum flow_direction direction) {
  bool is_reply = direction == FLOW_REPLY;
  if (view->protocol == PROTOCOL_ICMP) return FLOW_PING;
  if (view->protocol == PROTOCOL_UDP) {
    flow->seen |= is_reply ? SEEN_REPLY : SEEN_FORWARD;
    return (flow->seen & (SEEN_FORWARD | SEEN_REPLY)) == (SEEN_FORWARD | SEEN_REPLY) ? FLOW_UDP_STREAM : FLOW_UDP;
  }
  uint8_t flags = view->transport[13];
  /* The same ports again. */
  if (flow->kind == FLOW_TCP_DONE && (flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN) flow->seen = 0;
  flow->seen |= is_reply ? SEEN_REPLY : SEEN_FORWARD;
  if (flags & TCP_FIN) flow->seen |= is_reply ? FIN_REPLY : FIN_FORWARD;
  if (flags & TCP_RST) flow->seen |= SEEN_RST;
  if ((flow->seen & SEEN_RST) || (flow->seen & (FIN_FORWARD | FIN_REPLY)) == (FIN_FORWARD | FIN_REPLY)) return FLOW_TCP_DONE;
  return (flow->seen & (SEEN_FORWARD | SEEN_REPLY)) == (SEEN_FORWARD | SEEN_REPLY) ? FLOW_TCP : FLOW_TCP_NO_DATA;
}

/* The flow of a packet that none has yet; FLOW_NONE: there is to be none. */
static uint32_t make_flow(struct rewriter *rewriter, const struct input_spec *spec, const struct ip4_view *view, const struct flow_tuple *tuple, unsigned input, uint64_t now_ns) {
  static const struct rewrite_pattern keep;
  const struct rewrite_pattern *pattern = spec->kind == INPUT_KEEP ? &keep : spec->kind == INPUT_MAPPER ? mapper_choose(spec->mapper, tuple) : &spec->pattern;
  const struct rewrite_pattern *outputs = spec->kind == INPUT_MAPPER ? pattern : &spec->pattern;
  struct flow_tuple to;
  /* A reply to nothing begins no flow. */
  if (view->protocol == PROTOCOL_ICMP && view->transport[0] != ICMP_ECHO) return FLOW_NONE;
  if (!rewrite_pattern_apply(pattern, &rewriter->table, view->protocol, tuple, now_ns, &to)) {
    rewriter->failures++;
    return FLOW_NONE;
  }
  struct flow_tuple reply = flow_reverse(to);
  enum flow_kind kind = view->protocol == PROTOCOL_TCP ? FLOW_TCP_NO_DATA : view->protocol == PROTOCOL_UDP ? FLOW_UDP : FLOW_PING;
  uint32_t index = flow_add(&rewriter->table, view->protocol, tuple, &reply, kind, now_ns);
  if (index == FLOW_NONE) {
    rewriter->failures++;
    return FLOW_NONE;
  }
  struct flow *flow = flow_at(&rewriter->table, index);
  flow->outputs[FLOW_FORWARD] = outputs->forward_output;
  flow->outputs[FLOW_REPLY] = outputs->reply_output;
  flow->input = (uint8_t)input;
  return index;
}

/* ---- fragments: those behind the first have no ports, so they go by the first one's addresses and identification ---- */

static struct fragment *fragment_slot(struct rewriter *rewriter, const struct ip4_view *view) {
  uint32_t word = ip4_source(view->header) * 0x9e3779b1u ^ ip4_destination(view->header) * 0x85ebca6bu ^ get16(view->header + 4) * 0xc2b2ae35u ^ view->protocol;
  return &rewriter->fragments[(word ^ word >> 16) % FRAGMENTS];
}

static void fragment_keep(struct rewriter *rewriter, const struct ip4_view *view, const struct flow_tuple *to, uint16_t output, uint64_t now_ns) {
  *fragment_slot(rewriter, view) = (struct fragment){now_ns + FRAGMENT_NS, ip4_source(view->header), ip4_destination(view->header), to->source, to->destination, get16(view->header + 4), output, view->protocol};
}

static bool fragment_follow(struct rewriter *rewriter, const struct ip4_view *view, uint64_t now_ns, uint32_t *output) {
  const struct fragment *of = fragment_slot(rewriter, view);
  if (now_ns >= of->until_ns || of->source != ip4_source(view->header) || of->destination != ip4_destination(view->header) || of->id != get16(view->header + 4) || of->protocol != view->protocol) return false;
  uint32_t addresses[2] = {of->new_source, of->new_destination};
  rewrite_addresses(view, addresses);
  *output = of->output;
  return true;
}

/* Where the packet goes; false: nowhere. Not a part of push, whose stack stays while the next elements run. */
__attribute__((noinline)) static bool translate(struct rewriter *rewriter, unsigned input, struct packet *packet, uint64_t now_ns, uint32_t *output) {
  const struct input_spec *spec = &rewriter->inputs[input];
  struct ip4_view view;
  struct flow_tuple tuple;
  enum flow_direction direction = FLOW_FORWARD;
  bool whole = ip4_view(packet, &view);
  if (whole && !ip4_is_first(&view) && fragment_follow(rewriter, &view, now_ns, output)) {
    if (rewriter->annotate) packet->destination_ip = ip4_destination(view.header);
    return true;
  }
  bool ours = whole && ip4_is_first(&view) && read_tuple(rewriter, &view, &tuple);
  uint32_t index = ours ? flow_find(&rewriter->table, view.protocol, &tuple, now_ns, &direction) : FLOW_NONE;
  if (index == FLOW_NONE) {
    *output = spec->pattern.forward_output;
    if (spec->kind == INPUT_PASS) return true;
    if (!ours || spec->kind == INPUT_DROP) return false;
    index = make_flow(rewriter, spec, &view, &tuple, input, now_ns);
    if (index == FLOW_NONE) return false;
  }
  struct flow *flow = flow_at(&rewriter->table, index);
  struct flow_tuple to = flow_reverse(flow->tuples[!direction]);
  *output = flow->outputs[direction];
  if (ip4_is_fragment(&view)) fragment_keep(rewriter, &view, &to, (uint16_t)*output, now_ns);
  flow_use(&rewriter->table, index, kind_after(flow, &view, direction), now_ns);
  rewrite(&view, &to);
  if (rewriter->annotate) packet->destination_ip = to.destination;
  return true;
}

static void push(struct element *element, unsigned input, struct batch *batch) {
  struct rewriter *rewriter = (struct rewriter *)element;
  struct fanout fanout;
  uint64_t now_ns = click_now_ns();
  flow_expire(&rewriter->table, now_ns, EXPIRE_A_BATCH);
  fanout_begin(&fanout, element);
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    uint32_t output;
    if (translate(rewriter, input, packet, now_ns, &output)) {
      fanout_add(&fanout, output, packet);
    } else {
      rewriter->drops++;
      packet_free(packet);
    }
  }
  fanout_end(&fanout);
}

/* ---- handlers ---- */

static void write_number(struct output *out, uint64_t number) { output_print(out, "%llu", (unsigned long long)number); }
static void read_size(struct element *element, struct output *out) { write_number(out, ((struct rewriter *)element)->table.count); }
static void read_capacity(struct element *element, struct output *out) { write_number(out, ((struct rewriter *)element)->capacity); }
static void read_failures(struct element *element, struct output *out) { write_number(out, ((struct rewriter *)element)->failures); }
static void read_drops(struct element *element, struct output *out) { write_number(out, ((struct rewriter *)element)->drops); }
static void read_expired(struct element *element, struct output *out) { write_number(out, ((struct rewriter *)element)->table.expired); }
static void read_evicted(struct element *element, struct output *out) { write_number(out, ((struct rewriter *)element)->table.evicted); }

static void write_tuple(struct output *out, struct flow_tuple tuple) {
  output_print(out, "(");
  output_ip4(out, tuple.source);
  output_print(out, ", %u, ", __builtin_bswap16(tuple.source_port));
  output_ip4(out, tuple.destination);
  output_print(out, ", %u)", __builtin_bswap16(tuple.destination_port));
}

static void read_table(struct element *element, struct output *out) {
  static const char *const kinds[FLOW_KINDS] = {"tcp", "tcp no-data", "tcp done", "udp", "udp streaming", "icmp"};
  const struct flow_table *table = &((struct rewriter *)element)->table;
  for (unsigned kind = 0; kind < FLOW_KINDS; kind++) {
    for (uint32_t index = table->newest[kind]; index != FLOW_NONE && !out->full; index = flow_at(table, index)->older) {
      const struct flow *flow = flow_at(table, index);
      write_tuple(out, flow->tuples[FLOW_FORWARD]);
      output_print(out, " => ");
      write_tuple(out, flow_reverse(flow->tuples[FLOW_REPLY]));
      output_print(out, " [%u %u] %s\n", flow->outputs[0], flow->outputs[1], kinds[kind]);
    }
  }
}

static bool write_clear(struct element *element, struct slice value, struct output *why) {
  struct flow_table *table = &((struct rewriter *)element)->table;
  (void)value, (void)why;
  for (unsigned kind = 0; kind < FLOW_KINDS; kind++) {
    while (table->oldest[kind] != FLOW_NONE) flow_remove(table, table->oldest[kind]);
  }
  return true;
}

static const struct handler handlers[] = {{"size", read_size, NULL}, {"nmappings", read_size, NULL}, {"capacity", read_capacity, NULL}, {"mapping_failures", read_failures, NULL}, {"drops", read_drops, NULL},
                                          {"expired", read_expired, NULL}, {"evicted", read_evicted, NULL}, {"table", read_table, NULL}, {"clear", NULL, write_clear}, {NULL, NULL, NULL}};
#define REWRITER_CLASS(class_name, how) \
  {.name = class_name, .size_bytes = sizeof(struct rewriter), .ports = "1-/1-", .processing = "h/h", .configure = how, .initialize = initialize, .take_state = take_state, .start = start, \
   .cleanup = cleanup, .push = push, .timer = timer, .handlers = handlers}
const struct element_class class_ip_rewriter = REWRITER_CLASS("IPRewriter", ip_configure);
const struct element_class class_tcp_rewriter = REWRITER_CLASS("TCPRewriter", tcp_configure);
const struct element_class class_udp_rewriter = REWRITER_CLASS("UDPRewriter", udp_configure);
const struct element_class class_icmp_ping_rewriter = REWRITER_CLASS("ICMPPingRewriter", ping_configure);
