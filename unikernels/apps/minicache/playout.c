/* See playout.h. */
#include "playout.h"
#include "config.h"
#include "key.h"
#include "meta.h"
#include "query.h"
#include "stream.h"
#include "lwip/etharp.h"

#define URL_BYTES 512u
#define SOURCE_PORT 5004u
#define GROUP_TTL 16u
#define SECONDS_MOST 86400u
#define BLOCK_BYTES STORE_CHUNK_BYTES
/* Who has the address is asked so often at first, then so often as long as it goes on. */
#define ASK_NS 200000000ull
#define ASKS_MOST 15u
#define ASK_AGAIN_NS 10000000000ull

enum state { FREE, ASKING, RUNNING, ENDED };

static struct playout {
  struct stream stream;
  struct stream_object from;
  struct stream_config config;
  struct shoal_timer timer;
  uint64_t until_ns, datagrams, bytes; /* of rounds that ended */
  uint32_t id, asks;
  uint8_t state;
  const char *how; /* it ended */
  char url[URL_BYTES];
  size_t url_length;
} all[PLAYOUTS_MOST];
static uint32_t last_id;

/* ---- to whom ---- */

static bool is_group(uint32_t address) { return address >> 28 == 0xe; }

/* The MAC of the next hop, where it is known; else it is asked for. */
static bool find_mac(struct playout *one) {
  const struct stream_target *target = &one->config.target;
  ip4_addr_t to = {lwip_htonl(target->address)};
  struct eth_addr *mac;
  const ip4_addr_t *known;
  if (!ip4_addr_netcmp(&to, netif_ip4_addr(netif_default), netif_ip4_netmask(netif_default))) to = *netif_ip4_gw(netif_default);
  if (etharp_find_addr(netif_default, &to, &mac, &known) < 0) {
    etharp_query(netif_default, &to, NULL);
    return false;
  }
  memcpy(one->config.target.mac, mac->addr, 6);
  return true;
}

/* ---- the course ---- */

static void finish(struct playout *one, const char *how) {
  if (one->state == RUNNING) stream_close(&one->stream);
  shoal_timer_cancel(&one->timer);
  one->datagrams += one->stream.datagrams, one->bytes += one->stream.bytes;
  one->stream.datagrams = one->stream.bytes = 0;
  if (one->from.object != NULL) object_release(one->from.object);
  one->from.object = NULL;
  one->state = ENDED;
  one->how = how;
}

static void on_ended(struct stream *stream, int how) {
  struct playout *one = (struct playout *)((char *)stream - offsetof(struct playout, stream));
  if (how == STREAM_DONE && shoal_now_ns() < one->until_ns) {
    one->datagrams += stream->datagrams, one->bytes += stream->bytes;
    stream_open(stream, &one->config);
  } else {
    finish(one, how == STREAM_DONE ? "done" : how == STREAM_NOT_TS ? "not a transport stream" : "the object cannot be read");
  }
}

static void run(struct playout *one) {
  one->state = RUNNING;
  stream_open(&one->stream, &one->config);
}

static void on_timer(void *context) {
  struct playout *one = context;
  bool known = find_mac(one);
  if (one->state == RUNNING) {
    if (known) memcpy(one->stream.headers, one->config.target.mac, 6);
    shoal_timer_set(&one->timer, shoal_now_ns() + ASK_AGAIN_NS);
  } else if (known) {
    run(one);
    shoal_timer_set(&one->timer, shoal_now_ns() + ASK_AGAIN_NS);
  } else if (++one->asks < ASKS_MOST) {
    shoal_timer_set(&one->timer, shoal_now_ns() + ASK_NS);
  } else {
    finish(one, "nobody has this address");
  }
}

/* ---- requests ---- */

static bool read_target(struct slice query, struct stream_target *target) {
  char bytes[32], host[32];
  struct slice to, given;
  uint64_t port, ttl = 0;
  uint32_t address;
  if (!query_find(query, SLICE("to"), bytes, sizeof bytes, &to)) return false;
  size_t end = slice_find(to, ':');
  if (end == 0 || end >= sizeof host || !slice_number(slice_from(to, end + 1), 65535, &port) || port == 0) return false;
  memcpy(host, to.at, end);
  host[end] = '\0';
  if (!config_parse_ipv4(host, &address) || address == 0 || address == UINT32_MAX) return false;
  *target = (struct stream_target){.address = address, .port = (uint16_t)port, .source_port = SOURCE_PORT};
  if (query_find(query, SLICE("ttl"), bytes, sizeof bytes, &given)) {
    if (!slice_number(given, 255, &ttl) || ttl == 0) return false;
  } else if (is_group(address)) {
    ttl = GROUP_TTL;
  }
  target->ttl = (uint8_t)ttl;
  target->source_address = lwip_ntohl(netif_ip4_addr(netif_default)->addr);
  memcpy(target->source_mac, netif_default->hwaddr, 6);
  if (is_group(address)) stream_group_mac(address, target->mac);
  return true;
}

