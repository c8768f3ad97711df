/*
 * The packetizer against a device that is the test's own: headers and checksums, the body whole and in order whatever the block size, no room, blocks
 * that come late or never, RTP, and datagrams sent when the stream's own clock says so.
 */
#include "disk_rig.h"
#include "../apps/minicache/stream.h"

static uint8_t room[2048], got[4u << 20];
static uint32_t got_bytes, frames, last_flags, room_left, payload_most;
static uint64_t sent_at[20000];
static uint32_t sizes[20000];
static unsigned header_bytes = 42;
static uint16_t rtp_sequence;
static uint32_t rtp_first, rtp_last;

static uint32_t get16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

static uint32_t sum_of(const uint8_t *at, uint32_t bytes) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < bytes; i++) sum += i % 2 == 0 ? (uint32_t)at[i] << 8 : at[i];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

uint8_t *shoal_net_reserve(struct shoal_net *net) {
  (void)net;
  return room_left > 0 ? room : NULL;
}

void shoal_net_commit(struct shoal_net *net, size_t length, uint32_t flags) {
  (void)net;
  uint32_t payload = (uint32_t)length - header_bytes;
  CHECK(room_left > 0 && length > header_bytes && length <= SHOAL_NET_FRAME_BYTES);
  CHECK(get16(room + 12) == 0x0800 && room[14] == 0x45 && room[23] == 17 && sum_of(room + 14, 20) == 0xffff);
  CHECK(get16(room + 16) == length - 14 && get16(room + 38) == length - 34 && get16(room + 36) == 1234 && get16(room + 34) == 5678);
  /* A blank checksum is the sum of the pseudo header: the receiver adds the rest. */
  uint8_t pseudo[12];
  memcpy(pseudo, room + 26, 8);
  pseudo[8] = 0, pseudo[9] = 17, memcpy(pseudo + 10, room + 38, 2);
  CHECK(flags == SHOAL_NET_CSUM_BLANK ? get16(room + 40) == sum_of(pseudo, 12) : flags == SHOAL_NET_CSUM_VALID && get16(room + 40) == 0);
  if (header_bytes == 54) {
    CHECK(room[42] == 0x80 && room[43] == 33 && (frames == 0 || get16(room + 44) == (uint16_t)(rtp_sequence + 1)));
    rtp_sequence = (uint16_t)get16(room + 44);
    rtp_last = get16(room + 46) << 16 | get16(room + 48);
    if (frames == 0) rtp_first = rtp_last;
  }
  if (got_bytes + payload <= sizeof got) memcpy(got + got_bytes, room + header_bytes, payload);
  if (frames < 20000) sent_at[frames] = world_now_ns, sizes[frames] = payload;
  got_bytes += payload, frames++, room_left--;
  if (payload > payload_most) payload_most = payload;
  last_flags = flags;
  memset(room, 0xee, sizeof room);
}

static int ended;
static unsigned endings;
static void on_ended(struct stream *stream, int how) {
  (void)stream;
  ended = how;
  endings++;
}

static struct stream_config config_of(enum stream_mode mode, uint32_t block_bytes) {
  got_bytes = frames = payload_most = endings = 0;
  ended = STREAM_RUNS;
  room_left = UINT32_MAX;
  header_bytes = mode == STREAM_RTP ? 54 : 42;
  return (struct stream_config){.mode = mode, .block_bytes = block_bytes, .ended = on_ended,
                                .target = {.source_mac = {2}, .mac = {2, 1}, .source_address = 0x0a000001, .address = 0x0afffffe, .source_port = 5678, .port = 1234}};
}

static void run(unsigned turns) {
  while (turns-- > 0 && ended == STREAM_RUNS) world_now_ns += 1000, loop_turn();
}

static uint8_t body[3u << 20];

