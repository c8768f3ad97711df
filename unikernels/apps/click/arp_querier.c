/*
 * ARPQuerier(IP, ETHER): puts an Ethernet header before IP packets (input 0), for the next hop that their destination annotation names, and asks
 * for the address that it does not know; packets wait for the answer (input 1), a bounded number, for a bounded time. Queries go out of
 * output 1 when it is connected, else out of output 0.
 */
#include "arp.h"
#include "element.h"

#define BUCKETS 256u
#define ENTRIES_MAX 4096u
#define SECOND_NS 1000000000ull
/* Between two queries for the same address, and how long packets wait for an answer. */
#define QUERY_NS SECOND_NS
#define WAIT_NS (5 * SECOND_NS)

struct entry {
  struct entry *next;
  uint32_t ip;
  uint8_t ether[6];
  bool known;
  uint64_t heard_ns, asked_ns, since_ns; /* since: the first packet waits */
  struct batch waiting;
};

struct querier {
  struct element element;
  uint8_t ether[6];
  uint32_t ip, broadcast;
  uint64_t timeout_ns, poll_ns;
  uint32_t capacity, entry_capacity;
  uint32_t entry_count, waiting;
  uint64_t queries, responses, drops;
  struct entry *buckets[BUCKETS];
};

static bool configure(struct element *element, struct arguments *arguments) {
  struct querier *querier = (struct querier *)element;
  querier->timeout_ns = 300 * SECOND_NS;
  querier->poll_ns = 60 * SECOND_NS;
  querier->capacity = 2048;
  querier->broadcast = 0xffffffff;
  arguments_ip4(arguments, "IP", ARGUMENT_POSITION | ARGUMENT_REQUIRED, &querier->ip);
  arguments_ether(arguments, "ETH", ARGUMENT_POSITION | ARGUMENT_REQUIRED, querier->ether);
  arguments_ns(arguments, "TIMEOUT", 0, &querier->timeout_ns);
  arguments_ns(arguments, "POLL_TIMEOUT", 0, &querier->poll_ns);
  arguments_ip4(arguments, "BROADCAST", 0, &querier->broadcast);
  arguments_u32(arguments, "CAPACITY", 0, 0, 65536, &querier->capacity);
  arguments_u32(arguments, "ENTRY_CAPACITY", 0, 0, 65536, &querier->entry_capacity);
  return arguments_end(arguments);
}

static struct entry **bucket_of(struct querier *querier, uint32_t ip) {
  uint32_t hash = ip * 2654435761u;
  return &querier->buckets[hash >> 24];
}

static struct entry *find(struct querier *querier, uint32_t ip) {
  struct entry *entry = *bucket_of(querier, ip);
  while (entry != NULL && entry->ip != ip) entry = entry->next;
  return entry;
}

static struct entry *find_or_add(struct querier *querier, uint32_t ip) {
  struct entry *entry = find(querier, ip), **bucket = bucket_of(querier, ip);
  if (entry != NULL || querier->entry_count == ENTRIES_MAX) return entry;
  entry = shoal_alloc(sizeof *entry);
  if (entry == NULL) return NULL;
  *entry = (struct entry){.next = *bucket, .ip = ip};
  *bucket = entry;
  querier->entry_count++;
  /* What it knows grows old from now on. */
  if (!querier->element.timer.armed) element_timer_set(&querier->element, click_now_ns() + SECOND_NS);
  return entry;
}

static void ask(struct querier *querier, struct entry *entry) {
  static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, nobody[6] = {0};
  uint64_t now = click_now_ns();
  if (entry->asked_ns != 0 && now - entry->asked_ns < QUERY_NS) return;
  struct packet *query = packet_new(PACKET_HEADROOM, ARP_FRAME_BYTES);
  if (query == NULL) return;
  entry->asked_ns = now == 0 ? 1 : now;
  arp_write(query->data, ARP_REQUEST, everybody, querier->ether, querier->ip, nobody, entry->ip);
  query->type = PACKET_BROADCAST;
  querier->queries++;
  element_push_one(&querier->element, querier->element.output_count > 1 ? 1 : 0, query);
}

static bool encapsulate(const struct querier *querier, struct packet *packet, const uint8_t *to) {
  if (!packet_push(packet, 14)) return false;
  memcpy(packet->data, to, 6);
  memcpy(packet->data + 6, querier->ether, 6);
  put16(packet->data + 12, 0x0800);
  return true;
}

