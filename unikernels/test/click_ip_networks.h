/* The ready-made configurations, as the networks on both sides see them: a part of click_ip.c. */

static void pass(unsigned ms) {
  for (unsigned i = 0; i < ms; i += 100) {
    world_now_ns += 100 * MS;
    turns(3);
  }
}

/* As a guest takes a text that names its own addresses: its devices are up by then. */
static bool takes_own(const char *line) {
  config_init(line, strlen(line) + 1);
  for (unsigned i = 0; i < 2; i++) {
    struct device *device = device_open(i);
    uint8_t mac[6] = {2, 0, 0, 0, 0, (uint8_t)(i + 1)};
    nets[i].events->up(device, mac);
  }
  return requests_install((struct slice){configuration_waypoint, strlen(configuration_waypoint)}, &errors);
}

/* A guest under its words takes clients; as a copy under others, it is right at once, and deaf to what came for the original. */
static void test_waypoint(void) {
  static const char here[] = "name=a ip=10.0.0.254/24 gw=10.0.0.1 ip1=10.0.1.254/24 gw1=10.0.1.1", there[] = "name=a ip=10.0.0.253/24 gw=10.0.0.1 ip1=10.0.1.253/24 gw1=10.0.1.1";
  CHECK(takes_own(here));
  struct made to_here = make(0, 6, "10.0.0.1", 7, "10.0.0.254", 9, 20), to_there = make(0, 6, "10.0.0.1", 7, "10.0.0.253", 9, 20);
  const uint8_t *ip = through(0, 1, &to_here, NULL);
  CHECK(ip != NULL && is_address(ip + 12, "10.0.1.254") && is_address(ip + 16, "10.0.0.254"));
  uint16_t port = (uint16_t)load16(ip + 20);
  struct made answer_here = make(1, 6, "10.0.0.254", 9, "10.0.1.254", port, 20);
  ip = through(1, 0, &answer_here, NULL);
  CHECK(ip != NULL && is_address(ip + 12, "10.0.0.254") && is_address(ip + 16, "10.0.0.1") && load16(ip + 22) == 7);
  CHECK(through(0, 1, &to_there, NULL) == NULL);
  CHECK(takes_own(there));
  CHECK(through(0, 1, &to_here, NULL) == NULL && through(1, 0, &answer_here, NULL) == NULL);
  ip = through(0, 1, &to_there, NULL);
  CHECK(ip != NULL && is_address(ip + 12, "10.0.1.253"));
  CHECK(!takes_own("")); /* without words its names mean nothing */
}