static void test_sizes(void) {
  static const uint32_t blocks[] = {4096, 16384, 65536, 262144, 5120};
  static const uint32_t lengths[] = {1, 1023, 1024, 1025, 16384, 300000, 1048576 + 77};
  static struct stream stream;
  for (unsigned i = 0; i < sizeof blocks / sizeof *blocks; i++) {
    for (unsigned j = 0; j < sizeof lengths / sizeof *lengths; j++) {
      struct stream_config config = config_of(STREAM_PLAIN, blocks[i]);
      config.source = stream_from_memory(lengths[j]);
      config.context = body;
      config.target.blank_checksum = j % 2;
      CHECK(stream_open(&stream, &config));
      run(10000);
      CHECK(ended == STREAM_DONE && endings == 1 && got_bytes == lengths[j] && memcmp(got, body, lengths[j]) == 0);
      CHECK(frames == (lengths[j] + 1023) / 1024 && payload_most <= 1024 && stream.datagrams == frames);
    }
  }
  struct stream_config config = config_of(STREAM_PLAIN, 2048);
  config.source = stream_from_memory(1);
  CHECK(!stream_open(&stream, &config));
  config.block_bytes = 262144 + 512;
  CHECK(!stream_open(&stream, &config));
  /* No room: it waits, and goes on when there is. */
  config = config_of(STREAM_PLAIN, 4096);
  config.source = stream_from_memory(100000);
  config.context = body;
  room_left = 10;
  CHECK(stream_open(&stream, &config));
  run(100);
  CHECK(frames == 10 && ended == STREAM_RUNS);
  room_left = UINT32_MAX;
  stream_writable(&stream);
  run(100);
  CHECK(ended == STREAM_DONE && memcmp(got, body, 100000) == 0);
  uint8_t mac[6];
  stream_group_mac(0xefffabcd, mac);
  CHECK(memcmp(mac, "\x01\x00\x5e\x7f\xab\xcd", 6) == 0);
}

/* From a device whose reads end in any order, and from the store over it. */
static void test_devices(void) {
  static struct stream stream;
  static struct stream_device from;
  device_init(&rig_device, RIG_DEVICE_BYTES);
  memcpy(rig_device.now + 5120, body, 1000000);
  from = (struct stream_device){.device = &rig_device, .offset = 5120, .buffers = aligned_alloc(4096, STREAM_SLOTS * 16384)};
  struct stream_config config = config_of(STREAM_PLAIN, 16384);
  config.source = stream_from_device(1000000);
  config.context = &from;
  CHECK(stream_open(&stream, &config));
  run(3);
  CHECK(rig_device.pending_count == STREAM_SLOTS && frames == 0); /* all asked for before the first is there */
  while (ended == STREAM_RUNS && device_step(&rig_device)) run(2);
  CHECK(ended == STREAM_DONE && got_bytes == 1000000 && memcmp(got, body, 1000000) == 0);
  config = config_of(STREAM_PLAIN, 16384);
  config.source = stream_from_device(1000000);
  config.context = &from;
  CHECK(stream_open(&stream, &config));
  run(2);
  device_step(&rig_device);
  rig_device.fail_one_in = 1;
  while (device_step(&rig_device)) run(2);
  CHECK(ended == STREAM_READ_FAILED && endings == 1);
  rig_device.fail_one_in = 0;
  config = config_of(STREAM_PLAIN, 16384);
  config.source = stream_from_device(1000000);
  config.context = &from;
  CHECK(stream_open(&stream, &config));
  run(2);
  stream_close(&stream); /* with all its reads under way */
  while (device_step(&rig_device)) run(1);
  CHECK(endings == 0);
  free(from.buffers);
  device_free(&rig_device);

  static struct stream_object object;
  device_init(&rig_device, RIG_DEVICE_BYTES);
  rig_mount(RIG_RAM_BYTES);
  CHECK(rig_put(1, 1, 1000000, true) == 0 && rig_settle());
  rig_close();
  rig_mount(RIG_RAM_BYTES);
  object.object = rig_find(1);
  config = config_of(STREAM_PLAIN, 65536);
  config.source = stream_from_object(&object);
  config.context = &object;
  CHECK(stream_open(&stream, &config));
  for (unsigned i = 0; i < 10000 && ended == STREAM_RUNS; i++) device_step(&rig_device), run(1);
  bool same = got_bytes == 1000000;
  for (uint32_t i = 0; i < 1000000; i++) same &= got[i] == rig_byte(1, 1, i);
  CHECK(ended == STREAM_DONE && same);
  config = config_of(STREAM_PLAIN, 65536);
  config.source = stream_from_object(&object);
  config.context = &object;
  CHECK(stream_open(&stream, &config));
  run(1);
  stream_close(&stream);
  object_release(object.object);
  CHECK(rig_settle()); /* nothing is held any more: the store can end */
  for (uint32_t i = 0; i < rig_store->frame_count; i++) CHECK(rig_store->frames[i].refs == 0);
  rig_close();
  device_free(&rig_device);
}