static bool read_manner(struct slice query, struct playout *one) {
  char bytes[16];
  struct slice given;
  uint64_t seconds = 0;
  one->config.mode = STREAM_TS;
  one->config.paced = true;
  if (query_find(query, SLICE("mode"), bytes, sizeof bytes, &given)) {
    if (slice_equal(given, SLICE("rtp"))) one->config.mode = STREAM_RTP;
    else if (slice_equal(given, SLICE("plain"))) one->config.mode = STREAM_PLAIN;
    else if (!slice_equal(given, SLICE("ts"))) return false;
  }
  if (query_find(query, SLICE("paced"), bytes, sizeof bytes, &given)) one->config.paced = !slice_equal(given, SLICE("0"));
  if (query_find(query, SLICE("seconds"), bytes, sizeof bytes, &given) && !slice_number(given, SECONDS_MOST, &seconds)) return false;
  one->until_ns = seconds == 0 ? 0 : shoal_now_ns() + seconds * 1000000000ull;
  return true;
}

/* A whole 200 that is kept under the URL, held; of one that varies none. */
static struct object *find(struct slice url) {
  uint8_t key[STORE_KEY_BYTES];
  struct kept kept;
  size_t length, host = slice_find(url, '/');
  if (host == url.length) return NULL;
  key_of_url(key, (struct slice){url.at, host}, slice_from(url, host));
  struct object *object = store_find(cache.store, key);
  if (object == NULL) return NULL;
  const void *meta = object_meta(object, &length);
  if (meta_read(&kept, meta, length) && !(kept.meta.flags & META_MARKER) && kept.meta.status == 200 && object_state(object) == 1 && object_length(object) > 0) return object;
  object_release(object);
  return NULL;
}

static struct playout *free_place(void) {
  struct playout *oldest = NULL;
  for (struct playout *one = all; one < all + PLAYOUTS_MOST; one++) {
    if (one->state == FREE) return one;
    if (one->state == ENDED && (oldest == NULL || one->id < oldest->id)) oldest = one;
  }
  return oldest;
}

uint16_t playout_begin(struct slice query, uint32_t *id) {
  struct stream_target target;
  struct slice url;
  struct playout *one = free_place();
  if (one == NULL) return 503;
  memset(one, 0, sizeof *one);
  if (!read_target(query, &target) || !read_manner(query, one) || !query_find(query, SLICE("url"), one->url, sizeof one->url, &url)) return 400;
  one->from.object = find(url);
  if (one->from.object == NULL) return 404;
  one->url_length = url.length;
  one->config.net = shoal_ip_device();
  one->config.source = stream_from_object(&one->from);
  one->config.context = &one->from;
  one->config.block_bytes = BLOCK_BYTES;
  one->config.target = target;
  one->config.ended = on_ended;
  one->timer = (struct shoal_timer){.fire = on_timer, .context = one};
  one->id = *id = ++last_id;
  one->state = ASKING;
  if (is_group(target.address)) run(one);
  else shoal_timer_set(&one->timer, 0);
  return 0;
}

bool playout_end(uint32_t id) {
  for (struct playout *one = all; one < all + PLAYOUTS_MOST; one++) {
    if (one->state == FREE || one->id != id) continue;
    if (one->state != ENDED) finish(one, "ended");
    return true;
  }
  return false;
}

void playout_list(struct text *text) {
  bool first = true;
  text_literal(text, "[");
  for (const struct playout *one = all; one < all + PLAYOUTS_MOST; one++) {
    if (one->state == FREE) continue;
    if (!first) text_literal(text, ",");
    first = false;
    text_literal(text, "{\"id\":");
    text_number(text, one->id);
    text_literal(text, ",\"url\":\"");
    text_json(text, (struct slice){one->url, one->url_length});
    text_literal(text, "\",\"state\":\"");
    const char *state = one->state == ASKING ? "asking" : one->state == RUNNING ? "running" : one->how;
    text_bytes(text, state, strlen(state));
    text_literal(text, "\",\"datagrams\":");
    text_number(text, one->datagrams + one->stream.datagrams);
    text_literal(text, ",\"bytes\":");
    text_number(text, one->bytes + one->stream.bytes);
    text_literal(text, "}");
  }
  text_literal(text, "]");
}

void playouts_writable(void) {
  for (struct playout *one = all; one < all + PLAYOUTS_MOST; one++)
    if (one->state == RUNNING) stream_writable(&one->stream);
}

void playouts_end(void) {
  for (struct playout *one = all; one < all + PLAYOUTS_MOST; one++)
    if (one->state == ASKING || one->state == RUNNING) finish(one, "the guest goes on elsewhere");
}
