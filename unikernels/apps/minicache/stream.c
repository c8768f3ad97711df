/* See stream.h: the loop. */
#include "stream.h"

enum { SLOT_EMPTY, SLOT_AWAITED, SLOT_THERE };

/* Datagrams in one turn, so that other streams and timers have theirs. */
#define TURN_DATAGRAMS 256u
/* A paced stream sends what is due within so long at once. */
#define EARLY_NS 1000000ull

static struct stream_slot *slot_at(struct stream *stream, unsigned index) { return &stream->slots[(stream->first + index) % STREAM_SLOTS]; }

static void end(struct stream *stream, int how) {
  stream_close(stream);
  stream->state = how;
  if (stream->ended != NULL) stream->ended(stream, how);
}

static void there(struct stream *stream, struct stream_slot *slot, const struct stream_block *block) {
  uint64_t rest = stream->source.length - slot->offset;
  slot->block = *block;
  if (slot->block.length > rest) slot->block.length = (uint32_t)rest;
  slot->state = SLOT_THERE;
  if (stream->source.in_order) stream->asked = slot->offset + slot->block.length;
}

/* False when the stream has ended by it. */
static bool submit_reads(struct stream *stream) {
  while (stream->count < STREAM_SLOTS && stream->asked < stream->source.length) {
    if (stream->source.in_order && stream->count > 0 && slot_at(stream, stream->count - 1)->state == SLOT_AWAITED) break;
    struct stream_slot *slot = slot_at(stream, stream->count);
    uint64_t rest = stream->source.length - stream->asked;
    uint32_t most = rest < stream->block_bytes ? (uint32_t)rest : stream->block_bytes;
    *slot = (struct stream_slot){.state = SLOT_AWAITED, .offset = stream->asked};
    stream->count++;
    struct stream_block block = {0};
    int status = stream->source.take(stream, (unsigned)(slot - stream->slots), slot->offset, most, &block);
    if (status < 0) {
      stream->count--;
      slot->state = SLOT_EMPTY;
      end(stream, STREAM_READ_FAILED);
      return false;
    }
    if (!stream->source.in_order) stream->asked += most;
    if (status == 1) there(stream, slot, &block);
  }
  return true;
}

void stream_arrived(struct stream *stream, unsigned which, int status, const struct stream_block *block) {
  struct stream_slot *slot = &stream->slots[which];
  if (status != 1) {
    slot->block.lent = block->lent;
    slot->state = SLOT_EMPTY;
    end(stream, STREAM_READ_FAILED);
    return;
  }
  there(stream, slot, block);
  shoal_timer_set(&stream->timer, 0);
}

/* Bytes that can be sent, in the blocks that are there one after the other; looks no further than `most`. */
static uint32_t there_bytes(struct stream *stream, uint32_t most) {
  uint32_t bytes = 0;
  for (unsigned i = 0; i < stream->count && bytes < most; i++) {
    struct stream_slot *slot = slot_at(stream, i);
    if (slot->state != SLOT_THERE) break;
    bytes += slot->block.length - (i == 0 ? stream->used_bytes : 0);
  }
  return bytes < most ? bytes : most;
}

static void give_first(struct stream *stream) {
  struct stream_slot *slot = slot_at(stream, 0);
  slot->state = SLOT_EMPTY;
  stream->first = (stream->first + 1) % STREAM_SLOTS;
  stream->count--;
  stream->used_bytes = 0;
  stream->source.give(stream, (unsigned)(slot - stream->slots), &slot->block);
}

/* Copies the next bytes of the body: the one copy there is. */
static void copy_payload(struct stream *stream, uint8_t *to, uint32_t bytes) {
  while (bytes > 0) {
    struct stream_slot *slot = slot_at(stream, 0);
    uint32_t rest = slot->block.length - stream->used_bytes, take = rest < bytes ? rest : bytes;
    memcpy(to, slot->block.data + stream->used_bytes, take);
    to += take, bytes -= take;
    stream->used_bytes += take;
    stream->position += take;
    if (stream->used_bytes == slot->block.length) give_first(stream);
  }
}

/* The clock needs a look at the payload; in the device's buffer it lies in a row. A copy that turns out not to be due stays there: the
 * device gives the same room again. */
static bool look_at_packets(struct stream *stream, const uint8_t *payload, uint32_t bytes, uint64_t position) {
  for (uint32_t at = 0; at < bytes; at += STREAM_TS_BYTES) {
    if (bytes - at < STREAM_TS_BYTES || !stream_pace_packet(&stream->pace, payload + at, position + at)) return false;
  }
  return true;
}

