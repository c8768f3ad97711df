/*
 * Click's IP elements: patterns against an evaluation of their own, headers of every length, the ready-made configurations as a network sees them. What is
 * expected of a packet is worked out here, word by word, not with the functions that the elements use.
 */
#include "check.h"
#include "world.h"
#include <stdlib.h>
#include "../fuzz/click_configurations.h"
#include "loop.h"
#include "lwip/netif.h"
#include "config.h"
#include "../apps/click/devices.h"
#include "../apps/click/filter.h"
#include "../apps/click/flow_table.h"
#include "../apps/click/requests.h"
#include "../apps/click/router.h"
#include "../apps/click/routes.h"

#define NETS 3u
#define SENT 64u
#define MS 1000000ull

#include "../fuzz/click_world.h"

static struct errors errors;
static char answer[8192];

static void takes(const char *text) {
  bool sound;
  router_replace(NULL);
  sound = requests_install((struct slice){text, strlen(text)}, &errors);
  if (!sound) fprintf(stderr, "%s\n  gave %u:%u: %s\n", text, errors.kept[0].place.line, errors.kept[0].place.column, errors.kept[0].text);
  CHECK(sound);
  static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
  for (unsigned i = 0; i < NETS; i++) {
    nets[i].count = 0;
    if (nets[i].events != NULL) nets[i].events->up(nets[i].context, mac);
  }
}

static void refuses(const char *text, unsigned column, const char *why) {
  bool sound = requests_install((struct slice){text, strlen(text)}, &errors);
  bool same = !sound && errors.kept[0].place.column == column && strstr(errors.kept[0].text, why) != NULL;
  if (!same) fprintf(stderr, "%s\n  gave %s %u:%u: %s\n", text, sound ? "no mistake" : "", errors.kept[0].place.line, errors.kept[0].place.column, errors.kept[0].text);
  CHECK(same);
}

static void turns(unsigned count) {
  for (unsigned i = 0; i < count; i++) loop_turn();
}

static const char *ask(const char *name) {
  struct output out = {answer, 0, sizeof answer - 1, false};
  if (!handlers_read(router_running(), (struct slice){name, strlen(name)}, &out)) return "(refused)";
  answer[out.length] = '\0';
  return answer;
}
static bool tell(const char *name, const char *value) {
  static char why[256];
  struct output out = {why, 0, sizeof why - 1, false};
  return handlers_write(router_running(), (struct slice){name, strlen(name)}, (struct slice){value, strlen(value)}, &out);
}
#define SAYS(name, value) CHECK(strcmp(ask(name), value) == 0)

/* ---- packets, made and judged one word at a time ---- */

static uint32_t words(const uint8_t *bytes, size_t length, uint32_t sum) {
  for (size_t i = 0; i < length; i++) sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}
static uint32_t pseudo(const uint8_t *ip, uint32_t length) { return words(ip + 12, 8, 0) + ip[9] + length; }
static void store16(uint8_t *at, uint32_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static uint32_t load16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }
static uint32_t number(const char *text) {
  uint32_t a = 0;
  parse_ip4((struct slice){text, strlen(text)}, &a);
  return a;
}

struct made {
  uint8_t frame[1600];
  uint32_t length; /* with the Ethernet header */
};
#define IP_OF(packet) ((packet)->frame + 14)

/* A frame to the device `net` of the configurations. */
static struct made make(unsigned net, uint8_t protocol, const char *source, uint16_t source_port, const char *destination, uint16_t destination_port, unsigned payload) {
  static uint16_t id = 100;
  struct made made = {.length = 0};
  uint8_t *ip = made.frame + 14, *transport = ip + 20;
  uint32_t from = number(source), to = number(destination), header = protocol == 6 ? 20 : 8;
  memcpy(made.frame, "\2\0\0\0\0", 5);
  made.frame[5] = (uint8_t)(net + 1);
  memcpy(made.frame + 6, "\2\0\0\0\11", 5);
  made.frame[11] = (uint8_t)(net + 1);
  store16(made.frame + 12, 0x0800);
  ip[0] = 0x45;
  store16(ip + 2, 20 + header + payload);
  store16(ip + 4, id++);
  ip[8] = 64;
  ip[9] = protocol;
  memcpy(ip + 12, &from, 4);
  memcpy(ip + 16, &to, 4);
  store16(ip + 10, ~words(ip, 20, 0));
  for (unsigned i = 0; i < payload; i++) transport[header + i] = (uint8_t)(i * 7 + 3);
  if (protocol == 1) {
    transport[0] = 8;
    store16(transport + 4, source_port);
    store16(transport + 2, ~words(transport, header + payload, 0));
  } else {
    store16(transport, source_port);
    store16(transport + 2, destination_port);
    if (protocol == 6) transport[12] = 0x50, transport[13] = 2;
    else store16(transport + 4, header + payload);
    store16(transport + (protocol == 6 ? 16 : 6), ~words(transport, header + payload, pseudo(ip, header + payload)));
  }
  made.length = 34 + header + payload;
  return made;
}