static void test_router(void) {
  size_t length;
  takes(configuration_router);
  for (unsigned kind = 0; kind < 3; kind++) {
    for (unsigned payload = 0; payload < 1400; payload += 97) {
      struct made made = make(0, kind == 0 ? 6 : kind == 1 ? 17 : 1, "10.0.0.1", 7, "10.0.1.2", 9, payload);
      const uint8_t *ip = through(0, 1, &made, &length);
      CHECK(ip != NULL && ip[8] == 63 && memcmp(ip + 12, IP_OF(&made) + 12, made.length - 14 - 12) == 0);
    }
  }
  /* Elsewhere: by the gateway. To itself: an answer. */
  struct made far = make(0, 17, "10.0.0.1", 7, "192.0.2.1", 9, 1), self = make(0, 1, "10.0.0.1", 7, "10.0.1.254", 0, 40);
  CHECK(through(0, 1, &far, NULL) != NULL);
  const uint8_t *ip = through(0, 0, &self, NULL);
  CHECK(ip != NULL && ip[20] == 0 && is_address(ip + 12, "10.0.1.254") && is_address(ip + 16, "10.0.0.1") && memcmp(ip + 24, IP_OF(&self) + 24, 44) == 0);
  /* Its time is over: the sender is told, and never of an error. */
  struct made dying = make(0, 17, "10.0.0.1", 7, "10.0.1.2", 9, 600);
  dying.frame[22] = 1;
  store16(dying.frame + 24, 0);
  store16(dying.frame + 24, ~words(dying.frame + 14, 20, 0));
  ip = through(0, 0, &dying, &length);
  CHECK(ip != NULL && ip[9] == 1 && ip[20] == 11 && ip[21] == 0 && is_address(ip + 12, "10.0.1.254") == false && is_address(ip + 16, "10.0.0.1") && length == 576 && memcmp(ip + 28, IP_OF(&dying), 548) == 0);
  dying.frame[23] = 1;
  dying.frame[34] = 3;
  store16(dying.frame + 24, 0);
  store16(dying.frame + 24, ~words(dying.frame + 14, 20, 0));
  CHECK(through(0, 0, &dying, NULL) == NULL);
  /* Longer than the next link takes. */
  takes("FromDevice(eth0) -> Strip(14) -> CheckIPHeader -> f :: IPFragmenter(600) -> Unstrip(14) -> Queue -> ToDevice(eth1); f [1] -> ICMPError(10.0.0.254, unreachable, needfrag, PMTU 600) -> EtherEncap(0x0800, 2:0:0:0:0:1, 2:0:0:0:0:9) -> Queue -> ToDevice(eth0)");
  struct made long_one = make(0, 17, "10.0.0.1", 7, "10.0.1.2", 9, 1400);
  unsigned before = nets[1].count, covered = 0;
  send_in(0, &long_one);
  static uint8_t whole[1600];
  for (unsigned i = before; i < nets[1].count; i++) {
    const uint8_t *piece = nets[1].sent[i % SENT] + 14;
    uint32_t field = load16(piece + 6), bytes = load16(piece + 2) - 20, at = (field & 0x1fff) * 8;
    CHECK(words(piece, 20, 0) == 0xffff && bytes + 20 <= 600 && ((field & 0x2000) != 0) == (at + bytes < 1408) && load16(piece + 4) == load16(IP_OF(&long_one) + 4));
    memcpy(whole + at, piece + 20, bytes);
    covered += bytes;
  }
  CHECK(covered == 1408 && memcmp(whole, IP_OF(&long_one) + 20, 1408) == 0);
  IP_OF(&long_one)[6] = 0x40;
  store16(IP_OF(&long_one) + 10, 0);
  store16(IP_OF(&long_one) + 10, ~words(IP_OF(&long_one), 20, 0));
  ip = through(0, 0, &long_one, NULL);
  CHECK(ip != NULL && ip[20] == 3 && ip[21] == 4 && load16(ip + 26) == 600);
  /* Record route, as far as there is room; one that points outside is told of. */
  takes("FromDevice(eth0) -> Strip(14) -> CheckIPHeader -> g :: IPGWOptions(10.0.0.254) -> EtherEncap(0x0800, 2:0:0:0:0:1, 2:0:0:0:0:9) -> Queue -> ToDevice(eth1);"
        "g [1] -> ICMPError(10.0.0.254, parameterproblem) -> EtherEncap(0x0800, 2:0:0:0:0:1, 2:0:0:0:0:9) -> Queue -> ToDevice(eth0)");
  static const struct { uint8_t option[8]; uint8_t after[8]; int mistake; } rows[] = {{{7, 7, 4, 0, 0, 0, 0, 0}, {7, 7, 8, 10, 0, 0, 254, 0}, 0},
                                                                              {{7, 7, 8, 1, 2, 3, 4, 0}, {7, 7, 8, 1, 2, 3, 4, 0}, 0},
                                                                              {{7, 7, 3, 0, 0, 0, 0, 0}, {0}, 22},
                                                                              {{7, 9, 4, 0, 0, 0, 0, 0}, {0}, 21},
                                                                              {{7, 7, 5, 0, 0, 0, 0, 0}, {0}, 22},
                                                                              {{7, 0, 4, 0, 0, 0, 0, 0}, {0}, 21},
                                                                              {{1, 1, 1, 68, 0, 0, 0, 0}, {0}, 24}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct made made = make(0, 17, "10.0.0.1", 7, "10.0.1.2", 9, 20);
    uint8_t *at = IP_OF(&made);
    memmove(at + 28, at + 20, 28);
    memcpy(at + 20, rows[i].option, 8);
    at[0] = 0x47;
    store16(at + 2, 56);
    store16(at + 10, 0);
    store16(at + 10, ~words(at, 28, 0));
    made.length += 8;
    ip = through(0, rows[i].mistake ? 0 : 1, &made, NULL);
    CHECK(ip != NULL && (rows[i].mistake ? ip[20] == 12 && ip[24] == rows[i].mistake : memcmp(ip + 20, rows[i].after, 8) == 0));
  }
}

