/* Patterns, headers, tables of routes and flows: a part of click_ip.c. */

static uint64_t dice_state = 88172645463325252ull;
static uint32_t dice(uint32_t sides) {
  dice_state ^= dice_state << 13;
  dice_state ^= dice_state >> 7;
  dice_state ^= dice_state << 17;
  return (uint32_t)(dice_state >> 20) % sides;
}

/* Which output a packet takes; -1: none. */
static int output_of(const char *configuration_of_filter, const struct made *made) {
  static char text[4096];
  snprintf(text, sizeof text, "FromDevice(eth0) -> MarkIPHeader(14) -> f :: %s; f [0] -> c0 :: Counter -> Discard; f [1] -> c1 :: Counter -> Discard; f [2] -> c2 :: Counter -> Discard", configuration_of_filter);
  takes(text);
  send_in(0, made);
  turns(4);
  if (strcmp(ask("c0.count"), "1") == 0) return 0;
  if (strcmp(ask("c1.count"), "1") == 0) return 1;
  return strcmp(ask("c2.count"), "1") == 0 ? 2 : -1;
}

static void test_patterns(void) {
  static const struct { const char *pattern; bool matches; } rows[] = {
      {"tcp", true}, {"udp", false}, {"not udp", true}, {"!tcp", false}, {"src host 10.0.0.1", true}, {"dst host 10.0.0.1", false}, {"host 10.0.0.1", true}, {"10.0.0.1", true},
      {"src and dst host 10.0.0.1", false}, {"src or dst host 10.0.0.1", true}, {"net 10.0.0.0/8", true}, {"src net 10.0.0.0 mask 255.255.0.0", true}, {"dst net 10.0.0.0/24", false},
      {"tcp dst port 80", true}, {"tcp port 80", true}, {"udp port 80", false}, {"dst port http", true}, {"src port 1000-1100", true}, {"src port 1025-1100", false}, {"dst port 443 or 80", true},
      {"src port > 1023", true}, {"src port >= 1025", false}, {"src port != 80", true}, {"dst tcp port 80", true}, {"tcp opt syn", true}, {"tcp opt syn and not opt ack", true}, {"tcp opt ack", false},
      {"ip ttl 64", true}, {"ip ttl < 64", false}, {"ip vers 4", true}, {"ip hl 5", true}, {"ip frag", false}, {"ip unfrag", true}, {"ip proto 6", true}, {"ip proto tcp", true}, {"proto 17", false},
      {"ip[9] == 6", true}, {"ip[0:1] & 0xf0 = 0x40", true}, {"transp[2:2] = 80", true}, {"tcp[13] & 2 != 0", true}, {"icmp type echo", false}, {"(udp or tcp) and (dst port 80 or dst port 81)", true},
      {"tcp && (src 10.0.0.2 || dst 10.0.1.2)", true}, {"all", true}, {"none", false}, {"-", true}, {"src host != 10.0.0.1", false}, {"tcp dst port 80 src port 1024", true}, {"ip tos 0", true}, {"ip dscp 1", false},
      {"tcp win 0", true}, {"src 10.0.0.0/24 or 10.0.9.0/24", true}, {"icmp type 0-255", false}, {"not (tcp or udp)", false}, {"ip id 0-65535", true}};
  struct made made = make(0, 6, "10.0.0.1", 1024, "10.0.1.2", 80, 10);
  char text[256];
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    snprintf(text, sizeof text, "IPFilter(1 %s, 2 all)", rows[i].pattern);
    int output = output_of(text, &made);
    if (output != (rows[i].matches ? 1 : 2)) fprintf(stderr, "%s: %d\n", rows[i].pattern, output);
    CHECK(output == (rows[i].matches ? 1 : 2));
  }
  CHECK(output_of("IPClassifier(udp, tcp, -)", &made) == 1);
  CHECK(output_of("IPFilter(deny tcp, allow all)", &made) == 1 && output_of("IPFilter(drop tcp, allow all)", &made) == -1 && output_of("IPFilter(allow udp)", &made) == -1);
  /* A later fragment has no ports: no test of them holds, nor its contrary range. */
  struct made later = made;
  store16(IP_OF(&later) + 6, 100);
  CHECK(output_of("IPFilter(1 port 0-65535, 2 all)", &later) == 2 && output_of("IPFilter(1 not dst port 80, 2 all)", &later) == 1 && output_of("IPFilter(1 dst port != 81, 2 all)", &later) == 2);
  CHECK(output_of("IPFilter(1 ip frag, 2 all)", &later) == 1);
  /* One that is cut off goes nowhere, or matches nothing. */
  for (uint32_t length = 15; length < 34; length++) {
    later.length = length;
    CHECK(output_of("IPFilter(1 tcp, 2 all)", &later) == -1);
  }
  refuses("Idle -> IPFilter(allow tcp prot 80) -> Discard", 28, "'prot'");
  refuses("Idle -> IPFilter(allow (tcp or)) -> Discard", 31, "a primitive");
  refuses("Idle -> IPFilter(permit tcp) -> Discard", 18, "allow, deny");
  refuses("Idle -> IPFilter(allow dst port 70000) -> Discard", 33, "'70000'");
  refuses("Idle -> IPFilter(allow src net 10.0.0.0/40) -> Discard", 32, "'10.0.0.0/40'");
  refuses("Idle -> IPFilter(allow icmp port 3) -> Discard", 24, "no ports");
  refuses("Idle -> IPFilter(2 tcp) -> Discard", 18, "number of an output");
  refuses("Idle -> c :: IPClassifier(tcp, udp) -> Discard", 9, "2 patterns");
  /* What patterns have in common is tested once: of a thousand rules for as many ports the protocol is. */
  static char many[65536];
  size_t at = (size_t)snprintf(many, sizeof many, "FromDevice(eth0) -> MarkIPHeader(14) -> f :: IPFilter(");
  for (unsigned i = 0; i < 500; i++) at += (size_t)snprintf(many + at, sizeof many - at, "allow tcp and dst port %u, ", 2 * i + 1);
  snprintf(many + at, sizeof many - at, "drop all) -> c :: Counter -> Discard");
  takes(many);
  static char program[131072];
  struct output out = {program, 0, sizeof program - 1, false};
  CHECK(handlers_read(router_running(), SLICE("f.program"), &out) && !out.full);
  unsigned lines = 0;
  for (size_t i = 0; i < out.length; i++) lines += program[i] == '\n';
  CHECK(lines == 501);
  struct made odd = make(0, 6, "10.0.0.1", 5, "10.0.1.2", 999, 0), even = make(0, 6, "10.0.0.1", 5, "10.0.1.2", 998, 0);
  send_in(0, &odd);
  send_in(0, &even);
  SAYS("c.count", "1");
}

