/*
 * Click's language: what is understood and what is refused, with its place; which ports push; what is kept when a configuration takes another
 * one's place.
 */
#include "click_rig.h"

/* ---- the language ---- */

static void test_language(void) {
  takes("Idle->Discard;// nothing\n/* at * all */ ;;");
  takes("a, b :: Counter; Idle -> a -> [0] b [0] -> Discard");
  takes("#!/usr/bin/click\n# 1 \"x\"\nc :: Counter(/* empty */); Idle -> c -> Discard;");
  takes("require(click); require(package \"x\"); Idle -> d; d :: Discard;"); /* used before it is declared */
  takes("Idle -> Print(\"a, b) // no comment\", 3) -> Discard");
  SAYS("Print@2.config", "\"a, b) // no comment\", 3");
  /* Compound elements. */
  takes("elementclass Two { $c, LIMIT $l | input -> Paint($c) -> Queue($l) -> output }\nIdle -> t :: Two(7, LIMIT 9) -> Discard;");
  SAYS("t/Paint@3.color", "7");
  SAYS("t/Queue@4.capacity", "9");
  takes("elementclass A { input -> Counter -> output } elementclass A { input -> A -> A -> output }; Idle -> a :: A -> Discard");
  CHECK(strstr(ask("list"), "a/A@3/Counter@3\tCounter\n") != NULL);
  CHECK(strstr(ask("list"), "a/A@4/Counter@3\tCounter\n") != NULL);
  takes("elementclass O { $a | input -> Queue($a) -> output || input -> Queue(3) -> output } Idle -> x :: O -> Discard; Idle -> y :: O(4) -> Discard");
  SAYS("x/Queue@3.capacity", "3");
  SAYS("y/Queue@3.capacity", "4");
  takes("Idle -> x :: { input [0] -> output; input [1] -> Counter -> [1] output } -> Discard; Idle -> [1] x [1] -> Discard");
  takes("define($n 12); elementclass Q { input -> Queue($n) -> output } Idle -> q :: Q -> Discard;");
  SAYS("q/Queue@3.capacity", "12");
  takes("elementclass R { $f, __REST__ $r | input -> c :: Classifier($r); c[0] -> output; c[1] -> Paint($f) -> output } Idle -> r :: R(3, 0/01, -) -> Discard");
  SAYS("r/c.config", "0/01, -");
  takes("x :: { y :: Idle }; Idle -> Discard");
  takes("elementclass W { $p | input -> Print('$p') -> Print(\"$p\") -> output } Idle -> w :: W(9) -> Discard");
  SAYS("w/Print@3.config", "'$p'");
  SAYS("w/Print@4.config", "\"9\"");
  /* Read back flat, it is the same. */
  takes("elementclass Two { $c | input -> Paint($c) -> Queue -> output }\nIdle -> t :: Two(7) -> Discard; Idle -> Tee(1) -> t");
  char flat[2048];
  snprintf(flat, sizeof flat, "%s", ask("flatconfig"));
  CHECK(strstr(flat, "t/Paint@3 [0] -> [0] t/Queue@4;") != NULL);
  takes(flat);
  SAYS("flatconfig", flat);

  refuses("Idle -> Discrad;", 1, 9, "'Discrad' is neither");
  refuses("Idle -> Discrad();", 1, 9, "unknown element class 'Discrad'");
  refuses("a :: Idle;\na :: Idle;", 2, 1, "declared already, at 1:1");
  refuses("Idle ->\n  ;", 2, 3, "';' where an element should be");
  refuses("Idle -> Queue(3", 1, 15, "')' is missing");
  refuses("Idle -> Print(\"x) -> Discard;", 1, 15, "quoted text");
  refuses("Idle /* -> Discard;", 1, 6, "comment");
  refuses("Idle -> Discard }", 1, 17, "'}'");
  refuses("elementclass X { input -> output", 1, 33, "'}'");
  refuses("Idle -> \001", 1, 9, "byte 0x01");
  refuses("Idle [99999] -> Discard", 1, 7, "port");
  refuses("[0] Idle -> Discard", 1, 1, "input port");
  refuses("elementclass C { $a | input -> output } Idle -> C -> Discard", 1, 49, "missing argument $a");
  refuses("elementclass C { input -> output } Idle -> C(1) -> Discard", 1, 46, "too many arguments");
  refuses("elementclass C { input -> Discard } Idle -> C -> Discard", 1, 47, "one side only");
  refuses("elementclass C { input [1] -> Discard } Idle -> C", 1, 46, "one side only");
  refuses("Idle -> Queue(1, 2) -> Discard", 1, 18, "no such argument: '2'");
  refuses("Idle -> Queue(\n  10x) -> Discard", 2, 3, "'10x' is not a whole number");
  refuses("Idle -> Queue(CAPACITY -1) -> Discard", 1, 15, "CAPACITY");
  refuses("Idle -> Paint() -> Discard", 1, 9, "missing argument COLOR");
  refuses("c :: Classifier(12/0800, zz/00); Idle -> c -> Discard; c[1] -> Discard", 1, 26, "'zz/00'");
  refuses("Idle -> Queue(1) -> Discard; x :: Foo; y :: Bar; ", 1, 35, "'Foo'");
  CHECK(errors.count == 2 && errors.kept[1].place.column == 45); /* reading goes on */
  /* Depth and growth are bounded. */
  char deep[8192] = "";
  for (int i = 0; i < 40; i++) strcat(deep, "{ ");
  refuses(deep, 1, 33, "in one another");
  strcpy(deep, "elementclass C0 { Idle -> Discard }");
  for (int i = 0; i < 30; i++) snprintf(deep + strlen(deep), sizeof deep - strlen(deep), "elementclass C%d { C%d; C%d }", i + 1, i, i);
  strcat(deep, "C30");
  CHECK(!install(deep) && strstr(errors.kept[0].text, "more than 16384 elements") != NULL);
  /* Memory that runs out at any moment: refused, and nothing is left. */
  for (int left = 0; left < 200; left++) {
    world_allocations_left = left;
    install("elementclass Two { $c | input -> Paint($c) -> Queue -> output }\nInfiniteSource -> t :: Two(7) -> Discard; Idle -> Print(\"x\") -> Discard");
    world_allocations_left = -1;
  }
  CHECK(install(""));
}