static void drop(struct querier *querier, struct packet *packet) {
  querier->drops++;
  packet_free(packet);
}

static void wait(struct querier *querier, struct entry *entry, struct packet *packet) {
  if (querier->entry_capacity != 0 && entry->waiting.count >= querier->entry_capacity) {
    /* The oldest of its own gives way. */
    querier->waiting--;
    drop(querier, batch_take(&entry->waiting));
  }
  if (querier->waiting >= querier->capacity) {
    drop(querier, packet);
    return;
  }
  if (entry->waiting.count == 0) entry->since_ns = click_now_ns();
  batch_add(&entry->waiting, packet);
  querier->waiting++;
}

enum outcome { READY, KEPT, REFUSED };

static enum outcome encapsulated(const struct querier *querier, struct packet *packet, const uint8_t *to) { return encapsulate(querier, packet, to) ? READY : REFUSED; }

/* One IP packet. READY: it has its header and may go. */
static enum outcome send(struct querier *querier, struct packet *packet) {
  static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  uint32_t to = packet->destination_ip;
  uint8_t bytes[4], group[6];
  memcpy(bytes, &to, 4);
  if (to == 0) return REFUSED;
  if (to == 0xffffffff || to == querier->broadcast) return encapsulated(querier, packet, everybody);
  if (bytes[0] >= 224 && bytes[0] < 240) { /* RFC 1112, 6.4 */
    memcpy(group, (const uint8_t[6]){0x01, 0x00, 0x5e, bytes[1] & 0x7f, bytes[2], bytes[3]}, 6);
    return encapsulated(querier, packet, group);
  }
  struct entry *entry = find_or_add(querier, to);
  if (entry == NULL) return REFUSED;
  uint64_t age = click_now_ns() - entry->heard_ns;
  if (entry->known && querier->timeout_ns != 0 && age > querier->timeout_ns) entry->known = false;
  if (entry->known) {
    if (querier->poll_ns != 0 && age > querier->poll_ns) ask(querier, entry);
    return encapsulated(querier, packet, entry->ether);
  }
  wait(querier, entry, packet);
  ask(querier, entry);
  return KEPT;
}

static void push_packets(struct querier *querier, struct batch *batch) {
  struct batch kept = BATCH_EMPTY;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    enum outcome outcome = send(querier, packet);
    if (outcome == READY) batch_add(&kept, packet);
    else if (outcome == REFUSED) drop(querier, packet);
  }
  element_push(&querier->element, 0, &kept);
}

static void push_answers(struct querier *querier, struct batch *batch) {
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    enum arp_operation operation = arp_read(packet);
    uint32_t ip = operation == ARP_NONE ? 0 : arp_sender_ip(packet);
    /* A group's address or nobody's is no station's. */
    struct entry *entry = operation != ARP_REPLY || ip == 0 || ip == querier->ip || (arp_sender(packet)[0] & 1) ? NULL : find_or_add(querier, ip);
    if (entry != NULL) {
      struct batch waiting = entry->waiting, ready = BATCH_EMPTY;
      querier->responses++;
      memcpy(entry->ether, arp_sender(packet), 6);
      entry->known = true;
      entry->heard_ns = click_now_ns();
      entry->asked_ns = 0;
      entry->waiting = BATCH_EMPTY;
      querier->waiting -= waiting.count;
      for (struct packet *one; (one = batch_take(&waiting)) != NULL;) {
        if (encapsulate(querier, one, entry->ether)) batch_add(&ready, one);
        else drop(querier, one);
      }
      element_push(&querier->element, 0, &ready);
    }
    packet_free(packet);
  }
}

static void push(struct element *element, unsigned input, struct batch *batch) {
  if (input == 0) push_packets((struct querier *)element, batch);
  else push_answers((struct querier *)element, batch);
}

static void forget(struct querier *querier, struct entry **at) {
  struct entry *entry = *at;
  *at = entry->next;
  querier->waiting -= entry->waiting.count;
  querier->drops += entry->waiting.count;
  batch_free(&entry->waiting);
  querier->entry_count--;
  shoal_free(entry);
}

