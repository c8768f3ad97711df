/*
 * lwIP on a device that the test plays: the announcement at boot, that an idle guest has no timer running, checksums checked or
 * not as the device says, ARP retries, an address by DHCP, and going on elsewhere as the same guest or as a clone. What is tested is
 * chosen by the argument, for lwIP starts only once.
 */
#include "check.h"
#include "world.h"
#include "config.h"
#include "loop.h"
#include "lwip/icmp.h"
#include "lwip/priv/tcp_priv.h"
#include "resume.h"

#define GUEST_IP 0x0a400101u
#define PEER_IP 0x0a400001u
#define SECOND_NS 1000000000ull

static const uint8_t guest_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2};

static struct shoal_net {
  const struct shoal_net_events *events;
  void *context;
  uint8_t room[SHOAL_NET_FRAME_BYTES];
  uint8_t last[SHOAL_NET_FRAME_BYTES];
  size_t last_length;
  unsigned sent;
  bool deaf; /* has no room */
} wire;

static unsigned sent_before_clone;
static unsigned resumed_count, resumed_as_clone;
static void do_nothing(void) {}
static void on_app_resumed(bool as_clone) {
  resumed_count++;
  resumed_as_clone += as_clone;
}
const struct shoal_app shoal_app = {.name = "test", .version = "0", .start = do_nothing, .resumed = on_app_resumed};

struct shoal_net *shoal_net_open(unsigned index, const struct shoal_net_events *events, void *context) {
  if (index != 0) return NULL;
  wire.events = events;
  wire.context = context;
  return &wire;
}

uint8_t *shoal_net_reserve(struct shoal_net *net) { return net->deaf ? NULL : net->room; }

void shoal_net_commit(struct shoal_net *net, size_t length, uint32_t flags) {
  (void)flags;
  memcpy(net->last, net->room, length);
  net->last_length = length;
  net->sent++;
}

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static uint8_t *put16(uint8_t *at, unsigned value) {
  at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value;
  return at + 2;
}

static uint8_t *put32(uint8_t *at, uint32_t value) { return put16(put16(at, value >> 16), value & 0xffff); }