/* ---- ports ---- */

static void test_ports(void) {
  takes("s :: InfiniteSource -> c :: Counter -> q :: Queue -> d :: Counter -> Discard;");
  CHECK(strstr(ask("c.ports"), "push\ts [0]") != NULL && strstr(ask("d.ports"), "pull\tq [0]") != NULL);
  takes("s :: InfiniteSource -> d :: Discard"); /* nothing settles it: push */
  CHECK(strstr(ask("d.ports"), "push") != NULL);
  takes("s :: InfiniteSource -> n :: Null -> u :: Unqueue -> Discard"); /* pulled through */
  CHECK(strstr(ask("s.ports"), "pull") != NULL && strstr(ask("n.ports"), "push") == NULL);
  takes("i :: Idle; i -> Unqueue -> Discard; i[1] -> Tee -> Discard"); /* its ports go apart */
  refuses("Idle -> Unqueue -> Tee(1) -> Unqueue -> Discard", 1, 27, "push output 0 is connected to");
  refuses("Idle -> Queue -> Counter -> Queue -> Discard", 1, 26, "pull output 0");
  refuses("t :: Tee; Idle -> t; t -> Discard; t -> Discard", 1, 1, "push output 0 has 2 connections");
  refuses("q :: Queue; r :: Queue; d :: Unqueue -> Discard; Idle -> q -> d; Idle -> r -> d", 1, 25, "pull input 0 has 2 connections");
  refuses("t :: Tee; Idle -> t; t[1] -> Discard", 1, 1, "output 0 is not connected");
  refuses("Idle -> Counter", 1, 9, "0 outputs connected, Counter takes 1");
  refuses("Idle -> c :: Counter -> Discard; c[1] -> Discard", 1, 9, "at most 1");
  takes("Idle -> q :: Queue; Idle -> q -> Discard; q -> Discard"); /* pushed and pulled by several */
}

/* ---- one configuration after another ---- */

static void test_swap(void) {
  fresh("InfiniteSource(LIMIT 50) -> c :: Counter -> q :: Queue(100) -> Idle; s :: Switch(0); Idle -> s -> Discard; s[1] -> Discard");
  turns(10);
  CHECK(tell("s.switch", "1"));
  takes("Idle -> c :: Counter -> q :: Queue(30) -> d :: Unqueue -> e :: Discard; s :: Switch(0); Idle -> s -> Discard; s[1] -> Discard");
  SAYS("c.count", "50");
  SAYS("s.switch", "1");
  SAYS("q.drops", "20"); /* those that do not fit */
  turns(10);
  SAYS("e.count", "30");
  /* Another class of that name takes nothing. */
  takes("Idle -> c :: AverageCounter -> Discard");
  SAYS("c.count", "0");
  CHECK(packet_counts().in_use == 0);
  fresh("InfiniteSource(LIMIT 5) -> c :: Counter -> Discard");
  turns(5);
  refuses("InfiniteSource(LIMIT 5) -> c :: Counter -> Queue(x) -> Discard", 1, 50, "'x'");
  SAYS("c.count", "5"); /* the one that ran runs on */
  refuses("FromDevice(0) -> Discard; FromDevice(vif0) -> Discard", 1, 27, "already");
  refuses("FromDevice(eth7) -> Discard", 1, 12, "no device 7");
  refuses("FromDevice(eth8) -> Discard", 1, 12, "not the name of a device");
  refuses("FromDevice(wlan) -> Discard", 1, 12, "not the name of a device");
}

