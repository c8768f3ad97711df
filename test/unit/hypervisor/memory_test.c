/*
 * The stream of a guest's memory without Xen: what comes from elsewhere is laid in or refused, and nothing beside it is touched. Built with
 * AddressSanitizer. With -DFUZZ a libFuzzer target: the first byte says whether the rest is a piece or a state.
 */
#include "frames.h"
#include "guest_pages.h"
#include "memory_stream.h"
#include "page_print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xen/xen.h>

enum { PAGES = 24, SHARED = 4, OWN = PAGES - SHARED };

struct world {
  uint8_t memory[(OWN + 2) * PAGE_BYTES];
  uint64_t mfns[PAGES + 2];
  uint8_t *at[PAGES + 2];
  uint8_t written[PAGES];
  struct target_memory target;
};

static void map_all(struct world *world)
{
  for (unsigned i = 0; i < PAGES + 2; i++) world->at[i] = i < SHARED ? NULL : world->memory + (i - SHARED) * PAGE_BYTES;
}

static struct world *new_world(void)
{
  struct world *world = aligned_alloc(PAGE_BYTES, sizeof *world + PAGE_BYTES - sizeof *world % PAGE_BYTES);

  memset(world, 0xaa, sizeof *world);
  memset(world->written, 0, sizeof world->written);
  for (uint64_t i = 0; i < PAGES + 2; i++) world->mfns[i] = i < SHARED ? ~0ull : 0x1000 + i * 3;
  world->target = (struct target_memory){ PAGES, SHARED, world->at, world->mfns, world->written };
  map_all(world);
  return world;
}

/* As the writer does: only what the piece writes to is mapped. */
static int lay(struct world *world, const uint8_t *piece, size_t length)
{
  uint64_t *frames = malloc(PIECE_FRAMES_MAX * sizeof *frames);
  size_t count;
  int status = stream_frames(&world->target, piece, length, frames, &count);

  memset(world->at, 0, sizeof world->at);
  for (size_t i = 0; status == 0 && i < count; i++) world->at[frames[i]] = world->memory + (frames[i] - SHARED) * PAGE_BYTES;
  if (status == 0) status = stream_apply(&world->target, piece, length);
  free(frames);
  map_all(world);
  return status;
}

void builder_clear_rings(uint8_t *tx_page, uint8_t *rx_page)
{
  memset(tx_page, 1, PAGE_BYTES);
  memset(rx_page, 2, PAGE_BYTES);
}

void builder_open_to_dom0(uint8_t *shared_info_page, uint8_t *grant_page, uint64_t console_mfn, uint64_t second_mfn)
{
  memset(shared_info_page, 3, PAGE_BYTES);
  memset(grant_page, (int)((console_mfn + second_mfn) & 0x7f), PAGE_BYTES);
}

static void settle(struct world *world, const struct parsed_state *parsed, const struct build_result *result)
{
  uint64_t frames[(PAGES * 8 + PAGE_BYTES - 1) / PAGE_BYTES + SETTLED_FRAMES_MAX];
  size_t count = stream_settled(&parsed->fixed, frames);

  memset(world->at, 0, sizeof world->at);
  for (size_t i = 0; i < count; i++) world->at[frames[i]] = world->memory + (frames[i] - SHARED) * PAGE_BYTES;
  for (unsigned i = PAGES; i < PAGES + 2; i++) world->at[i] = world->memory + (i - SHARED) * PAGE_BYTES;
  stream_settle(&world->target, &parsed->fixed, 77, result);
  map_all(world);
}

/* Pages that begin with their machine frame. */
static unsigned maps, mapped, fail_maps;

void *builder_map(struct builder *builder, uint16_t domid, size_t count, const uint64_t *mfns, int writable, struct failure *failure)
{
  uint8_t *pages = aligned_alloc(PAGE_BYTES, count * PAGE_BYTES);

  (void)builder;
  if (fail_maps || domid != 7 || writable || count == 0) {
    failed_with(failure, "xenforeignmemory_map", 1);
    free(pages);
    return NULL;
  }
  for (size_t i = 0; i < count; i++) memcpy(pages + i * PAGE_BYTES, &mfns[i], sizeof *mfns);
  maps++;
  mapped += (unsigned)count;
  return pages;
}

int builder_unmap(struct builder *builder, void *pages, size_t count)
{
  (void)builder;
  mapped -= (unsigned)count;
  free(pages);
  return 0;
}

#ifdef FUZZ
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct parsed_state parsed;
  struct build_result result = { 0 };
  struct world *world;

  if (size == 0) return 0;
  world = new_world();
  if (data[0] & 1) {
    if (size - 1 <= PIECE_BYTES_MAX) (void)lay(world, data + 1, size - 1);
  } else if (state_parse(data + 1, size - 1, PAGES, SHARED, data[0] >> 1 & 3, &parsed) == 0) {
    settle(world, &parsed, &result);
  }
  free(world);
  return 0;
}
#else