static uint16_t sum_of(const uint8_t *bytes, size_t size, uint32_t sum) {
  for (size_t i = 0; i + 1 < size; i += 2) sum += get16(bytes + i);
  if (size % 2 != 0) sum += (uint32_t)bytes[size - 1] << 8;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

static void deliver_ip(const uint8_t *to_mac, uint8_t protocol, uint32_t from, uint32_t to, const uint8_t *payload, size_t size,
                       uint32_t flags) {
  uint8_t frame[SHOAL_NET_FRAME_BYTES];
  memcpy(frame, to_mac, 6);
  memcpy(frame + 6, peer_mac, 6);
  put16(frame + 12, 0x0800);
  uint8_t *ip = frame + 14;
  put16(put16(put16(put16(ip, 0x4500), (unsigned)(20 + size)), 1), 0);
  put32(put32(put16(put16(ip + 8, 64u << 8 | protocol), 0), from), to);
  put16(ip + 10, sum_of(ip, 20, 0));
  memcpy(ip + 20, payload, size);
  wire.events->frame(wire.context, frame, 34 + size, flags);
}

static void deliver_arp_to(uint32_t target, unsigned operation) {
  uint8_t frame[60] = {0};
  memcpy(frame, guest_mac, 6);
  memcpy(frame + 6, peer_mac, 6);
  uint8_t *at = put16(put16(put16(put16(put16(frame + 12, 0x0806), 1), 0x0800), 0x0604), operation);
  memcpy(at, peer_mac, 6);
  at = put32(at + 6, PEER_IP);
  memcpy(at, guest_mac, 6);
  put32(at + 6, target);
  wire.events->frame(wire.context, frame, sizeof frame, 0);
}

static void deliver_arp(unsigned operation) { deliver_arp_to(GUEST_IP, operation); }

/* Time passes in steps of 100 ms. */
static void wait_seconds(unsigned seconds) {
  for (unsigned i = 0; i < seconds * 10; i++) {
    world_now_ns += SECOND_NS / 10;
    loop_turn();
  }
}

static bool is_arp_request(uint32_t sender, uint32_t target) {
  return wire.last_length >= 42 && get16(wire.last + 12) == 0x0806 && get16(wire.last + 20) == 1 &&
         get32(wire.last + 28) == sender && get32(wire.last + 38) == target;
}

static bool is_tcp(uint8_t flags) { return get16(wire.last + 12) == 0x0800 && wire.last[23] == 6 && wire.last[47] == flags; }

static void test_static(void) {
  static const char words[] = "ip=10.64.1.1/16 gw=10.64.0.1";
  uint8_t ping[16] = {8}, segment[20] = {0};
  config_init(words, sizeof words);
  CHECK(shoal_ip_start(NULL));
  CHECK(wire.sent == 0);
  wire.events->up(wire.context, guest_mac);
  CHECK(wire.sent == 1 && is_arp_request(GUEST_IP, GUEST_IP)); /* announced, once */
  CHECK(timers_next_due_ns() == TIMER_NEVER);                  /* an idle guest sleeps for good */

  put16(ping + 2, sum_of(ping, sizeof ping, 0));
  deliver_ip(guest_mac, 1, PEER_IP, GUEST_IP, ping, sizeof ping, 0);
  CHECK(wire.sent == 2 && is_arp_request(GUEST_IP, PEER_IP));
  wait_seconds(3);
  CHECK(wire.sent >= 4 && is_arp_request(GUEST_IP, PEER_IP)); /* asked again each second */
  unsigned asked = wire.sent;
  deliver_arp(2);
  CHECK(wire.sent == asked + 1 && wire.last[34] == 0 && wire.last_length == 34 + sizeof ping); /* the echo reply that waited */
  wait_seconds(20);
  CHECK(timers_next_due_ns() == TIMER_NEVER);

  /* A SYN for a port nobody listens on, checksum wrong: dropped, unless the device says that it was checked. */
  put16(put16(segment, 1000), 81);
  put16(segment + 12, 5u << 12 | 2);
  put16(segment + 16, 0x1234);
  unsigned before = wire.sent;
  deliver_ip(guest_mac, 6, PEER_IP, GUEST_IP, segment, sizeof segment, 0);
  CHECK(wire.sent == before);
  deliver_ip(guest_mac, 6, PEER_IP, GUEST_IP, segment, sizeof segment, SHOAL_NET_CSUM_BLANK | SHOAL_NET_CSUM_VALID);
  CHECK(wire.sent == before + 1 && is_tcp(0x14)); /* reset */
  uint32_t pseudo = (PEER_IP >> 16) + (PEER_IP & 0xffff) + (GUEST_IP >> 16) + (GUEST_IP & 0xffff) + 6 + sizeof segment;
  put16(segment + 16, 0);
  put16(segment + 16, sum_of(segment, sizeof segment, pseudo));
  deliver_ip(guest_mac, 6, PEER_IP, GUEST_IP, segment, sizeof segment, 0);
  CHECK(wire.sent == before + 2);
  CHECK(sum_of(wire.last + 34, wire.last_length - 34, pseudo) == 0); /* and what the guest sends carries a right one */

  /* An entry ages while nobody counts: after ten minutes asleep the guest asks anew. */
  world_now_ns += 600 * SECOND_NS;
  deliver_ip(guest_mac, 1, PEER_IP, GUEST_IP, ping, sizeof ping, 0);
  CHECK(is_arp_request(GUEST_IP, PEER_IP));

  wire.events->down(wire.context);
  before = wire.sent;
  wire.events->up(wire.context, guest_mac);
  CHECK(wire.sent == before + 1 && is_arp_request(GUEST_IP, GUEST_IP)); /* announced again */
}

/* An answer of a DHCP server (RFC 2131) to what the guest sent last. */
static void answer_dhcp(uint8_t type) {
  static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255};
  uint8_t message[8 + 236 + 40] = {0}, *dhcp = message + 8;
  put16(put16(put16(message, 67), 68), sizeof message);
  put32(dhcp, 0x02010600);
  memcpy(dhcp + 4, wire.last + 42 + 4, 4); /* the transaction */
  put32(dhcp + 16, GUEST_IP);
  memcpy(dhcp + 28, guest_mac, 6);
  uint8_t *at = put32(dhcp + 236, 0x63825363);
  *at++ = 53, *at++ = 1, *at++ = type;
  *at++ = 54, *at++ = 4, at = put32(at, PEER_IP);
  *at++ = 51, *at++ = 4, at = put32(at, 3600);
  *at++ = 1, *at++ = 4, at = put32(at, 0xffff0000);
  *at++ = 3, *at++ = 4, at = put32(at, PEER_IP);
  *at = 255;
  deliver_ip(broadcast, 17, PEER_IP, 0xffffffff, message, sizeof message, SHOAL_NET_CSUM_VALID);
}