static void test_firewall(void) {
  takes(configuration_firewall);
  for (unsigned kind = 0; kind < 2; kind++) {
    uint8_t protocol = kind ? 17 : 6;
    struct made out = make(0, protocol, "10.0.0.1", 4000, "10.0.1.2", 80, 5), back = make(1, protocol, "10.0.1.2", 80, "10.0.0.1", 4000, 5), other = make(1, protocol, "10.0.1.2", 81, "10.0.0.1", 4000, 5);
    CHECK(through(1, 0, &back, NULL) == NULL); /* nobody asked */
    CHECK(through(0, 1, &out, NULL) != NULL);
    const uint8_t *ip = through(1, 0, &back, NULL);
    CHECK(ip != NULL && memcmp(ip + 12, IP_OF(&back) + 12, 20) == 0);
    CHECK(through(1, 0, &other, NULL) == NULL);
    pass(185000);
    CHECK((through(1, 0, &back, NULL) == NULL) == (protocol == 17)); /* of UDP forgotten, of TCP not */
  }
  struct made ping = make(0, 1, "10.0.0.1", 9, "10.0.1.2", 0, 30), answer_to = make(1, 1, "10.0.1.2", 9, "10.0.0.1", 0, 30), begin = make(1, 1, "10.0.1.2", 10, "10.0.0.1", 0, 30);
  IP_OF(&answer_to)[20] = 0;
  store16(IP_OF(&answer_to) + 22, 0);
  store16(IP_OF(&answer_to) + 22, ~words(IP_OF(&answer_to) + 20, 38, 0));
  CHECK(through(1, 0, &answer_to, NULL) == NULL && through(0, 1, &ping, NULL) != NULL && through(1, 0, &answer_to, NULL) != NULL && through(1, 0, &begin, NULL) == NULL);
  struct made spoofed = make(1, 6, "10.0.0.9", 80, "10.0.0.1", 4000, 0), leaving = make(0, 6, "10.7.0.9", 80, "10.0.1.2", 4000, 0);
  CHECK(through(1, 0, &spoofed, NULL) == NULL && through(0, 1, &leaving, NULL) == NULL);
  /* A reset inside ends nothing it did not begin. */
  struct made reset = make(0, 6, "10.0.0.1", 4444, "10.0.1.2", 80, 0);
  put_flags(&reset, 4);
  CHECK(through(0, 1, &reset, NULL) == NULL);
}

