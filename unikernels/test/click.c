/*
 * Click's language and elements: what is understood and what is refused, with its place; which ports push; what elements do to packets; what is
 * kept when a configuration takes another one's place. The test is the network: frames go into devices and come out of them.
 */
#include "check.h"
#include "world.h"
#include <stdlib.h>
#include "loop.h"
#include "lwip/netif.h"
#include "../apps/click/bucket.h"
#include "../apps/click/requests.h"
#include "../apps/click/router.h"

#define NETS 2u
#define SENT 8u
#define MS 1000000ull

#include "../fuzz/click_world.h"

static struct errors errors;

static bool install(const char *text) { return requests_install((struct slice){text, strlen(text)}, &errors); }

static void turns(unsigned count) {
  for (unsigned i = 0; i < count; i++) loop_turn();
}

/* Time passes, a millisecond at a time. */
static void pass(unsigned ms) {
  for (unsigned i = 0; i < ms; i++) {
    world_now_ns += MS;
    turns(2);
  }
}

static char answer[8192];
static const char *ask(const char *name) {
  struct output out = {answer, 0, sizeof answer - 1, false};
  if (!handlers_read(router_running(), (struct slice){name, strlen(name)}, &out)) return "(refused)";
  answer[out.length] = '\0';
  return answer;
}
static bool tell(const char *name, const char *value) {
  struct output out = {answer, 0, sizeof answer - 1, false};
  return handlers_write(router_running(), (struct slice){name, strlen(name)}, (struct slice){value, strlen(value)}, &out);
}
#define SAYS(name, value) CHECK(strcmp(ask(name), value) == 0)

/* Refused, the first mistake being at that place and containing that text; what ran before runs on. */
static void refuses(const char *text, unsigned line, unsigned column, const char *why) {
  const struct router *before = router_running();
  bool sound = install(text);
  bool same = !sound && errors.count > 0 && errors.kept[0].place.line == line && errors.kept[0].place.column == column && strstr(errors.kept[0].text, why) != NULL;
  if (!same) fprintf(stderr, "%s\n  gave %s %u:%u: %s\n", text, sound ? "no mistake" : "", errors.kept[0].place.line, errors.kept[0].place.column, errors.kept[0].text);
  CHECK(same);
  CHECK(router_running() == before);
}

static void takes(const char *text) {
  bool sound = install(text);
  if (!sound) fprintf(stderr, "%s\n  gave %u:%u: %s\n", text, errors.kept[0].place.line, errors.kept[0].place.column, errors.kept[0].text);
  CHECK(sound);
}

/* Without anything of what ran before. */
static void fresh(const char *text) {
  router_replace(NULL);
  takes(text);
}

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

/* ---- packets ---- */

static void up(void) {
  static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
  for (unsigned i = 0; i < NETS; i++) {
    if (nets[i].events != NULL) nets[i].events->up(nets[i].context, mac);
    nets[i].full = false;
    nets[i].count = 0;
  }
}

static void receive(unsigned net, const void *frame, size_t length, uint32_t flags) { nets[net].events->frame(nets[net].context, frame, length, flags); }

static const uint8_t request[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1};

static void test_flow(void) {
  fresh("InfiniteSource(LIMIT 100) -> t :: Tee -> a :: Counter -> Discard; t[1] -> Paint(2) -> p :: PaintSwitch; p -> Discard; p[1] -> Discard; p[2] -> b :: Counter -> Discard");
  turns(20);
  SAYS("a.count", "100");
  SAYS("b.count", "100");
  SAYS("b.byte_count", "6400");
  fresh("InfiniteSource(LIMIT 100) -> s :: Switch(1) -> a :: Discard; s[1] -> b :: Discard");
  turns(20);
  SAYS("a.count", "0");
  SAYS("b.count", "100");
  CHECK(tell("s.switch", "0") && !tell("s.switch", "2") && tell("InfiniteSource@1.reset", ""));
  turns(20);
  SAYS("a.count", "100");
  fresh("InfiniteSource(LIMIT 1000) -> q :: Queue(10) -> Idle;");
  turns(20);
  SAYS("q.length", "10");
  SAYS("q.drops", "990");
  SAYS("q.highwater_length", "10");
  /* Schedulers: the first input first, and in turns. */
  fresh("a :: RatedSource(\"a\", 0) -> qa :: Queue -> [0] s :: PrioSched -> u :: Unqueue(ACTIVE false) -> c :: Classifier(0/61, -) -> ca :: Discard; c[1] -> cb :: Discard;"
        "InfiniteSource(\"b\", 5) -> [1] s");
  CHECK(tell("u.active", "true"));
  turns(5);
  SAYS("cb.count", "5");
  SAYS("ca.count", "0");
  fresh("InfiniteSource(\"a\", 40) -> Queue -> [0] s :: RoundRobinSched -> u :: Unqueue(LIMIT 30, ACTIVE false) -> c :: Classifier(0/61, -) -> ca :: Discard; c[1] -> cb :: Discard;"
        "InfiniteSource(\"b\", 40) -> Queue -> [1] s");
  turns(20);
  CHECK(tell("u.active", "true"));
  turns(20);
  SAYS("ca.count", "15");
  SAYS("cb.count", "15");
  /* A loop without a queue ends, and is told. */
  world_console_length = 0;
  fresh("InfiniteSource(LIMIT 1) -> c :: Counter -> t :: Tee(2) -> c; t[1] -> c");
  turns(20);
  CHECK(strstr(world_console, "a loop without a queue") != NULL);
  CHECK(packet_counts().in_use == 0);
}

