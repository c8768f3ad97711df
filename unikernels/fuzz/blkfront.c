/*
 * A block device with a hostile backend, which writes anything anywhere into the ring, answers out of order, twice, or for what it
 * never got. Every request ends exactly once, grants are given back, and the device can always leave its ring.
 */
#include "world.h"
#include <stdlib.h>
#include "blkfront.h"
#include "loop.h"
#include "pages.h"

static struct block_device device;
static struct shoal_block_request requests[48];
static bool under_way[48];
static uint8_t *buffer;

static void on_up(void *context) { (void)context; }
static const struct shoal_block_events events = {.up = on_up};

static void on_done(struct shoal_block_request *request, int status) {
  size_t which = (size_t)(request - requests);
  if (!under_way[which] || status > 0) abort();
  under_way[which] = false;
}

static void ask(struct input *input) {
  size_t which = input_byte(input) % 48;
  if (under_way[which]) return;
  under_way[which] = true;
  requests[which] = (struct shoal_block_request){.operation = input_byte(input) % 3, .length_bytes = (input_byte(input) % 130u) * 512,
                                                 .offset_bytes = (uint64_t)input_byte(input) * 512, .bytes = buffer + (input_byte(input) % 16) * 512u,
                                                 .done = on_done};
  shoal_block_submit(&device, &requests[which]);
}

static void turn(void) {
  world_now_ns += 1000;
  loop_turn();
}

static void act(struct input *input) {
  struct blkfront_features features = {.sectors = 256, .sector_bytes = 512, .segments_most = input_byte(input), .flush = true};
  switch (input_byte(input) % 7) {
    case 0: case 1: ask(input); break;
    case 2:
      if (!device.linked) break;
      *RING_GET_RESPONSE(&device.ring, device.ring.sring->rsp_prod) = (blkif_response_t){.id = input_byte(input) % 40, .status = (int8_t)input_byte(input)};
      device.ring.sring->rsp_prod++;
      break;
    case 3:
      if (device.linked) ((uint8_t *)device.ring.sring)[input_word(input) % PAGE_BYTES] = input_byte(input);
      break;
    case 4: world_fire(device.port); break;
    case 5: turn(); break;
    default:
      world_grants_stuck = input_byte(input) % 8 == 0;
      if (input_byte(input) & 1) blkfront_unlink(&device);
      world_grants_stuck = false;
      if (!device.linked && blkfront_link(&device, 0)) blkfront_up(&device, &features);
      break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input input = {data, data + size};
  struct blkfront_features features = {.sectors = 256, .sector_bytes = 512, .segments_most = 32, .flush = true};
  world_reset();
  memset(under_way, 0, sizeof under_way);
  buffer = pages_alloc(34);
  bool lasting = input_byte(&input) & 1;
  if (!blkfront_init(&device, 0, &events, NULL, lasting ? buffer : NULL, lasting ? 34 * PAGE_BYTES : 0) || !blkfront_link(&device, 0)) abort();
  features.persistent = input_byte(&input) & 1;
  blkfront_up(&device, &features);
  while (input.at < input.end) {
    act(&input);
    unsigned used = 0;
    for (unsigned i = 0; i < BLKFRONT_SLOTS; i++) used += device.slots[i].request != NULL;
    if (used + device.free_slots != BLKFRONT_SLOTS) abort();
  }
  blkfront_unlink(&device);
  world_now_ns += 2 * BLKFRONT_PATIENCE_NS;
  turn();
  turn();
  for (unsigned i = 0; i < 48; i++) {
    if (under_way[i]) abort(); /* it would never have been told */
  }
  shoal_free(device.lasting_refs);
  world_reset();
  return 0;
}
