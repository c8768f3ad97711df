/*
 * Tests in TAP of the native code that needs no Xen: the boot layout and its page tables, walked as the processor would walk them, for many
 * sizes of memory; and the netlink encoding. Run by native.test.ts.
 */
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge.h"
#include "layout.h"
#include "netlink.h"

static int number, failures;

static void ok(int good, const char *what)
{
  printf("%sok %d - %s\n", good ? "" : "not ", ++number, what);
  if (!good) failures++;
}

/* Machine frame of guest frame n: not the identity, so that a mix-up shows. */
static uint64_t machine(uint64_t n) { return 0x100000 + n * 3; }

/* The entry that maps `address`, found by a walk from the L4; 0 when a level is not present. */
static uint64_t walk(const struct layout *layout, const uint64_t *mfns, uint64_t address)
{
  uint64_t entries[ENTRIES_PER_TABLE], table = 0;

  for (int shift = 39;; shift -= 9) {
    layout_fill_table(layout, mfns, table, entries);
    uint64_t entry = entries[address >> shift & 511];

    if (shift == 12 || !(entry & 1)) return entry;
    uint64_t frame = (entry >> 12 & 0xffffffffff) - 0x100000;

    if (frame % 3) return 0;
    table = frame / 3 - layout->tables;
    if (table >= layout->table_pages) return 0;
  }
}

static int maps_all(uint64_t base, uint64_t pages, uint64_t image, uint64_t step)
{
  struct layout layout;
  uint64_t *mfns = malloc(pages * sizeof *mfns);
  int good = layout_compute(&layout, base, pages, image, 0, 2) == 0;

  for (uint64_t i = 0; i < pages; i++) mfns[i] = machine(i);
  for (uint64_t i = 0; good && i < pages; i += step) {
    uint64_t entry = walk(&layout, mfns, base + i * 4096);
    int table = i >= layout.tables && i < layout.tables + layout.table_pages;

    good = entry >> 12 == machine(i) && (entry & 1) && (entry & 2) == (table ? 0 : 2);
  }
  if (good && pages % 512 != 0) good = walk(&layout, mfns, base + pages * 4096) == 0;
  free(mfns);
  return good;
}

static void test_layout(void)
{
  struct layout layout;

  ok(layout_compute(&layout, 0x400000, 256, 25, 0, 2) == 0, "1 MiB holds an image of 100 KiB");
  ok(layout.p2m == 25 && layout.start_info == 26 && layout.rings == 27 && layout.tables == 29,
     "the parts follow each other in the order of the public header");
  ok(layout.table_pages == 4 && layout.stack == 33 && layout.end == 34, "256 pages need one table of each level");
  ok(layout_compute(&layout, 0x400000, 34, 25, 0, 2) == 0, "the least memory for it fits exactly");
  ok(layout_compute(&layout, 0x400000, 33, 25, 0, 2) == -2, "a page less is refused");
  ok(layout_compute(&layout, 0x400000, 20, 25, 0, 2) == -2 && layout_compute(&layout, 0x400000, 0, 0, 0, 2) == -2, "an image larger than memory, and none, are refused");
  ok(layout_compute(&layout, 0x400000, UINT64_MAX / 2, 1, 0, 2) == -2, "absurd sizes are refused");
  ok(layout_compute(&layout, 0x401000, 256, 25, 0, 2) == -1, "a base that is no multiple of 2 MiB is refused");
  ok(layout_compute(&layout, 0xffff800000000000, 256, 25, 0, 2) == -1, "Xen's part of the address space is refused");
  ok(layout_compute(&layout, 0x00007fffffe00000, 1024, 25, 0, 2) == -1, "memory that would reach into the hole is refused");
  ok(layout_compute(&layout, 0xffffffffffe00000, 1024, 25, 0, 2) == -1, "memory that would wrap around is refused");
  ok(layout_compute(&layout, 0x400000, 16ull << 18, 25, 0, 2) == 0 && layout.l2_tables == 17 && layout.l1_tables == 8192,
     "16 GiB at 4 MiB touch 17 L2 tables");
}

