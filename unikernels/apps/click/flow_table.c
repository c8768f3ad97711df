/* The table of flows. */
#include "flow_table.h"

bool flow_table_start(struct flow_table *table, uint32_t capacity) {
  uint32_t size = 64;
  memset(table, 0, sizeof *table);
  while (size < capacity * 2 && size < FLOWS_MAX * 2) size *= 2;
  table->capacity = capacity;
  table->mask = size - 1;
  table->unused = FLOW_NONE;
  for (unsigned i = 0; i < FLOW_KINDS; i++) table->oldest[i] = table->newest[i] = FLOW_NONE;
  shoal_random(table->key, sizeof table->key);
  size_t blocks = ((capacity + FLOW_BLOCK - 1) / FLOW_BLOCK) * sizeof *table->blocks;
  table->blocks = shoal_alloc(blocks);
  table->heads = shoal_alloc(size * sizeof *table->heads);
  if (table->blocks == NULL || table->heads == NULL) {
    flow_table_end(table);
    return false;
  }
  memset(table->blocks, 0, blocks);
  memset(table->heads, 0xff, size * sizeof *table->heads);
  return true;
}

void flow_table_end(struct flow_table *table) {
  for (uint32_t i = 0; table->blocks != NULL && i < (table->made + FLOW_BLOCK - 1) / FLOW_BLOCK; i++) shoal_free(table->blocks[i]);
  shoal_free(table->blocks);
  shoal_free(table->heads);
  memset(table, 0, sizeof *table);
}