static void put_flags(struct made *made, uint8_t flags) {
  uint8_t *ip = IP_OF(made);
  uint32_t length = load16(ip + 2) - 20;
  ip[33] = flags;
  store16(ip + 36, 0);
  store16(ip + 36, ~words(ip + 20, length, pseudo(ip, length)));
}

static bool is_sound(const uint8_t *ip, size_t there) {
  uint32_t length = load16(ip + 2), header = (ip[0] & 15u) * 4;
  if (length > there || words(ip, header, 0) != 0xffff) return false;
  if ((load16(ip + 6) & 0x3fff) != 0) return true;
  if (ip[9] == 1) return words(ip + header, length - header, 0) == 0xffff;
  if (ip[9] == 17 && load16(ip + header + 6) == 0) return true;
  return words(ip + header, length - header, pseudo(ip, length - header)) == 0xffff;
}

static void deliver(unsigned net, const uint8_t *frame, size_t length) {
  uint8_t *copy = malloc(length);
  memcpy(copy, frame, length);
  nets[net].events->frame(nets[net].context, copy, length, 0);
  free(copy);
  turns(4);
}
static void send_in(unsigned net, const struct made *made) { deliver(net, made->frame, made->length); }

/* Answers what the device asks of ARP; returns the last IP packet that left since `from`, NULL when none did. */
static const uint8_t *sent_ip(unsigned net, unsigned from, size_t *length) {
  for (unsigned i = from; i < nets[net].count; i++) {
    const uint8_t *frame = nets[net].sent[i % SENT];
    if (load16(frame + 12) != 0x0806 || load16(frame + 20) != 1) continue;
    uint8_t reply[42];
    memcpy(reply, frame, 42);
    memcpy(reply, frame + 6, 6);
    memcpy(reply + 6, "\2\0\0\0\11\11", 6);
    reply[21] = 2;
    memcpy(reply + 22, "\2\0\0\0\11\11", 6);
    memcpy(reply + 28, frame + 38, 4);
    memcpy(reply + 32, frame + 22, 10);
    deliver(net, reply, 42);
  }
  const uint8_t *found = NULL;
  for (unsigned i = from; i < nets[net].count; i++) {
    if (load16(nets[net].sent[i % SENT] + 12) != 0x0800) continue;
    found = nets[net].sent[i % SENT] + 14;
    if (length != NULL) *length = nets[net].lengths[i % SENT] - 14;
  }
  return found;
}

/* In at one device; what comes out of the other. NULL: nothing. It has to be sound. */
static const uint8_t *through(unsigned in, unsigned out, const struct made *made, size_t *length) {
  size_t here;
  unsigned from = nets[out].count;
  send_in(in, made);
  const uint8_t *ip = sent_ip(out, from, &here);
  if (ip != NULL) CHECK(is_sound(ip, here));
  if (length != NULL && ip != NULL) *length = here;
  return ip;
}

static bool is_address(const uint8_t *at, const char *text) {
  uint32_t address = number(text);
  return memcmp(at, &address, 4) == 0;
}

#include "click_ip_patterns.h"
#include "click_ip_networks.h"

int main(int count, char **words_given) {
  const char *variant = count > 1 ? words_given[1] : "plain";
  world_reset();
  packet_set_limit(4000);
  if (strcmp(variant, "plain") == 0) test_patterns(), test_random_patterns(), test_routes();
  if (strcmp(variant, "headers") == 0) test_headers(), test_flows();
  if (strcmp(variant, "networks") == 0) test_router(), test_waypoint(), test_firewall(), test_nat(), test_balancer(), test_others(), test_bytes();
  router_replace(NULL);
  CHECK(packet_counts().in_use == 0);
  CHECK_END();
}