static void test_rates(void) {
  fresh("r :: RatedSource(RATE 100) -> c :: Counter -> Discard");
  pass(1000);
  CHECK(strtoul(ask("c.count"), NULL, 10) >= 100 && strtoul(ask("c.count"), NULL, 10) <= 102);
  CHECK(tell("r.rate", "10000"));
  unsigned long before = strtoul(ask("c.count"), NULL, 10);
  pass(1000);
  unsigned long after = strtoul(ask("c.count"), NULL, 10) - before;
  CHECK(after >= 9900 && after <= 10200);
  fresh("InfiniteSource -> Shaper(500) -> Unqueue -> c :: Counter -> Discard");
  pass(2000);
  CHECK(strtoul(ask("c.count"), NULL, 10) >= 990 && strtoul(ask("c.count"), NULL, 10) <= 1010);
  fresh("InfiniteSource(LENGTH 1000) -> BandwidthShaper(8Mbps) -> Unqueue -> c :: Counter -> Discard");
  pass(1000);
  CHECK(strtoul(ask("c.byte_count"), NULL, 10) >= 990000 && strtoul(ask("c.byte_count"), NULL, 10) <= 1015000);
  /* A queue before a shaper that waits: packets that come meanwhile are sent when its time has come. */
  fresh("RatedSource(RATE 10) -> Queue -> Shaper(1000) -> Unqueue -> c :: Counter -> Discard");
  pass(1000);
  CHECK(strtoul(ask("c.count"), NULL, 10) >= 10 && strtoul(ask("c.count"), NULL, 10) <= 12);
  fresh("RatedSource(RATE 1000) -> m :: Meter(500) -> a :: Counter -> Discard; m[1] -> b :: Counter -> Discard");
  pass(2000);
  CHECK(strtoul(ask("b.count"), NULL, 10) > 1500 && strtoul(ask("a.count"), NULL, 10) > 20);
  fresh("InfiniteSource(LIMIT 20000) -> s :: RandomSample(0.25) -> a :: Counter -> Discard; s[1] -> b :: Counter -> Discard");
  turns(50);
  unsigned long kept = strtoul(ask("a.count"), NULL, 10);
  CHECK(kept > 4600 && kept < 5400 && kept + strtoul(ask("b.count"), NULL, 10) == 20000);
  world_now_ns = 100000 * MS;
  fresh("RatedSource(RATE 100) -> t :: TimeFilter(101, 102) -> a :: Counter -> Discard; t[1] -> b :: Counter -> Discard");
  pass(3000);
  CHECK(strtoul(ask("a.count"), NULL, 10) >= 99 && strtoul(ask("a.count"), NULL, 10) <= 101 && strtoul(ask("b.count"), NULL, 10) >= 199);
}

static void test_frames(void) {
  uint8_t frame[64] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0};
  fresh("FromDevice(eth0) -> c :: Counter -> EtherMirror -> Queue -> ToDevice(eth1)");
  up();
  frame[20] = 77;
  receive(0, frame, sizeof frame, 0);
  turns(3);
  CHECK(nets[1].count == 1 && nets[1].lengths[0] == sizeof frame && nets[1].sent[0][5] == 9 && nets[1].sent[0][11] == 1 && nets[1].sent[0][20] == 77);
  /* No room: packets wait, none is lost, and it goes on when there is room again. */
  nets[1].full = true;
  for (int i = 0; i < 5; i++) receive(0, frame, sizeof frame, 0);
  turns(3);
  CHECK(nets[1].count == 1);
  nets[1].full = false;
  nets[1].events->writable(nets[1].context);
  turns(3);
  CHECK(nets[1].count == 6);
  /* Down and up again, as after a migration. */
  nets[1].events->down(nets[1].context);
  receive(0, frame, sizeof frame, 0);
  turns(3);
  CHECK(nets[1].count == 6);
  nets[1].events->up(nets[1].context, frame);
  turns(3);
  CHECK(nets[1].count == 7);
  /* A checksum that was left blank is filled in: UDP 10.0.0.1:1 -> 10.0.0.2:2, no data. */
  static const uint8_t blank[42] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 8, 0x14, 0x1c};
  up();
  receive(0, blank, sizeof blank, SHOAL_NET_CSUM_BLANK | SHOAL_NET_CSUM_VALID);
  turns(3);
  CHECK(nets[1].count == 1 && get16(nets[1].sent[0] + 40) == (uint16_t)~(0x141c + 1 + 2 + 8));
  receive(0, frame, 13, 0); /* no frame */
  turns(3);
  CHECK(nets[1].count == 1);

  fresh("FromDevice(0) -> c :: Classifier(12/0806 20/0001, 12/0806, !12/0800, -); c -> ARPResponder(10.0.0.0/24 10.1.0.0/16 2:0:0:0:0:1, 10.0.0.1 2:0:0:0:0:2) -> ToDevice(0); c[1] -> Discard;"
        "c[2] -> b :: Counter -> Discard; c[3] -> d :: Counter -> Discard");
  up();
  receive(0, request, sizeof request, 0);
  turns(3);
  CHECK(nets[0].count == 1 && nets[0].lengths[0] == 42);
  static const uint8_t reply[42] = {2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 2, 10, 0, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9};
  CHECK(memcmp(nets[0].sent[0], reply, 42) == 0); /* the longer prefix */
  receive(0, frame, sizeof frame, 0);
  frame[13] = 6, frame[12] = 9;
  receive(0, frame, sizeof frame, 0);
  receive(0, frame, 20, 0);
  turns(3);
  SAYS("d.count", "1");
  SAYS("b.count", "2");
  frame[12] = 8, frame[13] = 0;

  fresh("FromDevice(0) -> h :: HostEtherFilter(2:0:0:0:0:1, DROP_OWN true) -> DropBroadcasts -> Strip(14) -> Unstrip(2) -> s :: Counter -> Discard; h[1] -> o :: Counter -> Discard");
  up();
  receive(0, frame, sizeof frame, 0);
  receive(0, request, sizeof request, 0);
  frame[5] = 7;
  receive(0, frame, sizeof frame, 0);
  frame[5] = 1;
  turns(3);
  SAYS("s.count", "1");
  SAYS("s.byte_count", "52");
  SAYS("o.count", "1");
}