/* A state that is right, and its length. */
static size_t good_state(uint8_t *bytes, int wired)
{
  struct guest_state state = { .magic = STATE_MAGIC, .version = STATE_VERSION, .pages = PAGES, .shared_pages = SHARED, .start_info = 5, .top_table = 6,
                               .p2m = 7, .console = 8, .store = wired ? NO_FRAME : 9, .cpu_bytes = 16 };
  struct shared_place place = { .table = 10, .slot = 511 };

  state.wiring.magic = WIRING_MAGIC;
  state.wiring.version = WIRING_VERSION;
  state.wiring.vif_count = 1;
  state.wiring.vifs[0].port = FIRST_VIF_PORT;
  state.wiring.vifs[0].tx_frame = 11;
  state.wiring.vifs[0].rx_frame = 12;
  memcpy(bytes, &state, sizeof state);
  for (unsigned i = 0; i < SHARED; i++) memcpy(bytes + sizeof state + i * sizeof place, &place, sizeof place);
  memset(bytes + sizeof state + SHARED * sizeof place, 0x5a, 16);
  return sizeof state + SHARED * sizeof place + 16;
}

static int number, failures;

static void ok(int good, const char *what)
{
  printf("%sok %d - %s\n", good ? "" : "not ", ++number, what);
  failures += !good;
}

static size_t page_of(uint8_t *out, uint64_t frame, uint64_t kind, const void *bytes)
{
  uint64_t head = frame | kind << KIND_SHIFT;

  memcpy(out, &head, 8);
  if (bytes) memcpy(out + 8, bytes, PAGE_BYTES);
  return bytes ? 8 + PAGE_BYTES : 8;
}

static void test_pieces(void)
{
  struct world *world = new_world();
  uint8_t piece[4 * (8 + PAGE_BYTES)], page[PAGE_BYTES];
  uint64_t table[ENTRIES_PER_TABLE] = { 0 }, laid[ENTRIES_PER_TABLE];
  size_t length;

  memset(page, 0x11, sizeof page);
  table[0] = 13ull << 12 | 0x63;
  table[1] = 99ull << 12; /* not present: nobody's business */
  table[256] = 13ull << 12 | 1;
  length = page_of(piece, SHARED, PAGE_DATA, page);
  length += page_of(piece + length, PAGES - 1, PAGE_ZERO, NULL);
  length += page_of(piece + length, 6, PAGE_TABLE + 4, table);
  ok(lay(world, piece, length) == 0, "a page, a zero page and a table are laid in");
  ok(world->memory[0] == 0x11 && world->memory[PAGE_BYTES - 1] == 0x11 && world->memory[PAGE_BYTES] == 0xaa, "the page where it belongs");
  ok(world->memory[(OWN - 1) * PAGE_BYTES] == 0xaa && world->memory[OWN * PAGE_BYTES] == 0xaa, "a page that was zero is not touched for zeroes");
  length = page_of(piece, SHARED + 1, PAGE_DATA, page);
  length += page_of(piece + length, SHARED + 1, PAGE_ZERO, NULL);
  length += page_of(piece + length, SHARED, PAGE_ZERO, NULL);
  ok(lay(world, piece, length) == 0 && world->memory[0] == 0 && world->memory[2 * PAGE_BYTES - 1] == 0 && world->memory[3 * PAGE_BYTES] == 0xaa,
     "one that was written is, and in one and the same piece");
  ok(!world->written[SHARED] && !world->written[SHARED + 1], "and is zero again");
  memcpy(laid, world->memory + (6 - SHARED) * PAGE_BYTES, sizeof laid);
  ok(laid[0] == (world->mfns[13] << 12 | 0x63) && laid[1] == 99ull << 12 && laid[256] == 0, "the table with machine frames, without Xen's part");
  ok(world->written[6] && !world->written[PAGES - 1] && !world->written[7], "and it is known what was written");
  length = page_of(piece, SHARED, PAGE_DATA, page);
  length += page_of(piece + length, PAGES - 1, PAGE_ZERO, NULL);
  length += page_of(piece + length, 6, PAGE_TABLE + 4, table);
  for (size_t cut = 1; cut < length; cut++) {
    if (cut == 8 + PAGE_BYTES || cut == 16 + PAGE_BYTES) continue;
    if (lay(world, piece, cut) == 0) ok(0, "a cut piece");
  }
  for (uint64_t frame = 0; frame < 1ull << 56; frame = frame * 2 + 1) {
    length = page_of(piece, frame, PAGE_DATA, page);
    if ((lay(world, piece, length) == 0) != (frame >= SHARED && frame < PAGES)) ok(0, "a frame that is not the guest's");
  }
  length = page_of(piece, 6, PAGE_TABLE + 5, table);
  ok(lay(world, piece, length) < 0, "a table of level 5 is refused");
  table[2] = 3ull << 12 | 1;
  length = page_of(piece, 6, PAGE_TABLE + 1, table);
  ok(lay(world, piece, length) < 0, "so is one that maps a page of the template by itself");
  table[2] = (uint64_t)PAGES << 12 | 1;
  length = page_of(piece, 6, PAGE_TABLE + 1, table);
  ok(lay(world, piece, length) < 0, "and one that maps what is behind the guest's memory");
  free(world);
}