static void test_nat(void) {
  takes(configuration_nat);
  struct made out = make(0, 6, "10.0.0.1", 4000, "10.0.1.2", 80, 5);
  const uint8_t *ip = through(0, 1, &out, NULL);
  CHECK(ip != NULL && ip[12] == 10 && ip[14] == 1 && (ip[15] & 0xfc) == 248 && load16(ip + 20) == 4000 && is_address(ip + 16, "10.0.1.2"));
  if (ip == NULL) return;
  char public[16];
  snprintf(public, sizeof public, "10.0.1.%u", ip[15]);
  struct made back = make(1, 6, "10.0.1.2", 80, public, 4000, 5), other = make(1, 6, "10.0.1.3", 80, public, 4000, 5);
  put_flags(&back, 0x12);
  ip = through(1, 0, &back, NULL);
  CHECK(ip != NULL && is_address(ip + 16, "10.0.0.1") && load16(ip + 22) == 4000);
  CHECK(through(1, 0, &other, NULL) == NULL);
  SAYS("flows.size", "1");
  /* Many customers at one place, each of the same port: all are told apart, and each keeps its address. */
  for (unsigned i = 2; i < 200; i++) {
    char source[16];
    snprintf(source, sizeof source, "10.0.0.%u", i);
    struct made one = make(0, 17, source, 5000, "10.0.1.2", 53, 5), two = make(0, 17, source, 5001, "10.0.1.2", 53, 5);
    const uint8_t *first = through(0, 1, &one, NULL);
    CHECK(first != NULL);
    if (first == NULL) return;
    uint8_t kept = first[15];
    uint32_t port = load16(first + 20);
    char address[16];
    snprintf(address, sizeof address, "10.0.1.%u", kept);
    struct made reply = make(1, 17, "10.0.1.2", 53, address, (uint16_t)port, 9);
    if (i == 50) store16(IP_OF(&reply) + 26, 0); /* without a checksum it stays */
    ip = through(1, 0, &reply, NULL);
    CHECK(ip != NULL && is_address(ip + 16, source) && load16(ip + 22) == 5000 && (i != 50 || load16(ip + 26) == 0));
    const uint8_t *second = through(0, 1, &two, NULL);
    CHECK(second != NULL && second[15] == kept);
  }
  SAYS("flows.size", "397");
  /* The same configuration again: flows stay. */
  bool again = requests_install((struct slice){configuration_nat, strlen(configuration_nat)}, &errors);
  CHECK(again);
  static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
  for (unsigned i = 0; i < 2; i++) nets[i].events->up(nets[i].context, mac);
  SAYS("flows.size", "397");
  CHECK(through(1, 0, &back, NULL) != NULL);
  /* Fragments behind a first one go its way; without it nowhere. */
  struct made whole = make(0, 17, "10.0.0.1", 6000, "10.0.1.2", 53, 1200), first_half = whole, second_half = whole;
  uint8_t *ip1 = IP_OF(&first_half), *ip2 = IP_OF(&second_half);
  store16(ip1 + 2, 20 + 800), store16(ip1 + 6, 0x2000), store16(ip1 + 10, 0), store16(ip1 + 10, ~words(ip1, 20, 0));
  first_half.length = 34 + 800;
  memmove(ip2 + 20, ip2 + 820, 408);
  store16(ip2 + 2, 20 + 408), store16(ip2 + 6, 100), store16(ip2 + 10, 0), store16(ip2 + 10, ~words(ip2, 20, 0));
  second_half.length = 34 + 408;
  CHECK(through(0, 1, &second_half, NULL) == NULL);
  uint8_t joined[1300];
  ip = through(0, 1, &first_half, NULL);
  CHECK(ip != NULL && !is_address(ip + 12, "10.0.0.1"));
  if (ip != NULL) memcpy(joined, ip, 820);
  ip = through(0, 1, &second_half, NULL);
  CHECK(ip != NULL && memcmp(ip + 12, joined + 12, 8) == 0);
  if (ip != NULL) memcpy(joined + 820, ip + 20, 408);
  store16(joined + 2, 1228), store16(joined + 6, 0), store16(joined + 10, 0), store16(joined + 10, ~words(joined, 20, 0));
  CHECK(is_sound(joined, 1228));
  /* Pings by their identifier. */
  struct made ping = make(0, 1, "10.0.0.1", 77, "10.0.1.2", 0, 30);
  ip = through(0, 1, &ping, NULL);
  CHECK(ip != NULL && !is_address(ip + 12, "10.0.0.1"));
  if (ip != NULL) {
    snprintf(public, sizeof public, "10.0.1.%u", ip[15]);
    struct made pong = make(1, 1, "10.0.1.2", (uint16_t)load16(ip + 24), public, 0, 30);
    IP_OF(&pong)[20] = 0;
    store16(IP_OF(&pong) + 22, 0);
    store16(IP_OF(&pong) + 22, ~words(IP_OF(&pong) + 20, 38, 0));
    ip = through(1, 0, &pong, NULL);
    CHECK(ip != NULL && is_address(ip + 16, "10.0.0.1") && load16(ip + 24) == 77);
  }
  /* Closed by both: a few minutes, then it is gone; UDP as well. */
  put_flags(&out, 0x11), put_flags(&back, 0x11);
  CHECK(through(0, 1, &out, NULL) != NULL && through(1, 0, &back, NULL) != NULL);
  CHECK(strstr(ask("flows.table"), "tcp done") != NULL);
  pass(242000);
  CHECK(through(1, 0, &back, NULL) == NULL);
  pass(60000);
  SAYS("flows.size", "0");
  SAYS("pings.size", "0");
  /* A small table gives way to what is new, and a range that is used up refuses. */
  takes("FromDevice(eth0) -> Strip(14) -> CheckIPHeader -> r :: IPRewriter(pattern 10.0.1.9 100-109 - - 0 0, MAPPING_CAPACITY 300, GUARANTEE 0) -> Unstrip(14) -> Queue -> ToDevice(eth1)");
  for (uint16_t i = 0; i < 20; i++) {
    struct made one = make(0, 17, "10.0.0.1", (uint16_t)(5000 + i), "10.0.1.2", 53, 0);
    CHECK((through(0, 1, &one, NULL) != NULL) == (i < 10));
  }
  SAYS("r.mapping_failures", "10");
  for (uint16_t i = 0; i < 400; i++) {
    struct made one = make(0, 17, "10.0.0.1", 5000, "10.0.1.2", (uint16_t)(1000 + i), 0);
    CHECK(through(0, 1, &one, NULL) != NULL);
  }
  SAYS("r.size", "300");
  SAYS("r.evicted", "110");
  refuses("Idle -> IPRewriter(pattern 1.2.3.4 9-1 - - 0 0) -> Discard", 36, "'9-1'");
  refuses("Idle -> IPRewriter(pattern 1.2.3.4 1-9 - - 0 1) -> Discard", 46, "'1'");
  refuses("Idle -> IPRewriter(nobody) -> Discard", 9, "no mapper");
  refuses("Idle -> IPRewriter(drop, drop) -> Discard", 26, "2 inputs");
}