static unsigned readies;
static void on_ready(void) { readies++; }

static uint8_t dhcp_type(void) { return wire.last_length > 285 && get16(wire.last + 36) == 67 ? wire.last[284] : 0; }

static void test_dhcp(void) {
  static const char words[] = "name=vm1 ip=dhcp";
  config_init(words, sizeof words);
  CHECK(shoal_ip_start(on_ready));
  wire.events->up(wire.context, guest_mac);
  CHECK(dhcp_type() == 1); /* DISCOVER */
  unsigned before = wire.sent;
  wait_seconds(5);
  CHECK(wire.sent > before && dhcp_type() == 1); /* again, for nobody answered */
  answer_dhcp(2);
  CHECK(dhcp_type() == 3 && readies == 0); /* REQUEST */
  answer_dhcp(5);
  CHECK(readies == 1 && is_arp_request(GUEST_IP, GUEST_IP));
  CHECK(strstr(world_console, "ip 10.64.1.1/16 gw 10.64.0.1") != NULL);
  wait_seconds(5);
  CHECK(timers_next_due_ns() > world_now_ns + 10 * SECOND_NS); /* only the minute's clock is left */
  before = wire.sent;
  wait_seconds(1900); /* half the lease: renews, once it knows the server's MAC address */
  CHECK(wire.sent > before);
}

/* As platform/xen/suspend.c and the network device do it. */
static void go_on(const char *words, const uint8_t *mac) {
  bool as_clone = !config_is(words, strlen(words) + 1);
  wire.events->down(wire.context);
  if (as_clone) config_init(words, strlen(words) + 1);
  resume_run(as_clone);
  wire.events->up(wire.context, mac);
}

static const uint8_t clone_mac[6] = {2, 0, 0, 0, 0, 3};
static unsigned errors, accepted;

static void on_error(void *context, err_t error) {
  (void)context, (void)error;
  errors++;
}

static err_t on_accept(void *context, struct tcp_pcb *pcb, err_t error) {
  (void)context, (void)error;
  tcp_err(pcb, on_error);
  accepted++;
  return ERR_OK;
}

/* A connection to port 80 of the guest at `to`, by three segments. */
static void connect_to(uint32_t to, const uint8_t *mac, unsigned port) {
  uint8_t segment[20] = {0};
  put16(put16(segment, port), 80);
  put32(segment + 4, 100);
  put16(segment + 12, 5u << 12 | 2);
  put16(segment + 14, 8192);
  deliver_ip(mac, 6, PEER_IP, to, segment, sizeof segment, SHOAL_NET_CSUM_VALID);
  CHECK(is_tcp(0x12));
  put32(segment + 4, 101);
  put32(segment + 8, get32(wire.last + 38) + 1);
  put16(segment + 12, 5u << 12 | 0x10);
  deliver_ip(mac, 6, PEER_IP, to, segment, sizeof segment, SHOAL_NET_CSUM_VALID);
}