static void test_states(void)
{
  uint8_t bytes[1024], changed[1024];
  struct parsed_state parsed;
  size_t length = good_state(bytes, 1);
  unsigned refused = 0;

  ok(state_parse(bytes, length, PAGES, SHARED, 1, &parsed) == 0 && parsed.cpu[0] == 0x5a, "a state is read");
  ok(state_parse(bytes, length, PAGES, SHARED, 2, &parsed) < 0 && state_parse(bytes, length, PAGES + 1, SHARED, 1, &parsed) < 0 &&
       state_parse(bytes, length, PAGES, SHARED - 1, 1, &parsed) < 0,
     "but not by a guest of another shape");
  for (size_t cut = 0; cut < length; cut++) refused += state_parse(bytes, cut, PAGES, SHARED, 1, &parsed) < 0;
  ok(refused == length, "nor one that is cut anywhere");
  for (size_t at = 24; at < 64; at += 8) {
    memcpy(changed, bytes, length);
    memset(changed + at, 0x7f, 8);
    if (state_parse(changed, length, PAGES, SHARED, 1, &parsed) == 0) ok(0, "a frame outside of the guest");
    memset(changed + at, 0, 8);
    if (state_parse(changed, length, PAGES, SHARED, 1, &parsed) == 0) ok(0, "a frame of the template");
  }
  memcpy(changed, bytes, length);
  changed[sizeof(struct guest_state) + 4] = 0;
  changed[sizeof(struct guest_state) + 5] = 2;
  ok(state_parse(changed, length, PAGES, SHARED, 1, &parsed) < 0, "nor one whose template is mapped past the end of a table");
  length = good_state(bytes, 0);
  ok(state_parse(bytes, length, PAGES, SHARED, 7, &parsed) == 0, "one with a store has its vifs there");
}

static void test_settle(void)
{
  struct world *world = new_world();
  struct build_result result = { .console_mfn = 5, .start_info_mfn = 6 };
  struct parsed_state parsed;
  uint8_t bytes[1024];
  size_t length = good_state(bytes, 1);
  const struct start_info *info = (const struct start_info *)(const void *)(world->memory + (5 - SHARED) * PAGE_BYTES);

  if (state_parse(bytes, length, PAGES, SHARED, 1, &parsed)) ok(0, "the state");
  settle(world, &parsed, &result);
  ok(world->memory[(20 - SHARED) * PAGE_BYTES] == 0xaa, "what is not to change does not");
  ok(memcmp(world->memory + (7 - SHARED) * PAGE_BYTES, world->mfns, PAGES * 8) == 0, "the list of frames is this domain's");
  ok(info->shared_info == 77ull << 12 && info->store_evtchn == 0 && info->console.domU.mfn == 5 && info->cmd_line[0] == 0, "start_info too");
  ok(world->memory[(11 - SHARED) * PAGE_BYTES] == 1 && world->memory[(12 - SHARED) * PAGE_BYTES] == 2, "the rings are fresh");
  ok(world->memory[OWN * PAGE_BYTES] == 3 && world->memory[(OWN + 1) * PAGE_BYTES] == 11, "and dom0 has its grants");
  free(world);
}

static void test_page(void)
{
  uint8_t page[PAGE_BYTES] = { 0 }, out[8 + PAGE_BYTES];

  ok(stream_page(out, 9, page) == 8 && out[7] == PAGE_ZERO && out[0] == 9, "a zero page is eight bytes");
  for (unsigned at = 0; at < PAGE_BYTES; at += 97) {
    page[at] = 1;
    if (stream_page(out, 9, page) != sizeof out || memcmp(out + 8, page, PAGE_BYTES)) ok(0, "a page that is not zero");
    page[at] = 0;
  }
}