/* A random pattern, written and evaluated side by side. */
struct subject {
  uint32_t source, destination; /* host's order */
  uint16_t source_port, destination_port;
  uint8_t protocol, ttl, flags;
  bool later;
};

static bool random_primitive(char *text, size_t room, const struct subject *of) {
  bool ports = (of->protocol == 6 || of->protocol == 17) && !of->later;
  unsigned a = dice(4), b = a + dice(3), mask = dice(4) * 8;
  uint32_t address = 0x0a000000u | dice(2) << 16 | dice(2) << 8 | dice(3), bits = mask == 0 ? 0 : UINT32_MAX << (32 - mask);
  bool is_source = dice(2);
  switch (dice(9)) {
    case 0: snprintf(text, room, "%s", a < 2 ? "tcp" : "udp"); return of->protocol == (a < 2 ? 6 : 17);
    case 1: snprintf(text, room, "%s host 10.%u.%u.%u", is_source ? "src" : "dst", address >> 16 & 255, address >> 8 & 255, address & 255); return (is_source ? of->source : of->destination) == address;
    case 2: snprintf(text, room, "%s net 10.%u.%u.%u/%u", is_source ? "src" : "dst", address >> 16 & 255, address >> 8 & 255, address & 255, mask); return (((is_source ? of->source : of->destination) ^ address) & bits) == 0;
    case 3: snprintf(text, room, "%s port %u-%u", is_source ? "src" : "dst", a, b); return ports && (is_source ? of->source_port : of->destination_port) >= a && (is_source ? of->source_port : of->destination_port) <= b;
    case 4: snprintf(text, room, "tcp port %u", a); return ports && of->protocol == 6 && (of->source_port == a || of->destination_port == a);
    case 5: snprintf(text, room, "dst port > %u", a); return ports && of->destination_port > a;
    case 6: snprintf(text, room, "ip ttl <= %u", a); return of->ttl <= a;
    case 7: snprintf(text, room, "tcp opt %s", is_source ? "syn" : "ack"); return ports && of->protocol == 6 && (of->flags & (is_source ? 2 : 16)) != 0;
    default: snprintf(text, room, "ip[8:1] & %u == %u", a | 1, b & (a | 1)); return (of->ttl & (a | 1)) == (b & (a | 1));
  }
}