/* A transport stream of `packets` packets, a PCR in each `every`-th, at `ticks` ticks a packet. */
static void make_ts(uint32_t packets, uint32_t every, uint64_t ticks, uint64_t first, uint32_t jump_at, uint64_t jump) {
  memset(body, 0xff, packets * 188ul);
  for (uint32_t i = 0; i < packets; i++) {
    uint8_t *at = body + i * 188ul;
    at[0] = 0x47, at[1] = 0x01, at[2] = 0x00, at[3] = 0x10 | (i & 15);
    if (i % every != 0) continue;
    uint64_t pcr = (first + ticks * i + (i >= jump_at ? jump : 0)) % ((1ull << 33) * 300), base = pcr / 300, rest = pcr % 300;
    at[3] |= 0x20, at[4] = 7, at[5] = i == jump_at && jump != 0 ? 0x90 : 0x10;
    at[6] = (uint8_t)(base >> 25), at[7] = (uint8_t)(base >> 17), at[8] = (uint8_t)(base >> 9), at[9] = (uint8_t)(base >> 1);
    at[10] = (uint8_t)((base & 1) << 7 | 0x7e | rest >> 8), at[11] = (uint8_t)rest;
  }
}

static void check_pace(uint64_t first, uint32_t jump_at, uint64_t jump, enum stream_mode mode) {
  static struct stream stream;
  const uint32_t packets = 7000;
  const uint64_t ticks = 8100; /* 300 us a packet: 2.1 ms a datagram */
  make_ts(packets, 70, ticks, first, jump_at, jump);
  struct stream_config config = config_of(mode, 65536);
  config.source = stream_from_memory(packets * 188ul);
  config.context = body;
  config.paced = true;
  CHECK(stream_open(&stream, &config));
  uint64_t began = world_now_ns;
  for (unsigned i = 0; i < 400000 && ended == STREAM_RUNS; i++) world_now_ns += 10000, loop_turn();
  CHECK(ended == STREAM_DONE && frames == packets / 7 && memcmp(got, body, packets * 188ul) == 0);
  unsigned late = 0;
  for (unsigned i = 10; i < frames; i++) { /* until the second PCR there is no rate */
    uint64_t due = began + i * 2100000ull;
    if (sent_at[i] + 1200000 < due || sent_at[i] > due + 100000) late++;
  }
  CHECK(late == 0);
  uint64_t took = world_now_ns - began;
  CHECK(took > 2095000000ull && took < 2105000000ull);
  if (mode == STREAM_RTP) CHECK(rtp_last - rtp_first > 2090 * 90 && rtp_last - rtp_first < 2105 * 90);
}

static void test_pace(void) {
  check_pace(0, UINT32_MAX, 0, STREAM_TS);
  check_pace((1ull << 33) * 300 - 20 * 8100ull * 70, UINT32_MAX, 0, STREAM_TS); /* the clock wraps on the way */
  check_pace(12345, 3500, 27000000ull * 100, STREAM_TS); /* it jumps: spliced */
  check_pace(777, UINT32_MAX, 0, STREAM_RTP);
  static struct stream stream;
  make_ts(700, 7, 8100, 0, UINT32_MAX, 0);
  body[188 * 100] = 0;
  struct stream_config config = config_of(STREAM_TS, 4096);
  config.source = stream_from_memory(700 * 188);
  config.context = body;
  CHECK(stream_open(&stream, &config));
  run(1000);
  CHECK(ended == STREAM_NOT_TS && got_bytes == 98 * 188);
  config = config_of(STREAM_TS, 4096);
  config.source = stream_from_memory(50 * 188 + 1); /* not whole */
  config.context = body;
  CHECK(stream_open(&stream, &config));
  run(1000);
  CHECK(ended == STREAM_NOT_TS);
}

int main(void) {
  world_reset();
  for (uint32_t i = 0; i < sizeof body; i++) body[i] = (uint8_t)(i * 2654435761u >> 13);
  test_sizes();
  test_devices();
  test_pace();
  CHECK_END();
}