static void test_balancer(void) {
  takes(configuration_load_balancer);
  unsigned seen[4] = {0};
  for (unsigned i = 1; i < 100; i++) {
    char source[16];
    snprintf(source, sizeof source, "10.0.0.%u", i);
    uint8_t server = 0;
    for (uint16_t port = 2000; port < 2003; port++) {
      struct made one = make(0, 6, source, port, "10.0.0.200", 80, 1);
      const uint8_t *ip = through(0, 1, &one, NULL);
      CHECK(ip != NULL && ip[18] == 1 && ip[19] >= 1 && ip[19] <= 3 && (server == 0 || ip[19] == server) && is_address(ip + 12, source));
      if (ip == NULL) return;
      server = ip[19];
      char from[16];
      snprintf(from, sizeof from, "10.0.1.%u", server);
      struct made back = make(1, 6, from, 80, source, port, 1);
      ip = through(1, 0, &back, NULL);
      CHECK(ip != NULL && is_address(ip + 12, "10.0.0.200"));
    }
    seen[server & 3]++;
  }
  CHECK(seen[1] > 15 && seen[2] > 15 && seen[3] > 15);
  struct made begins = make(1, 6, "10.0.1.1", 81, "10.0.0.9", 80, 1);
  CHECK(through(1, 0, &begins, NULL) == NULL);
}