/* When the next datagram is to go: by what is known before it is looked at. */
static bool is_due(struct stream *stream, uint64_t now_ns) {
  if (!stream->paced || !stream->pace.has_clock) return true;
  uint64_t due = stream->started_ns + stream_pace_due_ns(&stream->pace, stream->position);
  if (due <= now_ns + EARLY_NS) return true;
  shoal_timer_set(&stream->timer, due - EARLY_NS / 2);
  return false;
}

static void turn(void *context) {
  struct stream *stream = context;
  uint64_t now_ns = stream->paced || stream->mode == STREAM_RTP ? shoal_now_ns() : 0;
  for (unsigned sent = 0; stream->state == STREAM_RUNS; sent++) {
    if ((stream->count < STREAM_SLOTS / 2 + 1 || sent == 0) && !submit_reads(stream)) return;
    uint64_t rest = stream->source.length - stream->position;
    uint32_t bytes = rest < stream->payload_bytes ? (uint32_t)rest : stream->payload_bytes;
    if (bytes == 0) {
      end(stream, STREAM_DONE);
      return;
    }
    if (there_bytes(stream, bytes) < bytes) return; /* stream_arrived */
    if (stream->position == 0) stream->started_ns = now_ns;
    if (stream->paced && stream->position == 0) stream_pace_prime(&stream->pace, slot_at(stream, 0)->block.data, slot_at(stream, 0)->block.length);
    if (!is_due(stream, now_ns)) return; /* the timer */
    if (sent == TURN_DATAGRAMS) break;
    uint8_t *frame = shoal_net_reserve(stream->net);
    if (frame == NULL) return; /* stream_writable */
    uint64_t position = stream->position;
    copy_payload(stream, frame + stream->header_bytes, bytes);
    if (stream->mode != STREAM_PLAIN && !look_at_packets(stream, frame + stream->header_bytes, bytes, position)) {
      end(stream, STREAM_NOT_TS);
      return;
    }
    uint32_t ticks = stream->mode != STREAM_RTP ? 0
                     : stream->paced ? (uint32_t)(stream_pace_due_ns(&stream->pace, position) * 9 / 100000)
                                     : (uint32_t)((now_ns - stream->started_ns) * 9 / 100000);
    stream_put_headers(stream, frame, bytes, ticks);
    shoal_net_commit(stream->net, stream->header_bytes + bytes, stream->blank_checksum ? SHOAL_NET_CSUM_BLANK : SHOAL_NET_CSUM_VALID);
    stream->datagrams++;
    stream->bytes += bytes;
  }
  /* Now, and not at 0: timers that were due before have their turn first. */
  if (stream->state == STREAM_RUNS) shoal_timer_set(&stream->timer, shoal_now_ns());
}

void stream_writable(struct stream *stream) {
  if (stream->state == STREAM_RUNS) shoal_timer_set(&stream->timer, 0);
}

bool stream_open(struct stream *stream, const struct stream_config *config) {
  if (config->block_bytes < STREAM_BLOCK_LEAST || config->block_bytes > STREAM_BLOCK_MOST || config->block_bytes % SHOAL_BLOCK_SECTOR_BYTES != 0 ||
      config->source.length == STORE_UNKNOWN) {
    return false;
  }
  memset(stream, 0, sizeof *stream);
  stream->net = config->net;
  stream->source = config->source;
  stream->context = config->context;
  stream->mode = config->mode;
  stream->block_bytes = config->block_bytes;
  stream->payload_bytes = config->mode == STREAM_PLAIN ? STREAM_PLAIN_BYTES : STREAM_TS_BYTES * STREAM_TS_PACKETS;
  stream->paced = config->paced && config->mode != STREAM_PLAIN;
  stream->ended = config->ended;
  stream->timer = (struct shoal_timer){.fire = turn, .context = stream};
  stream_make_headers(stream, &config->target);
  shoal_timer_set(&stream->timer, 0);
  return true;
}

void stream_close(struct stream *stream) {
  shoal_timer_cancel(&stream->timer);
  for (; stream->count > 0; stream->count--, stream->first = (stream->first + 1) % STREAM_SLOTS) {
    struct stream_slot *slot = slot_at(stream, 0);
    if (slot->state != SLOT_EMPTY) stream->source.give(stream, (unsigned)(slot - stream->slots), &slot->block);
    slot->state = SLOT_EMPTY;
  }
  stream->state = STREAM_DONE;
}
