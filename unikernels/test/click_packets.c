/* Click's elements: what they do to packets, how fast, and with time. The test is the network. */
#include "click_rig.h"

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

int main(void) {
  world_reset();
  packet_set_limit(2000);
  test_flow();
  test_rates();
  test_frames();
  test_querier();
  router_replace(NULL);
  CHECK(packet_counts().in_use == 0);
  CHECK_END();
}