static void test_others(void) {
  takes(configuration_tap);
  struct made web = make(0, 6, "10.0.0.1", 4000, "10.0.1.2", 80, 5), dns = make(0, 17, "10.0.0.1", 4000, "10.0.1.2", 53, 5);
  send_in(0, &web), send_in(0, &dns);
  CHECK(nets[1].count == 2 && nets[2].count == 1 && nets[2].lengths[0] == web.length && memcmp(nets[2].sent[0], web.frame, web.length) == 0 && memcmp(nets[1].sent[1], dns.frame, dns.length) == 0);
  /* 10 Mb/s: 1,250,000 bytes a second, over frames of 1,042 bytes; another customer has its own. */
  takes(configuration_rate_limiter);
  unsigned sent = 0;
  for (unsigned ms = 0; ms < 2000; ms++) {
    for (unsigned i = 0; i < 4; i++) {
      struct made big = make(0, 17, "10.0.0.1", 4000, "10.0.1.2", 53, 1000);
      send_in(0, &big), sent++;
    }
    world_now_ns += MS;
    turns(2);
  }
  CHECK(sent == 8000 && nets[1].count > 2340 && nets[1].count < 2500); /* 2,399 and what 10 ms and the queues hold */
  struct made second = make(0, 17, "10.0.0.2", 4000, "10.0.1.2", 53, 1000);
  unsigned before = nets[1].count;
  send_in(0, &second);
  turns(4);
  CHECK(nets[1].count > before);
  /* IPv6. */
  takes(configuration_ip6_router);
  uint8_t frame[94] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0x10, 1, 0x86, 0xdd, 0x60};
  frame[19] = 40, frame[20] = 6, frame[21] = 64;
  memcpy(frame + 22, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\x01\x0d\xb8\0\1\0\0\0\0\0\0\0\0\0\2", 32);
  frame[66] = 0x50, frame[67] = 2;
  deliver(0, frame, sizeof frame);
  CHECK(nets[1].count == 1 && nets[1].sent[0][21] == 63 && memcmp(nets[1].sent[0], "\2\0\0\0\x10\2\2\0\0\0\0\2\x86\xdd", 14) == 0);
  frame[5] = 2, frame[29] = 0, frame[27] = 1, frame[43] = 0;
  deliver(1, frame, sizeof frame);
  CHECK(nets[0].count == 0); /* a connection from outside */
  frame[67] = 0x12;
  deliver(1, frame, sizeof frame);
  CHECK(nets[0].count == 1);
  /* Behind an extension header the same. */
  uint8_t longer[102];
  memcpy(longer, frame, 54);
  memset(longer + 54, 0, 8);
  memcpy(longer + 62, frame + 54, 40);
  longer[19] = 48, longer[20] = 60, longer[54] = 6;
  deliver(1, longer, sizeof longer);
  CHECK(nets[0].count == 2);
  longer[75] = 2;
  deliver(1, longer, sizeof longer);
  CHECK(nets[0].count == 2);
  frame[21] = 1;
  deliver(1, frame, sizeof frame);
  for (size_t length = 15; length < 54; length++) deliver(1, frame, length);
  CHECK(nets[0].count == 2);
}

/* Sound packets with some bytes changed, and random ones, through each: nothing is lost but packets. */
static void test_bytes(void) {
  for (size_t i = 0; i < CONFIGURATIONS; i++) {
    takes(configurations[i]);
    for (unsigned round = 0; round < 3000; round++) {
      unsigned net = dice(2);
      struct made made = make(net, dice(3) == 0 ? 6 : dice(2) ? 17 : 1, net ? "10.0.1.2" : "10.0.0.1", (uint16_t)dice(100), net ? "10.0.0.1" : "10.0.1.2", (uint16_t)dice(100), dice(1300));
      uint8_t *ip = IP_OF(&made);
      unsigned changes = dice(4);
      for (unsigned j = 0; j < changes; j++) ip[dice(40)] = (uint8_t)dice(256);
      if (dice(4) == 0) store16(made.frame + 12, dice(2) ? 0x86dd : 0x0806);
      if (dice(2) && made.length >= 34) {
        ip[0] = (uint8_t)(0x40 | (5 + dice(3)));
        store16(ip + 10, 0);
        store16(ip + 10, ~words(ip, (ip[0] & 15u) * 4, 0));
      }
      made.length -= dice(4) == 0 ? dice(made.length - 14) : 0;
      send_in(net, &made);
      if (dice(50) == 0) pass(2000);
    }
  }
}
