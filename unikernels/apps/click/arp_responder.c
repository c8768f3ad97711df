/* ARPResponder(PREFIX... ETHER, ...): answers requests for its addresses; of several prefixes the longest counts. Others go out of output 1. */
#include "arp.h"
#include "element.h"

#define ENTRIES_MAX 65536u

struct entry {
  uint32_t address, mask; /* as in headers */
  uint8_t ether[6];
};

struct responder {
  struct element element;
  struct entry *entries; /* longest masks first */
  uint32_t count;
};

/* "PREFIX... ETHER"; adds to `entries` unless NULL; returns how many, 0 when malformed. */
static uint32_t read_entry(struct slice text, struct entry *entries) {
  struct slice word, rest = text, last = {NULL, 0};
  uint8_t ether[6];
  uint32_t count = 0, words = 0;
  for (; parse_word(&rest, &word); words++) last = word;
  if (words < 2 || !parse_ether(last, ether)) return 0;
  for (rest = text; count + 1 < words && parse_word(&rest, &word); count++) {
    struct entry entry;
    if (!parse_prefix4(word, &entry.address, &entry.mask)) return 0;
    entry.address &= entry.mask;
    memcpy(entry.ether, ether, 6);
    if (entries != NULL) entries[count] = entry;
  }
  return count;
}

static bool configure(struct element *element, struct arguments *arguments) {
  struct responder *responder = (struct responder *)element;
  struct slice text;
  for (uint32_t i = 0; i < arguments->count; i++) {
    uint32_t count = read_entry(arguments->all[i].text, NULL);
    arguments->current = i;
    if (count == 0) return arguments_error(arguments, "'%.*s' is not PREFIX... ETHER", (int)(arguments->all[i].text.length < 60 ? arguments->all[i].text.length : 60), arguments->all[i].text.at);
    responder->count += count;
    if (responder->count > ENTRIES_MAX) return arguments_error(arguments, "more than %u prefixes", ENTRIES_MAX);
  }
  responder->entries = element_alloc(element, responder->count * sizeof *responder->entries + 1);
  if (responder->entries == NULL) return arguments_error(arguments, "no memory");
  for (uint32_t at = 0; arguments_rest(arguments, &text);) at += read_entry(text, responder->entries + at);
  /* Insertion, so that equals stay in order; configurations have few. */
  for (uint32_t i = 1; i < responder->count; i++) {
    struct entry entry = responder->entries[i];
    uint32_t to = i;
    for (; to > 0 && swap32(responder->entries[to - 1].mask) < swap32(entry.mask); to--) responder->entries[to] = responder->entries[to - 1];
    responder->entries[to] = entry;
  }
  return arguments_end(arguments);
}

static const struct entry *find(const struct responder *responder, uint32_t address) {
  for (uint32_t i = 0; i < responder->count; i++) {
    if (((address ^ responder->entries[i].address) & responder->entries[i].mask) == 0) return &responder->entries[i];
  }
  return NULL;
}

static void action(struct element *element, struct batch *batch) {
  struct batch kept = BATCH_EMPTY;
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    const struct entry *entry = arp_read(packet) == ARP_REQUEST ? find((struct responder *)element, arp_target_ip(packet)) : NULL;
    /* Who asks for its own address only announces it. */
    if (entry == NULL || arp_sender_ip(packet) == arp_target_ip(packet)) {
      element_reject(element, packet);
      continue;
    }
    uint8_t asker[6];
    uint32_t asker_ip = arp_sender_ip(packet), address = arp_target_ip(packet);
    memcpy(asker, arp_sender(packet), 6);
    packet_take(packet, packet->length - ARP_FRAME_BYTES);
    arp_write(packet->data, ARP_REPLY, asker, entry->ether, address, asker, asker_ip);
    batch_add(&kept, packet);
  }
  *batch = kept;
}

static void read_table(struct element *element, struct output *out) {
  const struct responder *responder = (struct responder *)element;
  for (uint32_t i = 0; i < responder->count; i++) {
    output_ip4(out, responder->entries[i].address);
    output_print(out, "/");
    output_ip4(out, responder->entries[i].mask);
    output_print(out, " ");
    output_ether(out, responder->entries[i].ether);
    output_print(out, "\n");
  }
}

static const struct handler handlers[] = {{"table", read_table, NULL}, {NULL, NULL, NULL}};
const struct element_class class_arp_responder = {.name = "ARPResponder", .size_bytes = sizeof(struct responder), .ports = "1/1-2", .processing = "a/ah", .configure = configure,
                                                  .action = action, .handlers = handlers};