/* ---- the admin port's requests ---- */

static unsigned status_of(enum request_method method, const char *target, const char *secret, const char *body) {
  struct answer given;
  struct request asked = {method, {target, strlen(target)}, {secret, strlen(secret)}, {body, strlen(body)}};
  CHECK(requests_answer(&asked, &given));
  snprintf(answer, sizeof answer, "%.*s", (int)given.body.length, given.body.at);
  unsigned status = given.status;
  free(given.body.at);
  return status;
}

static void test_requests(void) {
  static const char good[] = "Bearer s3cret";
  requests_start(SLICE("s3cret"));
  CHECK(status_of(REQUEST_GET, "/health", "", "") == 200 && status_of(REQUEST_GET, "/status", "", "") == 401);
  CHECK(status_of(REQUEST_GET, "/status", "Bearer s3creT", "") == 401 && status_of(REQUEST_GET, "/status", "bearer s3cret", "") == 200);
  CHECK(status_of(REQUEST_PUT, "/configuration?at=0", good, "Idle -> c :: ") == 200 && strcmp(answer, "{\"bytes\":13}\n") == 0);
  CHECK(status_of(REQUEST_PUT, "/configuration?at=12", good, "x") == 409);
  CHECK(status_of(REQUEST_PUT, "/configuration?at=13", good, "Counter -> Discard") == 200);
  CHECK(status_of(REQUEST_POST, "/install?sha256=0000000000000000000000000000000000000000000000000000000000000000", good, "") == 409);
  /* sha256sum of the two pieces. */
  CHECK(status_of(REQUEST_POST, "/install?sha256=3227323e6be1dbed35982abafd2049c7dfd8d88c9276a9dc790caea53155c226&dry=1", good, "") == 200 && strstr(answer, "\"installed\":false") != NULL);
  CHECK(status_of(REQUEST_PUT, "/configuration?at=0", good, "Idle -> c :: Counter -> Discard") == 200);
  CHECK(status_of(REQUEST_POST, "/install?sha256=3227323e6be1dbed35982abafd2049c7dfd8d88c9276a9dc790caea53155c226", good, "") == 200 && strstr(answer, "\"elements\":3") != NULL);
  CHECK(status_of(REQUEST_GET, "/read?handler=config", good, "") == 200 && strcmp(answer, "Idle -> c :: Counter -> Discard") == 0);
  CHECK(status_of(REQUEST_PUT, "/configuration?at=0", good, "Idle ->\n x") == 200);
  CHECK(status_of(REQUEST_POST, "/install?sha256=54d6a1d7fd5e4f2f40ac2e39aaa5bb5b5b5f64f1c0f3a3f6f07d6b1f4c3a0c0d", good, "") == 409);
  CHECK(status_of(REQUEST_POST, "/install", good, "") == 400 && status_of(REQUEST_GET, "/install", good, "") == 405 && status_of(REQUEST_GET, "/nowhere", good, "") == 404);
  fresh("InfiniteSource(LIMIT 7) -> c :: Counter -> Discard");
  turns(5);
  CHECK(status_of(REQUEST_GET, "/read?handler=c.count", good, "") == 200 && strcmp(answer, "7") == 0);
  CHECK(status_of(REQUEST_GET, "/read?handler=c%2ecount", good, "") == 200 && status_of(REQUEST_GET, "/read?handler=c%2", good, "") == 400);
  CHECK(status_of(REQUEST_GET, "/read?handler=x.count", good, "") == 404 && status_of(REQUEST_GET, "/read?handler=c.reset", good, "") == 404);
  CHECK(status_of(REQUEST_POST, "/write?handler=c.reset", good, "") == 200 && status_of(REQUEST_POST, "/write?handler=c.count", good, "1") == 422);
  CHECK(status_of(REQUEST_GET, "/read?handler=c.count", good, "") == 200 && strcmp(answer, "0") == 0);
  requests_start(SLICE(""));
  CHECK(status_of(REQUEST_GET, "/status", "Bearer ", "") == 401 && status_of(REQUEST_GET, "/health", "", "") == 200);
}

/* ---- numbers and addresses ---- */

