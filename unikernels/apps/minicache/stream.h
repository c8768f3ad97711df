/*
 * The packetizer: a body becomes UDP datagrams. One turn: blocks that have arrived are taken, reads of the next ones are submitted, payload is
 * copied (once) behind ready-made headers in the device's own buffers, and the device sends them. lwIP is not asked.
 *
 * Nothing is allocated once a stream is open. IPv4 only.
 */
#ifndef MINICACHE_STREAM_H
#define MINICACHE_STREAM_H

#include "shoal.h"
#include "store.h"

#define STREAM_BLOCK_LEAST 4096u
#define STREAM_BLOCK_MOST 262144u
#define STREAM_SLOTS 4u /* blocks of a stream that are there or on their way */
#define STREAM_TS_BYTES 188u
#define STREAM_TS_PACKETS 7u /* in a datagram: 1,316 bytes */
#define STREAM_PLAIN_BYTES 1024u
#define STREAM_HEADERS_MOST 54u /* Ethernet, IPv4, UDP, RTP */

enum stream_mode {
  STREAM_PLAIN, /* 1,024 bytes of body in a datagram, whatever they are */
  STREAM_TS,    /* seven packets of an MPEG transport stream */
  STREAM_RTP    /* the same behind an RTP header: payload type 33, RFC 2250 */
};

enum stream_end { STREAM_RUNS = 0, STREAM_DONE = 1, STREAM_READ_FAILED = -1, STREAM_NOT_TS = -2 };

struct stream_target {
  uint8_t source_mac[6], mac[6]; /* of a group: stream_group_mac */
  uint32_t source_address, address; /* IPv4, host byte order */
  uint16_t source_port, port;
  uint8_t ttl;
  bool blank_checksum; /* the other end of the device fills the UDP checksum in; else there is none (0: RFC 768) */
};

/* A block that a source has lent. */
struct stream_block {
  const uint8_t *data;
  uint32_t length;
  void *lent; /* the source's own */
};

struct stream;

/* Where the body comes from. */
struct stream_source {
  /* Wants the bytes from `offset` on, as many as suit the source, `most` at most: 1: *block is there; 0: stream_arrived comes later;
   * negative: never. `slot` names the wish. */
  int (*take)(struct stream *stream, unsigned slot, uint64_t offset, uint32_t most, struct stream_block *block);
  /* Done with it; also of one that has not arrived: then it must not arrive any more. */
  void (*give)(struct stream *stream, unsigned slot, struct stream_block *block);
  uint64_t length;
  /* The next block begins where one of unknown length ends: only one wish at a time. */
  bool in_order;
};

/* Pacing by the clock in the stream itself (PCR, ISO/IEC 13818-1 2.4.3.5): 27 MHz, of the first PID that has one. */
struct stream_pace {
  bool has_clock, has_rate;
  uint16_t pid;
  uint64_t clock, position;   /* of the last PCR: in ticks since the first one, and where its packet begins */
  uint64_t last_pcr;
  uint64_t ticks, bytes;      /* the rate between the last two */
};

struct stream {
  struct shoal_net *net;
  struct stream_source source;
  void *context; /* the source's */
  enum stream_mode mode;
  uint32_t block_bytes, payload_bytes, header_bytes;
  bool paced, blank_checksum;
  int state;
  void (*ended)(struct stream *stream, int how);
  uint8_t headers[STREAM_HEADERS_MOST];
  uint32_t address_sum; /* of the pseudo header, without the length */
  uint16_t ip_id, rtp_sequence;
  uint32_t rtp_base;
  struct stream_slot {
    uint8_t state; /* 0: empty; 1: awaited; 2: there */
    uint64_t offset;
    struct stream_block block;
  } slots[STREAM_SLOTS];
  unsigned first, count;  /* of the slots, a ring in the order of the body */
  uint32_t used_bytes;    /* of the first slot's block */
  uint64_t position, asked; /* next byte to send, next byte to ask for */
  struct stream_pace pace;
  uint64_t started_ns;
  struct shoal_timer timer;
  uint64_t datagrams, bytes;
};

struct stream_config {
  struct shoal_net *net;
  struct stream_source source;
  void *context;
  enum stream_mode mode;
  uint32_t block_bytes; /* 4 to 256 KiB */
  bool paced;           /* by PCR; else as fast as the device takes them */
  struct stream_target target;
  void (*ended)(struct stream *stream, int how); /* from the main loop, once */
};

/* False when the sizes are out of bounds. The stream begins in the next turn. */
bool stream_open(struct stream *stream, const struct stream_config *config);

/* Gives everything back; `ended` is not called any more. */
void stream_close(struct stream *stream);

/* From a source: the block of this slot is there (status 1) or will never be (negative). From the main loop. */
void stream_arrived(struct stream *stream, unsigned slot, int status, const struct stream_block *block);

/* The device has room again (shoal_net_events.writable). */
void stream_writable(struct stream *stream);

/* ---- sources (stream_source.c) ---- */

/* Bytes in memory; context: their address. */
struct stream_source stream_from_memory(uint64_t length);

/* An object of the store, complete or not; context: a struct stream_object. Its chunks are sent as they lie in RAM. */
struct stream_object {
  struct object *object;
  struct stream_wish {
    struct reading reading;
    struct stream *stream;
    unsigned slot;
  } wishes[STREAM_SLOTS];
};
struct stream_source stream_from_object(struct stream_object *from);

/* A device from `offset` on; context: a struct stream_device with STREAM_SLOTS buffers of block_bytes. */
struct stream_device {
  struct block_device *device;
  uint64_t offset;
  uint8_t *buffers;
  struct stream_request {
    struct shoal_block_request request;
    struct stream *stream;
    unsigned slot;
    bool dropped;
  } requests[STREAM_SLOTS];
};
struct stream_source stream_from_device(uint64_t length);

/* ---- headers (stream_frame.c) ---- */

void stream_group_mac(uint32_t group, uint8_t mac[6]);
void stream_make_headers(struct stream *stream, const struct stream_target *target);
/* Writes the headers of a datagram of so many bytes of payload to `frame`; `ticks`: its RTP time stamp (90 kHz). */
void stream_put_headers(struct stream *stream, uint8_t *frame, uint32_t payload_bytes, uint32_t ticks);

/* ---- pacing (stream_pace.c) ---- */

/* Looks at a packet of 188 bytes at `position`; false when it is none. */
bool stream_pace_packet(struct stream_pace *pace, const uint8_t *packet, uint64_t position);
/* The first rate, from the body's first bytes where they have two PCRs; else what comes before the second one goes out at once. */
void stream_pace_prime(struct stream_pace *pace, const uint8_t *bytes, uint32_t length);
/* When the byte at `position` is due, in ns after the first PCR's packet was. */
uint64_t stream_pace_due_ns(const struct stream_pace *pace, uint64_t position);

#endif