/* The first pages of the image are another domain's: nothing is mapped there until they are hooked in, one entry each. */
static void test_shared(void)
{
  struct layout layout;
  static uint64_t mfns[1024], entries[ENTRIES_PER_TABLE];
  int absent = 1, mapped = 1, placed = 1;

  for (uint64_t i = 0; i < 1024; i++) mfns[i] = i < 25 ? UINT64_MAX : machine(i);
  ok(layout_compute(&layout, 0x400000, 1024, 28, 25, 3) == 0 && layout.shared_pages == 25 && layout.ring_pages == 3 &&
       layout.tables == layout.rings + 3,
     "25 of 28 pages of an image may be shared; rings are as many as are asked for");
  ok(layout_compute(&layout, 0x400000, 1024, 24, 25, 3) == -2, "not more than the image has");
  layout_compute(&layout, 0x400000, 1024, 28, 25, 3);
  for (uint64_t i = 0; i < 25; i++) absent = absent && walk(&layout, mfns, 0x400000 + i * 4096) == 0;
  for (uint64_t i = 25; i < 1024; i++) mapped = mapped && walk(&layout, mfns, 0x400000 + i * 4096) >> 12 == machine(i);
  ok(absent && mapped, "shared pages are left out of the tables, all others are in them");
  for (uint64_t frame = 0; frame < 1024; frame += 31) {
    uint64_t address = layout_entry_address(&layout, mfns, frame);
    uint64_t table = ((address >> 12) - 0x100000) / 3 - layout.tables;

    layout_fill_table(&layout, mfns, table, entries);
    placed = placed && (frame < 25 ? entries[address % 4096 / 8] == 0 : entries[address % 4096 / 8] >> 12 == machine(frame));
  }
  ok(placed, "an entry's machine address leads to the entry of its frame");
  ok((layout_read_only(5) & 3) == 1 && layout_read_only(5) >> 12 == 5, "what is hooked in there cannot be written");
}

static void test_tables(void)
{
  ok(maps_all(0x400000, 256, 25, 1), "1 MiB: every page is mapped, tables read-only, nothing beyond");
  ok(maps_all(0x400000, 1024, 25, 1), "4 MiB");
  ok(maps_all(0, 1025, 25, 1), "4 MiB and a page, at 0");
  ok(maps_all(0x400000, 3 << 18, 25, 509), "3 GiB: several L2 tables");
  ok(maps_all(0x3fe00000, 1024, 25, 1), "across a boundary of 1 GiB");
  ok(maps_all(0x7fffe00000, 1024, 25, 1), "across a boundary of 512 GiB");
  ok(maps_all(0xffffffff80000000, 1024, 25, 1), "in the upper half, as Linux has it");
}

/* Attributes have to nest and to end where their message ends. */
static int well_formed(const struct batch *batch, unsigned *messages)
{
  *messages = 0;
  for (uint32_t at = 0; at < batch->length;) {
    const struct nlmsghdr *header = (const struct nlmsghdr *)(const void *)(batch->bytes + at);
    uint32_t fixed = header->nlmsg_type == RTM_NEWNEIGH || header->nlmsg_type == RTM_DELNEIGH ? sizeof(struct ndmsg) : sizeof(struct ifinfomsg);
    uint32_t inner = at + NLMSG_HDRLEN + NLMSG_ALIGN(fixed);

    if (header->nlmsg_len > batch->length - at) return 0;
    while (inner < at + header->nlmsg_len) {
      const struct rtattr *attribute = (const struct rtattr *)(const void *)(batch->bytes + inner);

      if (attribute->rta_len < sizeof *attribute || inner + attribute->rta_len > at + header->nlmsg_len) return 0;
      inner += RTA_ALIGN(attribute->rta_len);
    }
    if (header->nlmsg_seq != ++*messages) return 0;
    at += NLMSG_ALIGN(header->nlmsg_len);
  }
  return 1;
}

static void test_netlink(void)
{
  static struct batch batch;
  struct port port = { .vif = 7, .bridge = 3, .root = 2, .way_to_shard = 4, .mac = { 0, 0x16, 0x3e, 1, 2, 3 }, .address_count = 2 };
  unsigned messages;

  batch_reset(&batch);
  bridge_attach(&batch, &port);
  ok(well_formed(&batch, &messages) && messages == 6, "a vif on a shard with two addresses takes six messages");
  batch_reset(&batch);
  bridge_detach(&batch, &port);
  ok(well_formed(&batch, &messages) && messages == 3, "and three to be forgotten");
  batch_reset(&batch);
  bridge_create_pair(&batch, "a-long-name-15c", "another");
  ok(well_formed(&batch, &messages) && messages == 1, "a pair of links is one message");
  batch_reset(&batch);
  for (int i = 0; i < 1000; i++) bridge_attach(&batch, &port);
  ok(batch.overflow && batch.length <= BATCH_BYTES, "a batch that overflows says so and stays within its buffer");
}

int main(void)
{
  test_layout();
  test_shared();
  test_tables();
  test_netlink();
  printf("1..%d\n", number);
  return failures != 0;
}