static void test_parse(void) {
  uint64_t number;
  uint32_t address, mask;
  uint8_t bytes[16];
  unsigned length;
  CHECK(parse_u64(SLICE("0x1F"), 100, &number) && number == 31 && parse_u64(SLICE("010"), 100, &number) && number == 8 && parse_u64(SLICE("0"), 0, &number));
  CHECK(!parse_u64(SLICE(""), 9, &number) && !parse_u64(SLICE("10"), 9, &number) && !parse_u64(SLICE("08"), 9, &number) && !parse_u64(SLICE("99999999999999999999"), UINT64_MAX, &number));
  CHECK(parse_fixed(SLICE("1.25"), 6, UINT64_MAX, &number) && number == 1250000 && !parse_fixed(SLICE("."), 6, 9, &number) && !parse_fixed(SLICE("1.2.3"), 6, UINT64_MAX, &number));
  CHECK(parse_ns(SLICE("1.5"), &number) && number == 1500000000 && parse_ns(SLICE("20ms"), &number) && number == 20000000 && parse_ns(SLICE("2 min"), &number) && number == 120000000000);
  CHECK(!parse_ns(SLICE("3 apples"), &number) && !parse_ns(SLICE("18446744073.8"), &number));
  CHECK(parse_rate(SLICE("8Mbps"), &number) && number == 1000000 && parse_rate(SLICE("1.5kBps"), &number) && number == 1500 && parse_rate(SLICE("7"), &number) && number == 7 && !parse_rate(SLICE("7x"), &number));
  CHECK(parse_ip4(SLICE("1.2.3.4"), &address) && memcmp(&address, "\1\2\3\4", 4) == 0 && !parse_ip4(SLICE("1.2.3"), &address) && !parse_ip4(SLICE("1.2.3.256"), &address) && !parse_ip4(SLICE("1.2.3.4.5"), &address));
  CHECK(parse_prefix4(SLICE("10.0.0.1/8"), &address, &mask) && memcmp(&mask, "\377\0\0\0", 4) == 0 && parse_prefix4(SLICE("0.0.0.0/0"), &address, &mask) && mask == 0);
  CHECK(parse_prefix4(SLICE("1.2.3.4/255.255.0.0"), &address, &mask) && memcmp(&mask, "\377\377\0\0", 4) == 0 && !parse_prefix4(SLICE("1.2.3.4/33"), &address, &mask));
  CHECK(parse_ether(SLICE("1:2:3:a:b:c"), bytes) && memcmp(bytes, "\1\2\3\12\13\14", 6) == 0 && parse_ether(SLICE("01-02-03-04-05-06"), bytes) && !parse_ether(SLICE("1:2:3:4:5"), bytes) && !parse_ether(SLICE("1:2:3:4:5:6:7"), bytes));
  CHECK(parse_ip6(SLICE("2001:db8::1"), bytes) && memcmp(bytes, "\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1", 16) == 0 && parse_ip6(SLICE("::"), bytes) && parse_ip6(SLICE("1:2:3:4:5:6:7:8"), bytes));
  CHECK(parse_ip6(SLICE("::ffff:1.2.3.4"), bytes) && memcmp(bytes + 10, "\377\377\1\2\3\4", 6) == 0 && parse_prefix6(SLICE("fe80::/10"), bytes, &length) && length == 10);
  CHECK(!parse_ip6(SLICE("1:2"), bytes) && !parse_ip6(SLICE("1::2::3"), bytes) && !parse_ip6(SLICE("1:2:3:4:5:6:7:8:9"), bytes) && !parse_ip6(SLICE("1:2:3:4:5:6:7:8::"), bytes) && !parse_ip6(SLICE(":1:2"), bytes));
  char text[64];
  struct output out = {text, 0, sizeof text, false};
  parse_ip6(SLICE("2001:0:0:1:0:0:0:1"), bytes);
  output_ip6(&out, bytes);
  CHECK(out.length == 13 && memcmp(text, "2001:0:0:1::1", 13) == 0);
  out.length = 0;
  output_fixed(&out, 1250000, 6);
  CHECK(out.length == 4 && memcmp(text, "1.25", 4) == 0);
  /* The sum over any length and start is that of words one by one. */
  uint8_t data[64];
  for (unsigned i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 37 + 200);
  for (unsigned start = 0; start < 9; start++) {
    for (unsigned size = 0; size + start <= sizeof data; size++) {
      uint32_t sum = 0;
      for (unsigned i = 0; i < size; i++) sum += i % 2 == 0 ? (uint32_t)data[start + i] << 8 : data[start + i];
      sum = (sum & 0xffff) + (sum >> 16);
      sum = (sum & 0xffff) + (sum >> 16);
      CHECK(checksum_add(data + start, size, 0) == sum);
    }
  }
  CHECK(checksum_update16(0xdd2f, 0x5555, 0x3285) == 0); /* RFC 1624, 4 */
}

int main(int count, char **words) {
  const char *variant = count > 1 ? words[1] : "plain";
  world_reset();
  packet_set_limit(2000);
  if (strcmp(variant, "plain") == 0) test_parse(), test_language();
  if (strcmp(variant, "ports") == 0) test_ports();
  if (strcmp(variant, "swap") == 0) test_swap(), test_requests();
  router_replace(NULL);
  CHECK(packet_counts().in_use == 0);
  CHECK_END();
}