static void test_resume(void) {
  static const char words[] = "name=a ip=10.64.1.1/16 gw=10.64.0.1", other[] = "name=b ip=10.64.1.2/16 gw=10.64.0.1";
  config_init(words, sizeof words);
  CHECK(shoal_ip_start(NULL));
  wire.events->up(wire.context, guest_mac);
  struct tcp_pcb *listening = tcp_new();
  CHECK(tcp_bind(listening, IP_ANY_TYPE, 80) == ERR_OK);
  listening = tcp_listen(listening);
  tcp_accept(listening, on_accept);
  deliver_arp(2);
  connect_to(GUEST_IP, guest_mac, 1000);
  CHECK(accepted == 1 && tcp_active_pcbs != NULL);

  unsigned sent = wire.sent;
  go_on(words, guest_mac); /* restored: the same guest, announced, with its connection */
  CHECK(resumed_count == 1 && resumed_as_clone == 0);
  CHECK(wire.sent == sent + 1 && is_arp_request(GUEST_IP, GUEST_IP) && errors == 0 && tcp_active_pcbs != NULL);

  sent = wire.sent;
  go_on(other, clone_mac); /* cloned: announced as another, and not a word under the old address */
  CHECK(resumed_as_clone == 1 && strcmp(shoal_config("name"), "b") == 0);
  CHECK(wire.sent == sent + 1 && is_arp_request(GUEST_IP + 1, GUEST_IP + 1) && memcmp(wire.last + 6, clone_mac, 6) == 0);
  CHECK(errors == 1 && tcp_active_pcbs == NULL);
  deliver_arp_to(GUEST_IP + 1, 2);
  connect_to(GUEST_IP + 1, clone_mac, 1001); /* and listens as before */
  CHECK(accepted == 2 && errors == 1);

  go_on("name=c ip=nonsense", guest_mac);
  CHECK(errors == 2 && strstr(world_console, "ip=nonsense is neither") != NULL);
  sent = wire.sent;
  go_on("name=d", guest_mac);
  CHECK(wire.sent == sent);
  go_on(words, guest_mac);
  CHECK(wire.sent == sent + 1 && is_arp_request(GUEST_IP, GUEST_IP));
  for (unsigned round = 0; round < 2000; round++) {
    world_console_length = 0;
    go_on(round % 2 == 0 ? other : words, round % 2 == 0 ? clone_mac : guest_mac);
    if (!is_arp_request(GUEST_IP + 1 - round % 2, GUEST_IP + 1 - round % 2)) CHECK(!"announced each time");
  }
  wait_seconds(30);
  CHECK(timers_next_due_ns() == TIMER_NEVER);
}

static unsigned announced(uint32_t address) { return is_arp_request(address, address); }

static void deliver_ping(uint32_t to) {
  uint8_t ping[16] = {8};
  put16(ping + 2, sum_of(ping, sizeof ping, 0));
  deliver_ip(guest_mac, 1, PEER_IP, to, ping, sizeof ping, 0);
}

static bool is_pong(uint32_t from) { return get16(wire.last + 12) == 0x0800 && wire.last[23] == 1 && wire.last[34] == 0 && get32(wire.last + 26) == from; }

