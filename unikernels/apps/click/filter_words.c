/* Names in patterns. */
#include "filter_words.h"
#include "ip.h"

struct named {
  const char *name;
  uint32_t value;
};

static bool find(const struct named *table, struct slice word, uint32_t *value) {
  for (; table->name != NULL; table++) {
    if (!slice_equal(word, (struct slice){table->name, strlen(table->name)})) continue;
    *value = table->value;
    return true;
  }
  return false;
}

static bool named_or_number(const struct named *table, struct slice word, uint32_t most, uint32_t *value) {
  uint64_t number;
  if (find(table, word, value)) return true;
  if (!parse_u64(word, most, &number)) return false;
  *value = (uint32_t)number;
  return true;
}

static const struct named protocols[] = {{"icmp", PROTOCOL_ICMP}, {"icmp6", PROTOCOL_ICMP6}, {"igmp", PROTOCOL_IGMP}, {"ipip", 4}, {"tcp", PROTOCOL_TCP}, {"udp", PROTOCOL_UDP}, {"dccp", 33}, {"gre", 47},
                                         {"esp", 50}, {"ah", 51}, {"ospf", 89}, {"pim", 103}, {"sctp", 132}, {"udplite", 136}, {NULL, 0}};
static const struct named ports[] = {{"ftp-data", 20}, {"ftp", 21}, {"ssh", 22}, {"telnet", 23}, {"smtp", 25}, {"dns", 53}, {"domain", 53}, {"bootps", 67}, {"bootpc", 68}, {"tftp", 69},
                                     {"finger", 79}, {"www", 80}, {"http", 80}, {"pop3", 110}, {"auth", 113}, {"ntp", 123}, {"imap", 143}, {"snmp", 161}, {"bgp", 179}, {"https", 443},
                                     {"syslog", 514}, {"rip", 520}, {"imaps", 993}, {NULL, 0}};
static const struct named options[] = {{"fin", TCP_FIN}, {"syn", TCP_SYN}, {"rst", TCP_RST}, {"psh", TCP_PSH}, {"ack", TCP_ACK}, {"urg", TCP_URG}, {NULL, 0}};
static const struct named icmp_types[] = {{"echo-reply", ICMP_ECHO_REPLY}, {"unreachable", ICMP_UNREACHABLE}, {"sourcequench", ICMP_SOURCE_QUENCH}, {"redirect", ICMP_REDIRECT}, {"echo", ICMP_ECHO},
                                          {"routeradvert", 9}, {"routersolicit", 10}, {"timeexceeded", ICMP_TIME_EXCEEDED}, {"parameterproblem", ICMP_PARAMETER}, {"timestamp", 13},
                                          {"timestamp-reply", 14}, {"inforeq", 15}, {"inforeq-reply", 16}, {"maskreq", 17}, {"maskreq-reply", 18}, {NULL, 0}};
static const struct named icmp6_types[] = {{"unreachable", 1}, {"toobig", 2}, {"timeexceeded", 3}, {"parameterproblem", 4}, {"echo", 128}, {"echo-reply", 129}, {"routersolicit", 133},
                                           {"routeradvert", 134}, {"neighborsolicit", 135}, {"neighboradvert", 136}, {"redirect", 137}, {NULL, 0}};

bool filter_name_protocol(struct slice word, unsigned family, uint8_t *protocol) {
  uint32_t value;
  if (!find(protocols, word, &value)) return false;
  /* "icmp" is that of the family. */
  *protocol = (uint8_t)(family == 6 && value == PROTOCOL_ICMP ? PROTOCOL_ICMP6 : value);
  return true;
}

bool filter_word_protocol(struct slice word, unsigned family, uint8_t *protocol) {
  uint64_t number;
  if (filter_name_protocol(word, family, protocol)) return true;
  if (!parse_u64(word, 255, &number)) return false;
  *protocol = (uint8_t)number;
  return true;
}

bool filter_word_port(struct slice word, uint32_t *port) { return named_or_number(ports, word, 65535, port); }
bool filter_word_option(struct slice word, uint32_t *flag) { return find(options, word, flag); }
bool filter_word_icmp(struct slice word, unsigned family, uint32_t *type) { return named_or_number(family == 6 ? icmp6_types : icmp_types, word, 255, type); }

struct typed {
  const char *name;
  unsigned families; /* 4, 6, or 10 for both */
  enum filter_type type;
  struct filter_field field;
};

#define BOTH 10u
static const struct typed types[] = {
    {"host", BOTH, TYPE_HOST, {0}},
    {"net", BOTH, TYPE_NET, {0}},
    {"port", BOTH, TYPE_PORT, {0}},
    {"proto", BOTH, TYPE_PROTO, {0}},
    {"opt", BOTH, TYPE_OPTION, {0}},
    {"frag", 4, TYPE_FRAGMENT, {0}},
    {"unfrag", 4, TYPE_UNFRAGMENTED, {0}},
    {"ect", 4, TYPE_ECT, {0}},
    {"ce", 4, TYPE_CE, {0}},
    {"vers", BOTH, TYPE_FIELD, {FILTER_IP, 1, 4, 0, 0xf0, 0}},
    {"hl", 4, TYPE_FIELD, {FILTER_IP, 1, 0, 0, 0x0f, 0}},
    {"tos", 4, TYPE_FIELD, {FILTER_IP, 1, 0, 1, 0xff, 0}},
    {"dscp", 4, TYPE_FIELD, {FILTER_IP, 1, 2, 1, 0xfc, 0}},
    {"len", 4, TYPE_FIELD, {FILTER_IP, 2, 0, 2, 0xffff, 0}},
    {"id", 4, TYPE_FIELD, {FILTER_IP, 2, 0, 4, 0xffff, 0}},
    {"ttl", 4, TYPE_FIELD, {FILTER_IP, 1, 0, 8, 0xff, 0}},
    {"tos", 6, TYPE_FIELD, {FILTER_IP, 2, 4, 0, 0x0ff0, 0}},
    {"dscp", 6, TYPE_FIELD, {FILTER_IP, 2, 6, 0, 0x0fc0, 0}},
    {"len", 6, TYPE_FIELD, {FILTER_IP, 2, 0, 4, 0xffff, 0}},
    {"hlim", 6, TYPE_FIELD, {FILTER_IP, 1, 0, 7, 0xff, 0}},
    {"ttl", 6, TYPE_FIELD, {FILTER_IP, 1, 0, 7, 0xff, 0}},
    {"type", 4, TYPE_FIELD, {FILTER_TRANSPORT, 1, 0, 0, 0xff, PROTOCOL_ICMP}},
    {"code", 4, TYPE_FIELD, {FILTER_TRANSPORT, 1, 0, 1, 0xff, PROTOCOL_ICMP}},
    {"type", 6, TYPE_FIELD, {FILTER_TRANSPORT, 1, 0, 0, 0xff, PROTOCOL_ICMP6}},
    {"code", 6, TYPE_FIELD, {FILTER_TRANSPORT, 1, 0, 1, 0xff, PROTOCOL_ICMP6}},
    {"win", BOTH, TYPE_FIELD, {FILTER_TRANSPORT, 2, 0, 14, 0xffff, PROTOCOL_TCP}},
};

bool filter_word_type(struct slice word, unsigned family, enum filter_type *type, struct filter_field *field) {
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    const struct typed *typed = &types[i];
    if ((typed->families != family && typed->families != BOTH) || !slice_equal(word, (struct slice){typed->name, strlen(typed->name)})) continue;
    *type = typed->type;
    *field = typed->field;
    return true;
  }
  return false;
}