/* Each second while it knows or awaits something. */
static void timer(struct element *element) {
  struct querier *querier = (struct querier *)element;
  uint64_t now = click_now_ns();
  for (unsigned i = 0; i < BUCKETS; i++) {
    for (struct entry **at = &querier->buckets[i]; *at != NULL;) {
      struct entry *entry = *at;
      bool old = entry->known ? querier->timeout_ns != 0 && now - entry->heard_ns > querier->timeout_ns : entry->waiting.count == 0 || now - entry->since_ns > WAIT_NS;
      if (old) {
        forget(querier, at);
        continue;
      }
      if (entry->waiting.count > 0) ask(querier, entry);
      at = &entry->next;
    }
  }
  if (querier->entry_count > 0) element_timer_set(element, now + SECOND_NS);
}

static void take_state(struct element *element, struct element *old) {
  struct querier *querier = (struct querier *)element, *before = (struct querier *)old;
  if (querier->ip != before->ip || memcmp(querier->ether, before->ether, 6) != 0) return;
  memcpy(querier->buckets, before->buckets, sizeof querier->buckets);
  memset(before->buckets, 0, sizeof before->buckets);
  querier->entry_count = before->entry_count;
  querier->waiting = before->waiting;
  querier->queries = before->queries;
  querier->responses = before->responses;
  querier->drops = before->drops;
  before->entry_count = before->waiting = 0;
}

static void start(struct element *element) {
  if (((struct querier *)element)->entry_count > 0) element_timer_set(element, click_now_ns() + SECOND_NS);
}

static void cleanup(struct element *element) {
  struct querier *querier = (struct querier *)element;
  for (unsigned i = 0; i < BUCKETS; i++) {
    while (querier->buckets[i] != NULL) forget(querier, &querier->buckets[i]);
  }
}

static void read_table(struct element *element, struct output *out) {
  struct querier *querier = (struct querier *)element;
  for (unsigned i = 0; i < BUCKETS; i++) {
    for (const struct entry *entry = querier->buckets[i]; entry != NULL; entry = entry->next) {
      output_ip4(out, entry->ip);
      output_print(out, " %s ", entry->known ? "1" : "0");
      output_ether(out, entry->ether);
      output_print(out, " %u\n", entry->waiting.count);
    }
  }
}

static void read_stats(struct element *element, struct output *out) {
  const struct querier *querier = (struct querier *)element;
  output_print(out, "%llu packets killed\n%llu ARP queries sent\n%llu ARP answers heard\n", (unsigned long long)querier->drops, (unsigned long long)querier->queries,
               (unsigned long long)querier->responses);
}
static void read_drops(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct querier *)element)->drops); }
static void read_queries(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct querier *)element)->queries); }
static void read_responses(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct querier *)element)->responses); }
static void read_length(struct element *element, struct output *out) { output_print(out, "%u", ((struct querier *)element)->waiting); }
static void read_count(struct element *element, struct output *out) { output_print(out, "%u", ((struct querier *)element)->entry_count); }

static bool clear(struct element *element, struct slice value, struct output *why) {
  (void)value, (void)why;
  cleanup(element);
  return true;
}

static bool insert(struct element *element, struct slice value, struct output *why) {
  struct slice address, ether;
  uint32_t ip;
  uint8_t bytes[6];
  struct entry *entry;
  if (!parse_word(&value, &address) || !parse_word(&value, &ether) || !parse_ip4(address, &ip) || !parse_ether(ether, bytes) || (entry = find_or_add((struct querier *)element, ip)) == NULL) {
    output_print(why, "IP ETHER");
    return false;
  }
  memcpy(entry->ether, bytes, 6);
  entry->known = true;
  entry->heard_ns = click_now_ns();
  return true;
}

static const struct handler handlers[] = {{"table", read_table, NULL},   {"stats", read_stats, NULL},   {"drops", read_drops, NULL}, {"queries", read_queries, NULL}, {"responses", read_responses, NULL},
                                          {"length", read_length, NULL}, {"count", read_count, NULL},   {"clear", NULL, clear},      {"insert", NULL, insert},        {NULL, NULL, NULL}};
const struct element_class class_arp_querier = {.name = "ARPQuerier", .size_bytes = sizeof(struct querier), .ports = "2/1-2", .processing = "h/h", .configure = configure,
                                                .take_state = take_state, .start = start, .cleanup = cleanup, .push = push, .timer = timer, .handlers = handlers};