/* A source of packets for 10.0.0.9, by the annotation: IP elements are tested elsewhere, so the test has an element of its own for it. */
static void test_querier(void) {
  uint8_t reply[42];
  fresh("FromDevice(0) -> c :: Classifier(12/0806 20/0002, -); c -> [1] arp; c[1] -> Strip(14) -> arp :: ARPQuerier(10.0.0.1, 2:0:0:0:0:1) -> Queue -> ToDevice(0)");
  up();
  /* Without a next hop a packet is dropped. */
  uint8_t frame[64] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0};
  receive(0, frame, sizeof frame, 0);
  turns(3);
  SAYS("arp.drops", "1");
  struct element *arp = router_find(router_running(), SLICE("arp"));
  for (int i = 0; i < 3; i++) {
    struct packet *packet = packet_new(PACKET_HEADROOM, 20);
    struct batch batch = BATCH_EMPTY;
    memset(packet->data, 0x45, 20);
    parse_ip4(SLICE("10.0.0.9"), &packet->destination_ip);
    batch_add(&batch, packet);
    element_enter();
    arp->class->push(arp, 0, &batch);
  }
  turns(3);
  CHECK(nets[0].count == 1 && nets[0].sent[0][0] == 0xff && nets[0].sent[0][21] == 1 && nets[0].sent[0][41] == 9); /* one query for three */
  SAYS("arp.length", "3");
  memcpy(reply, request, 42);
  reply[21] = 2;
  memcpy(reply + 38, "\12\0\0\1", 4);
  receive(0, reply, sizeof reply, 0);
  turns(3);
  CHECK(nets[0].count == 4 && nets[0].lengths[3] == 34 && nets[0].sent[3][5] == 9 && nets[0].sent[3][11] == 1 && get16(nets[0].sent[3] + 12) == 0x0800);
  SAYS("arp.length", "0");
  /* Kept across a new configuration, gone after its time. */
  takes("FromDevice(0) -> c :: Classifier(12/0806 20/0002, -); c -> [1] arp; c[1] -> Discard; Idle -> arp :: ARPQuerier(10.0.0.1, 2:0:0:0:0:1) -> ToDevice(0)");
  CHECK(strstr(ask("arp.table"), "10.0.0.9 1 02-00-00-00-00-09 0") != NULL);
  pass(301 * 1000);
  pass(2000);
  SAYS("arp.count", "0");
  /* What waits in vain is dropped, and asked for again a few times first. */
  arp = router_find(router_running(), SLICE("arp"));
  struct packet *packet = packet_new(PACKET_HEADROOM, 20);
  struct batch batch = BATCH_EMPTY;
  parse_ip4(SLICE("10.0.0.77"), &packet->destination_ip);
  batch_add(&batch, packet);
  element_enter();
  arp->class->push(arp, 0, &batch);
  unsigned before = nets[0].count;
  pass(8000);
  CHECK(nets[0].count - before >= 4 && nets[0].count - before <= 6);
  SAYS("arp.count", "0");
  CHECK(packet_counts().in_use == 0);
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
  if (strcmp(variant, "packets") == 0) test_flow(), test_rates(), test_frames(), test_querier();
  if (strcmp(variant, "swap") == 0) test_swap(), test_requests();
  router_replace(NULL);
  CHECK(packet_counts().in_use == 0);
  CHECK_END();
}