/* Keyed, so that nobody can choose flows that meet: two rounds of multiplication whose high half is folded in. */
static uint64_t mix(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t hash(const struct flow_table *table, uint8_t protocol, const struct flow_tuple *tuple) {
  uint64_t addresses = (uint64_t)tuple->source << 32 | tuple->destination;
  uint64_t rest = (uint64_t)protocol << 32 | (uint32_t)tuple->source_port << 16 | tuple->destination_port;
  return (uint32_t)mix(mix(addresses ^ table->key[0], 0x9e3779b97f4a7c15ull) ^ table->key[1], rest ^ 0xd6e8feb86659fd93ull ^ table->key[0]) & table->mask;
}

static bool same(const struct flow_tuple *a, const struct flow_tuple *b) {
  return a->source == b->source && a->destination == b->destination && a->source_port == b->source_port && a->destination_port == b->destination_port;
}

static bool is_over(const struct flow_table *table, const struct flow *flow, uint64_t now_ns) { return now_ns >= flow->used_ns && now_ns - flow->used_ns >= table->timeouts_ns[flow->kind]; }

uint32_t flow_find(struct flow_table *table, uint8_t protocol, const struct flow_tuple *tuple, uint64_t now_ns, enum flow_direction *direction) {
  uint32_t link = table->heads[hash(table, protocol, tuple)];
  while (link != FLOW_NONE) {
    struct flow *flow = flow_at(table, link / 2);
    unsigned way = link & 1;
    if (flow->protocol == protocol && same(&flow->tuples[way], tuple)) {
      if (is_over(table, flow, now_ns)) {
        flow_remove(table, link / 2);
        table->expired++;
        return FLOW_NONE;
      }
      *direction = (enum flow_direction)way;
      return link / 2;
    }
    link = flow->next[way];
  }
  return FLOW_NONE;
}

static void list_out(struct flow_table *table, uint32_t index) {
  struct flow *flow = flow_at(table, index);
  if (flow->older == FLOW_NONE) table->oldest[flow->kind] = flow->newer;
  else flow_at(table, flow->older)->newer = flow->newer;
  if (flow->newer == FLOW_NONE) table->newest[flow->kind] = flow->older;
  else flow_at(table, flow->newer)->older = flow->older;
}

static void list_in(struct flow_table *table, uint32_t index, enum flow_kind kind, uint64_t now_ns) {
  struct flow *flow = flow_at(table, index);
  flow->kind = (uint8_t)kind;
  flow->used_ns = now_ns;
  flow->newer = FLOW_NONE;
  flow->older = table->newest[kind];
  if (flow->older == FLOW_NONE) table->oldest[kind] = index;
  else flow_at(table, flow->older)->newer = index;
  table->newest[kind] = index;
}

void flow_use(struct flow_table *table, uint32_t index, enum flow_kind kind, uint64_t now_ns) {
  list_out(table, index);
  list_in(table, index, kind, now_ns);
}

static void chain_out(struct flow_table *table, uint32_t index, unsigned way) {
  struct flow *flow = flow_at(table, index);
  uint32_t *at = &table->heads[hash(table, flow->protocol, &flow->tuples[way])], wanted = index * 2 + way;
  while (*at != wanted) at = &flow_at(table, *at / 2)->next[*at & 1];
  *at = flow->next[way];
}

void flow_remove(struct flow_table *table, uint32_t index) {
  chain_out(table, index, FLOW_FORWARD);
  chain_out(table, index, FLOW_REPLY);
  list_out(table, index);
  flow_at(table, index)->older = table->unused;
  table->unused = index;
  table->count--;
}

void flow_expire(struct flow_table *table, uint64_t now_ns, unsigned most) {
  for (unsigned kind = 0; kind < FLOW_KINDS; kind++) {
    while (most > 0 && table->oldest[kind] != FLOW_NONE && is_over(table, flow_at(table, table->oldest[kind]), now_ns)) {
      flow_remove(table, table->oldest[kind]);
      table->expired++;
      most--;
    }
  }
}

/* Of the oldest of each kind the one that has least of its time left. */
static void evict(struct flow_table *table, uint64_t now_ns) {
  uint32_t best = FLOW_NONE;
  uint64_t best_left = UINT64_MAX;
  for (unsigned kind = 0; kind < FLOW_KINDS; kind++) {
    uint32_t index = table->oldest[kind];
    if (index == FLOW_NONE) continue;
    uint64_t idle = now_ns - flow_at(table, index)->used_ns;
    uint64_t left = idle >= table->timeouts_ns[kind] ? 0 : table->timeouts_ns[kind] - idle;
    if (left > 0 && idle < table->guarantee_ns) continue;
    if (left < best_left) best = index, best_left = left;
  }
  if (best == FLOW_NONE) return;
  flow_remove(table, best);
  table->evicted++;
}

static uint32_t take_unused(struct flow_table *table) {
  uint32_t index = table->unused;
  if (index != FLOW_NONE) {
    table->unused = flow_at(table, index)->older;
    return index;
  }
  if (table->made == table->capacity) return FLOW_NONE;
  if (table->made % FLOW_BLOCK == 0) {
    struct flow *block = shoal_alloc(FLOW_BLOCK * sizeof *block);
    if (block == NULL) return FLOW_NONE;
    table->blocks[table->made / FLOW_BLOCK] = block;
  }
  return table->made++;
}

uint32_t flow_add(struct flow_table *table, uint8_t protocol, const struct flow_tuple *forward, const struct flow_tuple *reply, enum flow_kind kind, uint64_t now_ns) {
  uint32_t index = take_unused(table);
  if (index == FLOW_NONE) {
    evict(table, now_ns);
    index = take_unused(table);
  }
  if (index == FLOW_NONE) {
    table->refused++;
    return FLOW_NONE;
  }
  struct flow *flow = flow_at(table, index);
  memset(flow, 0, sizeof *flow);
  flow->protocol = protocol;
  flow->tuples[FLOW_FORWARD] = *forward;
  flow->tuples[FLOW_REPLY] = *reply;
  for (unsigned way = 0; way < 2; way++) {
    uint32_t *head = &table->heads[hash(table, protocol, &flow->tuples[way])];
    flow->next[way] = *head;
    *head = index * 2 + way;
  }
  list_in(table, index, kind, now_ns);
  table->count++;
  return index;
}