static bool random_pattern(char *text, size_t room, const struct subject *of, unsigned depth) {
  char left[512], right[512];
  if (depth == 0 || dice(4) == 0) {
    bool negated = dice(3) == 0, value = random_primitive(left, sizeof left, of);
    snprintf(text, room, "%s%s", negated ? "not " : "", left);
    return value != negated;
  }
  bool a = random_pattern(left, sizeof left, of, depth - 1), b = random_pattern(right, sizeof right, of, depth - 1), both = dice(2), negated = dice(4) == 0;
  snprintf(text, room, "%s(%s %s %s)", negated ? "! " : "", left, both ? "and" : "or", right);
  return (both ? a && b : a || b) != negated;
}

static void test_random_patterns(void) {
  struct element element = {.name = "t", .config = ""};
  for (unsigned i = 0; i < 20000; i++) {
    struct subject of = {0x0a000000u | dice(2) << 16 | dice(2) << 8 | dice(3), 0x0a000000u | dice(2) << 16 | dice(2) << 8 | dice(3), (uint16_t)dice(6), (uint16_t)dice(6),
                         (uint8_t)(dice(3) == 0 ? 17 : dice(4) == 0 ? 1 : 6), (uint8_t)dice(6), (uint8_t)(dice(2) * 2 + dice(2) * 16), dice(6) == 0};
    struct made made = make(0, of.protocol, "10.0.0.1", of.source_port, "10.0.0.1", of.destination_port, 12);
    uint8_t *ip = IP_OF(&made);
    for (unsigned j = 0; j < 4; j++) ip[12 + j] = (uint8_t)(of.source >> (24 - 8 * j)), ip[16 + j] = (uint8_t)(of.destination >> (24 - 8 * j));
    ip[8] = of.ttl;
    if (of.protocol == 6) ip[33] = of.flags;
    if (of.later) store16(ip + 6, 77);
    struct packet *packet = packet_new(32, made.length);
    memcpy(packet->data, made.frame, made.length);
    packet->network = packet->data + 14;
    /* Three patterns, then the rest. */
    struct filter filter;
    char text[3][2048];
    uint32_t expected = 3;
    struct arguments arguments = {.element = &element, .errors = &errors};
    filter_begin(&filter, 4);
    for (uint32_t j = 0; j < 3; j++) {
      bool value = random_pattern(text[j], sizeof text[j], &of, 3);
      if (value && expected == 3) expected = j;
      CHECK(filter_add(&filter, (struct slice){text[j], strlen(text[j])}, FILTER_OUTPUT | j, &arguments));
    }
    CHECK(filter_add(&filter, SLICE("-"), FILTER_OUTPUT | 3, &arguments) && filter_finish(&filter));
    uint32_t output = filter_run(&filter, packet);
    if (output != expected) fprintf(stderr, "0 %s\n1 %s\n2 %s\ngave %u, not %u\n", text[0], text[1], text[2], output, expected);
    CHECK(output == expected);
    filter_end(&filter);
    packet_free(packet);
    if (check_failures > 3) return;
  }
}