/* Addresses beside the first, from the command line and later. */
static void test_more(void) {
  static const char words[] = "name=a ip=10.64.1.1/16 gw=10.64.0.1 ips=10.64.9.1,10.65.0.7";
  const uint32_t second = 0x0a400901, third = 0x0a410007, fourth = 0x0a40090a;
  config_init(words, sizeof words);
  CHECK(shoal_ip_start(NULL));
  wire.events->up(wire.context, guest_mac);
  CHECK(wire.sent == 3); /* each is announced */
  deliver_arp(2);
  struct tcp_pcb *listening = tcp_new();
  CHECK(tcp_bind(listening, IP_ANY_TYPE, 80) == ERR_OK);
  listening = tcp_listen(listening);
  tcp_accept(listening, on_accept);
  const uint32_t all[] = {GUEST_IP, second, third};
  for (unsigned i = 0; i < 3; i++) {
    deliver_ping(all[i]);
    CHECK(is_pong(all[i]) && memcmp(wire.last, peer_mac, 6) == 0);
    connect_to(all[i], guest_mac, 1000 + i);
    CHECK(accepted == i + 1 && get32(wire.last + 26) == all[i]); /* answered under the address that was called */
    deliver_arp_to(all[i], 1);
    CHECK(get16(wire.last + 20) == 2 && get32(wire.last + 28) == all[i] && memcmp(wire.last + 22, guest_mac, 6) == 0);
  }
  deliver_ping(fourth);
  CHECK(!is_pong(fourth));

  const uint32_t later[] = {lwip_htonl(fourth), lwip_htonl(GUEST_IP), lwip_htonl(second)};
  wire.sent = 0;
  CHECK(config_readdress(later, 3) && wire.sent == 2); /* one is announced; the third's connection is reset, the others' is not */
  CHECK(errors == 1 && tcp_active_pcbs != NULL);
  deliver_ping(fourth);
  CHECK(is_pong(fourth));
  deliver_ping(GUEST_IP);
  CHECK(is_pong(GUEST_IP));
  wire.sent = 0;
  deliver_ping(third);
  CHECK(wire.sent == 0);
  CHECK(config_readdress(later, 3) && wire.sent == 0 && errors == 1); /* again: nothing changes */
  uint32_t many[9];
  for (unsigned i = 0; i < 9; i++) many[i] = lwip_htonl(second + 100 + i);
  CHECK(!config_readdress(many, 8) && !config_readdress((uint32_t[]){lwip_htonl(0xe0000001)}, 1) && !config_readdress((uint32_t[]){0}, 1));
  deliver_ping(fourth);
  CHECK(is_pong(fourth)); /* what is refused changes nothing */
  CHECK(config_readdress(many, 7));
  deliver_ping(second + 106);
  CHECK(is_pong(second + 106) && errors == 2);
  for (unsigned round = 0; round < 500; round++) CHECK(config_readdress(many + round % 3, 1 + round % 7));
  CHECK(config_readdress(NULL, 0));

  wire.events->down(wire.context);
  wire.sent = 0;
  CHECK(config_readdress(later, 3) && wire.sent == 0); /* while it is down */
  wire.events->up(wire.context, clone_mac);
  CHECK(wire.sent == 3 && memcmp(wire.last + 6, clone_mac, 6) == 0);
  /* A clone has none of its original's. */
  sent_before_clone = wire.sent;
  go_on("name=b ip=10.64.1.2/16 gw=10.64.0.1 ips=10.64.9.2", guest_mac);
  CHECK(wire.sent == sent_before_clone + 2 && announced(0x0a400902));
  static const char *const senseless[] = {"10.64.9.1,", ",10.64.9.1", "10.64.9", "10.64.9.1,,10.64.9.2", "224.0.0.1", "10.64.9.1;10.64.9.2", "10.64.9.1000000000000",
                                          "1.0.0.1,1.0.0.2,1.0.0.3,1.0.0.4,1.0.0.5,1.0.0.6,1.0.0.7,1.0.0.8"};
  for (unsigned i = 0; i < sizeof senseless / sizeof *senseless; i++) {
    char line[200];
    shoal_format(line, sizeof line, "name=c%u ip=10.64.1.2/16 ips=%s", i, senseless[i]);
    world_console_length = 0;
    unsigned sent = wire.sent;
    go_on(line, guest_mac);
    CHECK(wire.sent == sent + 1 && strstr(world_console, "is no list") != NULL);
  }
  wait_seconds(60);
  CHECK(timers_next_due_ns() == TIMER_NEVER);
}

/* A clone of a guest with a leased address wants one of its own; a static one may turn to DHCP. */
static void test_resume_dhcp(void) {
  static const char words[] = "name=a ip=dhcp", other[] = "name=b ip=dhcp";
  config_init(words, sizeof words);
  CHECK(shoal_ip_start(on_ready));
  wire.events->up(wire.context, guest_mac);
  answer_dhcp(2);
  answer_dhcp(5);
  CHECK(readies == 1);
  unsigned sent = wire.sent;
  go_on(words, guest_mac); /* the same guest asks for the same address, and announces it */
  CHECK(wire.sent == sent + 2 && is_arp_request(GUEST_IP, GUEST_IP));
  sent = wire.sent;
  wire.deaf = true; /* down: what the original's lease has lwIP send is lost */
  wire.events->down(wire.context);
  config_init(other, sizeof other);
  resume_run(true);
  CHECK(wire.sent == sent);
  wire.deaf = false;
  wire.events->up(wire.context, clone_mac);
  CHECK(dhcp_type() == 1 && memcmp(wire.last + 6, clone_mac, 6) == 0); /* DISCOVER as another */
  wire.events->down(wire.context);
  config_init("ip=10.64.1.1/16", 16);
  resume_run(true);
  wire.events->up(wire.context, guest_mac);
  CHECK(is_arp_request(GUEST_IP, GUEST_IP));
  wait_seconds(30);
  CHECK(timers_next_due_ns() == TIMER_NEVER); /* no clock of DHCP's is left */
  go_on(other, clone_mac);
  CHECK(dhcp_type() == 1);
}

int main(int argc, char **argv) {
  world_reset();
  const char *which = argc > 1 ? argv[1] : "";
  if (strcmp(which, "dhcp") == 0) test_dhcp();
  else if (strcmp(which, "more") == 0) test_more();
  else if (strcmp(which, "resume") == 0) test_resume();
  else if (strcmp(which, "resume-dhcp") == 0) test_resume_dhcp();
  else test_static();
  CHECK_END();
}
