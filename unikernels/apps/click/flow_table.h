/*
 * Flows of a translator: for each what its packets look like as they come from either side, and what becomes of them. Bounded; found by a keyed
 * hash; those that are idle too long go, in the order in which they were used. Pure but for memory and the key.
 */
#ifndef CLICK_FLOW_TABLE_H
#define CLICK_FLOW_TABLE_H

#include "shoal.h"

/* As they lie in headers. Pings have their identifier as the port of who asks, 0 at the other end. */
struct flow_tuple {
  uint32_t source, destination;
  uint16_t source_port, destination_port;
};

/* One list a kind, each with its own time. */
enum flow_kind { FLOW_TCP, FLOW_TCP_NO_DATA, FLOW_TCP_DONE, FLOW_UDP, FLOW_UDP_STREAM, FLOW_PING, FLOW_KINDS };

enum flow_direction { FLOW_FORWARD, FLOW_REPLY };

struct flow {
  /* How packets of that direction come. What leaves in one is the reverse of what comes in the other. */
  struct flow_tuple tuples[2];
  uint64_t used_ns;
  uint32_t next[2];         /* in the hash, by direction; FLOW_NONE: the end */
  uint32_t older, newer;    /* in the list of its kind */
  uint16_t outputs[2];
  uint8_t protocol, kind, input;
  uint8_t seen;             /* bits of the translator's own */
};

#define FLOW_NONE 0xffffffffu
#define FLOWS_MAX 1048576u
#define FLOW_BLOCK 256u /* flows that are allocated at once */

struct flow_table {
  struct flow **blocks;
  uint32_t *heads; /* 2 * flow + direction */
  uint32_t capacity, mask, made, count, unused;
  uint32_t oldest[FLOW_KINDS], newest[FLOW_KINDS];
  uint64_t key[2];
  uint64_t timeouts_ns[FLOW_KINDS], guarantee_ns;
  uint64_t expired, evicted, refused;
};

/* `timeouts_ns` and `guarantee_ns` are set after it. False: no memory. */
bool flow_table_start(struct flow_table *table, uint32_t capacity);
void flow_table_end(struct flow_table *table);

static inline struct flow *flow_at(const struct flow_table *table, uint32_t index) { return &table->blocks[index / FLOW_BLOCK][index % FLOW_BLOCK]; }
static inline struct flow_tuple flow_reverse(struct flow_tuple tuple) {
  return (struct flow_tuple){tuple.destination, tuple.source, tuple.destination_port, tuple.source_port};
}

/* The flow whose packets come so, with the direction; FLOW_NONE. One whose time is over is not found. */
uint32_t flow_find(struct flow_table *table, uint8_t protocol, const struct flow_tuple *tuple, uint64_t now_ns, enum flow_direction *direction);
/* A new one; neither tuple is there yet. When all are used, the one that is nearest to its end goes, if it was not used for the guarantee.
 * FLOW_NONE: there is none, counted as refused. */
uint32_t flow_add(struct flow_table *table, uint8_t protocol, const struct flow_tuple *forward, const struct flow_tuple *reply, enum flow_kind kind, uint64_t now_ns);
/* It was used now, and is of that kind from now on. */
void flow_use(struct flow_table *table, uint32_t index, enum flow_kind kind, uint64_t now_ns);
void flow_remove(struct flow_table *table, uint32_t index);
/* At most `most` flows whose time is over go. */
void flow_expire(struct flow_table *table, uint64_t now_ns, unsigned most);

#endif