static void test_frames(void)
{
  uint64_t mfns[100];
  struct frames *frames;
  unsigned right = 0;

  for (uint64_t i = 0; i < 100; i++) mfns[i] = (i / 10 * 7 % 10) * 1000 + i % 10; /* runs of ten, out of order */
  frames = frames_of(mfns, 100, 5);
  for (uint64_t i = 0; i < 100; i++) right += frames_find(frames, mfns[i]) == 5 + i;
  for (uint64_t i = 100; i-- > 0;) right += frames_find(frames, mfns[i]) == 5 + i;
  ok(right == 200, "a frame is found by its machine frame, in order and against it");
  ok(frames_find(frames, 10) == NO_FRAME && frames_find(frames, ~0ull) == NO_FRAME, "and no other is");
  ok(memcmp(frames_list(frames), mfns, sizeof mfns) == 0, "the list is as it was given");
  frames_free(frames);
  frames = frames_of(mfns, 0, 0);
  ok(frames_find(frames, 0) == NO_FRAME, "none of none");
  frames_free(frames);
}

static int is_right(const struct guest_pages *pages, const uint64_t *mfns, uint64_t frame)
{
  const uint8_t *page = guest_page(pages, frame);

  return page && memcmp(page, &mfns[frame - SHARED], sizeof *mfns) == 0;
}

static void test_guest_pages(void)
{
  uint64_t mfns[OWN], all[OWN];
  const uint64_t some[] = { SHARED + 3, SHARED + 1, PAGES - 1 }, outside[] = { SHARED, PAGES }, below[] = { SHARED - 1 };
  struct guest_pages *pages;
  struct failure failure;
  unsigned right = 0;

  for (uint64_t i = 0; i < OWN; i++) {
    mfns[i] = 9000 - i * 3;
    all[i] = SHARED + i;
  }
  pages = guest_pages_of(NULL, 7, mfns, OWN, SHARED, &failure);
  ok(maps == 0 && !guest_page(pages, SHARED) && guest_pages_find(pages, mfns[5]) == SHARED + 5, "frames are known, and no page is mapped");
  ok(guest_pages_map(pages, some, 3, &failure) == 0 && maps == 1 && mapped == 3, "three are mapped in one call");
  ok(is_right(pages, mfns, some[0]) && is_right(pages, mfns, some[1]) && is_right(pages, mfns, some[2]) && !guest_page(pages, SHARED + 2), "each is itself");
  ok(guest_pages_map(pages, some, 2, &failure) == 0 && maps == 1, "what is mapped is not mapped again");
  ok(guest_pages_map(pages, outside, 2, &failure) < 0 && guest_pages_map(pages, below, 1, &failure) < 0 && maps == 1 && !guest_page(pages, SHARED),
     "what is not the guest's is refused, and nothing beside it mapped");
  fail_maps = 1;
  ok(guest_pages_map(pages, all, OWN, &failure) < 0 && !guest_page(pages, SHARED) && is_right(pages, mfns, some[0]), "a failure leaves what there was");
  fail_maps = 0;
  ok(guest_pages_map(pages, all, OWN, &failure) == 0 && maps == 2 && mapped == OWN, "then the others");
  for (uint64_t frame = SHARED; frame < PAGES; frame++) right += (unsigned)is_right(pages, mfns, frame);
  ok(right == OWN && !guest_page(pages, SHARED - 1) && !guest_page(pages, PAGES), "all are themselves");
  guest_pages_free(pages);
  ok(mapped == 0, "none is left");
}

static void test_prints(void)
{
  uint8_t page[PAGE_BYTES] = { 0 };
  struct print none = print_of(page), before = none;
  unsigned same = 0;

  ok(none.a != 0 || none.b != 0, "a page of zeroes has a print");
  for (unsigned bit = 0; bit < PAGE_BYTES * 8; bit += 37) {
    struct print print;

    page[bit / 8] ^= (uint8_t)(1u << bit % 8);
    print = print_of(page);
    same += print.a == before.a && print.b == before.b;
    before = print;
  }
  ok(same == 0, "and another one with each bit");
}

static void test_tables(void)
{
  uint8_t page[PAGE_BYTES], out[8 + PAGE_BYTES];

  memset(page, 0x77, sizeof page);
  ok(stream_table(out, 9, 3, page) == sizeof out && out[7] == PAGE_TABLE + 3 && memcmp(out + 8, page, PAGE_BYTES) == 0, "a table as it is");
  ok(stream_zero(out, 300) == 8 && out[7] == PAGE_ZERO && out[0] == 300 - 256 && out[1] == 1, "a free page");
}

int main(void)
{
  test_frames();
  test_guest_pages();
  test_prints();
  test_tables();
  test_page();
  test_pieces();
  test_states();
  test_settle();
  printf("1..%d\n", number);
  return failures != 0;
}
#endif