/* The tree against a search of all. */
static void test_routes(void) {
  struct routes routes = {0};
  struct { uint32_t prefix; unsigned length; bool there; } all[300];
  for (unsigned i = 0; i < 300; i++) {
    all[i].length = dice(33);
    all[i].prefix = (0x0a000000u ^ dice(64) << dice(26)) & (all[i].length == 0 ? 0 : UINT32_MAX << (32 - all[i].length));
    struct route route = {.key = {{all[i].prefix}}, .length = (uint8_t)all[i].length, .output = (uint16_t)i};
    all[i].there = routes_add(&routes, &route, false) == ROUTES_OK;
    if (i % 5 == 4) {
      unsigned gone = dice(i);
      struct route_key key = {{all[gone].prefix}};
      CHECK((routes_remove(&routes, &key, (uint8_t)all[gone].length) == ROUTES_OK) || !all[gone].there);
      for (unsigned j = 0; j <= i; j++) {
        if (all[j].prefix == all[gone].prefix && all[j].length == all[gone].length) all[j].there = false;
      }
    }
    for (unsigned tries = 0; tries < 20; tries++) {
      uint32_t address = 0x0a000000u ^ dice(64) << dice(26);
      int best = -1;
      for (unsigned j = 0; j <= i; j++) {
        bool matches = all[j].there && (all[j].length == 0 || (address ^ all[j].prefix) >> (32 - all[j].length) == 0);
        if (matches && (best < 0 || all[j].length > all[best].length)) best = (int)j;
      }
      struct route_key key = {{address}};
      const struct route *found = routes_find(&routes, &key);
      CHECK(found == NULL ? best < 0 : best >= 0 && found->output == best);
    }
  }
  routes_end(&routes);
  takes("FromDevice(eth0) -> Strip(14) -> CheckIPHeader -> r :: StaticIPLookup(10.0.1.0/24 10.0.0.9 1, 10.0.0.0/8 0, 10.0.1.128/25 0); r -> a :: Counter -> Discard; r [1] -> b :: Counter -> Discard");
  SAYS("r.table", "10.0.1.0/24 10.0.0.9 1\n10.0.0.0/8 - 0\n10.0.1.128/25 - 0\n");
  struct made made = make(0, 17, "10.0.0.1", 1, "10.0.1.2", 2, 0);
  send_in(0, &made);
  SAYS("b.count", "1");
  CHECK(tell("r.remove", "10.0.1.0/24") && !tell("r.remove", "10.0.1.0/24") && tell("r.add", "10.0.1.2/32 0") && !tell("r.add", "10.0.1.2/32 1") && tell("r.set", "10.0.1.2/32 1") && !tell("r.add", "10.0.1.2/32 2"));
  send_in(0, &made);
  SAYS("b.count", "2");
  refuses("Idle -> StaticIPLookup(10.0.0.0/8 1) -> Discard", 35, "output");
}

