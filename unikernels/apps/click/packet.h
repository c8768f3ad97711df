/*
 * Packets and batches of them. A packet is one buffer that belongs to one owner: whoever gets it (push, pull) passes it on or frees it,
 * and may write to all of it; Tee copies. Bytes lie at data[0 .. length), with room before and behind. All move in batches: a list
 * that is handed on as a whole.
 */
#ifndef CLICK_PACKET_H
#define CLICK_PACKET_H

#include "shoal.h"

/* Of a buffer, its header included; two share a page. */
#define PACKET_BUFFER_BYTES 2048u
/* Room that packets come with before their first byte: encapsulations need no copy. */
#define PACKET_HEADROOM 96u
/* Packets that one task moves at once. */
#define BATCH_PACKETS 32u

/* What the link said of whom the packet is for (Click's packet type annotation). */
enum packet_type { PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING };

struct packet {
  struct packet *next;
  uint8_t *data;
  uint8_t *network;   /* the IP header; NULL: nobody has marked it. Never trust it to be whole: an element may have cut the packet since */
  uint8_t *transport; /* behind the IP header, NULL likewise */
  uint32_t length;
  uint8_t paint;
  uint8_t type; /* enum packet_type */
  uint8_t device; /* it came by */
  bool fix_ip_source; /* Click's "fix IP source" annotation */
  /* Annotations; addresses as they lie in headers. */
  uint64_t timestamp_ns; /* since 1970; 0: none. Set by FromDevice and sources */
  union {
    uint32_t destination_ip; /* Click's destination IP annotation: the next hop; 0: none */
    uint8_t destination_ip6[16];
  };
  uint32_t aggregate, sequence, misc_ip;
  uint16_t vlan_tci;
  uint8_t user[14]; /* for elements that agree on a place among themselves */
};

_Static_assert(sizeof(struct packet) <= 128, "two cache lines");
/* Bytes of a buffer for data and both rooms. */
#define PACKET_ROOM (PACKET_BUFFER_BYTES - sizeof(struct packet))
/* The longest packet that is made or taken in: a frame, with a VLAN's tag. */
#define PACKET_BYTES_MAX 1600u
_Static_assert(PACKET_HEADROOM + PACKET_BYTES_MAX <= PACKET_ROOM, "a whole frame and its headroom");

struct batch {
  struct packet *first, *last;
  uint32_t count;
};
#define BATCH_EMPTY ((struct batch){NULL, NULL, 0})

/* ---- packets ---- */

/* Contents undefined, annotations 0, headers unmarked. NULL when there is none left, or headroom + length does not fit (PACKET_ROOM). */
struct packet *packet_new(uint32_t headroom, uint32_t length);
void packet_free(struct packet *packet);
/* Bytes, annotations, marks; NULL when there is no packet left. */
struct packet *packet_copy(const struct packet *packet);

static inline uint8_t *packet_room(const struct packet *packet) { return (uint8_t *)(uintptr_t)(packet + 1); }
static inline uint32_t packet_headroom(const struct packet *packet) { return (uint32_t)(packet->data - packet_room(packet)); }
static inline uint32_t packet_tailroom(const struct packet *packet) { return (uint32_t)(PACKET_ROOM - packet_headroom(packet) - packet->length); }
static inline uint8_t *packet_end(const struct packet *packet) { return packet->data + packet->length; }

/* Bytes from `at` (inside of the packet, or NULL) to its end; 0 when it is not inside any more. */
static inline uint32_t packet_bytes_from(const struct packet *packet, const uint8_t *at) {
  return at >= packet->data && at <= packet_end(packet) && at != NULL ? (uint32_t)(packet_end(packet) - at) : 0;
}

/* The length changes through these only (sanitizers know what lies outside). `push` and `put` make `bytes` more room, undefined, at the
 * front and the end, and return false, with nothing changed, when there is none (push moves the bytes when the room is at the other end); `pull`
 * and `take` cut there, false when it is not as long. Marks move with the bytes. */
bool packet_push(struct packet *packet, uint32_t bytes);
bool packet_put(struct packet *packet, uint32_t bytes);
bool packet_pull(struct packet *packet, uint32_t bytes);
bool packet_take(struct packet *packet, uint32_t bytes);

struct packet_counts {
  uint32_t in_use, limit; /* buffers */
  uint64_t made, refused; /* packet_new with one, without one */
};
struct packet_counts packet_counts(void);
/* At most so many buffers from now on; those in use stay. */
void packet_set_limit(uint32_t most);

/* ---- numbers in headers ---- */

static inline uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static inline uint32_t get32(const uint8_t *at) { return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]; }
static inline void put16(uint8_t *at, uint32_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static inline void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16), put16(at + 2, value); }
/* An IPv4 address as it lies there; equal and comparable, not ordered. */
static inline uint32_t get_ip4(const uint8_t *at) {
  uint32_t address;
  memcpy(&address, at, 4);
  return address;
}
static inline void put_ip4(uint8_t *at, uint32_t address) { memcpy(at, &address, 4); }
/* Between that and a number that is ordered. */
static inline uint32_t swap32(uint32_t value) { return __builtin_bswap32(value); }

/* RFC 1071: the sum of 16-bit words, big-endian, folded to 16 bits, not complemented; an odd last byte counts as a high one. `sum` goes on
 * from an earlier stretch of even length. */
uint32_t checksum_add(const uint8_t *bytes, size_t length, uint32_t sum);
/* What belongs into the field. */
static inline uint16_t checksum_end(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~((sum & 0xffff) + (sum >> 16));
}
/* RFC 1624 (equation 3): the field after a 16-bit word under it changed. */
static inline uint16_t checksum_update16(uint16_t field, uint16_t was, uint16_t is) {
  uint32_t sum = (uint16_t)~field + (uint32_t)(uint16_t)~was + is;
  return checksum_end(sum);
}

/* ---- batches ---- */

static inline void batch_add(struct batch *batch, struct packet *packet) {
  packet->next = NULL;
  if (batch->first == NULL) batch->first = packet;
  else batch->last->next = packet;
  batch->last = packet;
  batch->count++;
}

/* The first packet, taken out; NULL when there is none. */
static inline struct packet *batch_take(struct batch *batch) {
  struct packet *packet = batch->first;
  if (packet == NULL) return NULL;
  batch->first = packet->next;
  if (batch->first == NULL) batch->last = NULL;
  batch->count--;
  packet->next = NULL;
  return packet;
}

/* All of `from` behind those of `to`; `from` is empty then. */
static inline void batch_join(struct batch *to, struct batch *from) {
  if (from->first == NULL) return;
  if (to->first == NULL) to->first = from->first;
  else to->last->next = from->first;
  to->last = from->last;
  to->count += from->count;
  *from = BATCH_EMPTY;
}

/* The first `count` of `from`, at most, go behind those of `to`. */
void batch_move(struct batch *to, struct batch *from, uint32_t count);
/* Frees all; empty then. */
void batch_free(struct batch *batch);

/* Looks at each without taking it: `packet` is declared. */
#define BATCH_EACH(packet, batch) for (struct packet *packet = (batch)->first; packet != NULL; packet = packet->next)

#endif