static void test_headers(void) {
  /* Every length of every kind, sound and with each bit of the header turned. */
  takes("FromDevice(eth0) -> Strip(14) -> ip :: CheckIPHeader -> k :: IPClassifier(tcp, udp, icmp); k -> CheckTCPHeader -> good :: Counter -> Discard; k [1] -> CheckUDPHeader -> good; k [2] -> CheckICMPHeader -> good;"
        "ip [1] -> bad :: Counter -> Discard");
  unsigned good = 0;
  for (unsigned kind = 0; kind < 3; kind++) {
    struct made made = make(0, kind == 0 ? 6 : kind == 1 ? 17 : 1, "10.0.0.1", 7, "10.0.0.2", 9, 5);
    for (uint32_t length = 15; length <= made.length; length++) deliver(0, made.frame, length);
    good++;
    for (uint32_t bit = 8 * 14; bit < 8 * made.length; bit++) {
      made.frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
      send_in(0, &made);
      made.frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    /* Padding of the link is cut off. */
    made.length += 9;
    send_in(0, &made);
    good++;
  }
  char text[16];
  snprintf(text, sizeof text, "%u", good);
  SAYS("good.count", text);
  takes("FromDevice(eth0) -> Strip(14) -> c :: CheckIPHeader(10.0.0.255 10.0.0.3, GOODDST 10.0.0.7) -> ok :: Counter -> Discard; c [1] -> no :: Counter -> Discard");
  struct made from3 = make(0, 17, "10.0.0.3", 1, "10.0.0.2", 1, 0), to7 = make(0, 17, "10.0.0.3", 1, "10.0.0.7", 1, 0), other = make(0, 17, "0.0.0.0", 1, "10.0.0.2", 1, 0);
  send_in(0, &from3), send_in(0, &to7), send_in(0, &other);
  SAYS("ok.count", "2");
  SAYS("no.count", "1");
  /* Fields, with their checksums. */
  takes("FromDevice(eth0) -> Strip(14) -> CheckIPHeader -> SetIPDSCP(46) -> SetIPECN(ce) -> StoreIPAddress(10.9.9.9, src) -> GetIPAddress(IP src) -> StoreIPAddress(dst) -> Unstrip(14) -> Queue -> ToDevice(eth1)");
  for (unsigned kind = 0; kind < 3; kind++) {
    struct made made = make(0, kind == 0 ? 6 : kind == 1 ? 17 : 1, "10.0.0.1", 7, "10.0.0.2", 9, kind * 5);
    const uint8_t *ip = through(0, 1, &made, NULL);
    /* What the link padded does not go on. */
    size_t length = 0;
    made.length += 9;
    CHECK(through(0, 1, &made, &length) != NULL && length == made.length - 14 - 9);
    CHECK(ip != NULL && ip[1] == (46 << 2 | 3) && is_address(ip + 12, "10.9.9.9") && is_address(ip + 16, "10.9.9.9"));
  }
  takes("FromDevice(eth0) -> Strip(14) -> CheckIPHeader(CHECKSUM false) -> SetIPChecksum -> k :: IPClassifier(tcp, udp); k -> SetTCPChecksum -> u :: Unstrip(14) -> Queue -> ToDevice(eth1); k [1] -> SetUDPChecksum -> u");
  for (unsigned payload = 0; payload < 40; payload++) {
    struct made made = make(0, payload & 1 ? 6 : 17, "10.0.0.1", 7, "10.0.0.2", 9, payload);
    memset(IP_OF(&made) + 10, 0x5a, 2);
    memset(IP_OF(&made) + (payload & 1 ? 36 : 26), 0xa5, 2);
    CHECK(through(0, 1, &made, NULL) != NULL);
  }
}

static void test_flows(void) {
  struct flow_table table;
  enum flow_direction direction;
  CHECK(flow_table_start(&table, 100));
  for (unsigned i = 0; i < FLOW_KINDS; i++) table.timeouts_ns[i] = (i + 1) * 1000;
  table.guarantee_ns = 50;
  struct flow_tuple tuple = {1, 2, 0, 4}, reply = {2, 9, 4, 0};
  for (uint16_t i = 0; i < 100; i++) {
    tuple.source_port = reply.destination_port = i;
    CHECK(flow_add(&table, 6, &tuple, &reply, i < 50 ? FLOW_TCP : FLOW_UDP, 10) != FLOW_NONE);
  }
  /* Full, and all of them younger than the guarantee. */
  tuple.source_port = reply.destination_port = 100;
  CHECK(flow_add(&table, 6, &tuple, &reply, FLOW_TCP, 20) == FLOW_NONE && table.refused == 1);
  uint32_t index = (tuple.source_port = 0, flow_find(&table, 6, &tuple, 30, &direction));
  CHECK(index != FLOW_NONE && direction == FLOW_FORWARD && flow_find(&table, 17, &tuple, 30, &direction) == FLOW_NONE);
  flow_use(&table, index, FLOW_TCP, 30);
  /* Older: the one with least time left goes, which is the oldest but the one just used. */
  tuple.source_port = reply.destination_port = 100;
  CHECK(flow_add(&table, 6, &tuple, &reply, FLOW_TCP, 65) != FLOW_NONE && table.evicted == 1);
  reply.destination_port = 1;
  CHECK(flow_find(&table, 6, &reply, 70, &direction) == FLOW_NONE);
  reply.destination_port = 0;
  CHECK(flow_find(&table, 6, &reply, 70, &direction) != FLOW_NONE && direction == FLOW_REPLY);
  /* At its time it is gone, not before. */
  CHECK(flow_find(&table, 6, &reply, 1029, &direction) != FLOW_NONE && flow_find(&table, 6, &reply, 1030, &direction) == FLOW_NONE);
  flow_expire(&table, 1030, 10);
  CHECK(table.count == 89);
  flow_expire(&table, 1030, 1000);
  CHECK(table.count == 51);
  flow_expire(&table, 100000, 1000);
  CHECK(table.count == 0 && table.expired == 100);
  flow_table_end(&table);
}
