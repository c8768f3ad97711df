/* Arithmetic of the boot layout and of the page tables; see layout.h. */
#include "layout.h"

#include <string.h>

/* Bits of an x86-64 page-table entry. Xen adds the user bit that 64-bit PV kernels run with where it needs it. */
#define PRESENT 0x001ull
#define WRITABLE 0x002ull
#define USER 0x004ull
#define ACCESSED 0x020ull
#define DIRTY 0x040ull
#define LEAF (PRESENT | WRITABLE | USER | ACCESSED | DIRTY)
#define LEAF_READ_ONLY (PRESENT | USER | ACCESSED | DIRTY)
#define TABLE (PRESENT | WRITABLE | USER | ACCESSED | DIRTY)

/* log2 of the bytes that one entry of a table of each level covers. */
enum { L1_SHIFT = 12, L2_SHIFT = 21, L3_SHIFT = 30, L4_SHIFT = 39 };

/* Xen keeps 0xffff800000000000 up to here for itself in every 64-bit PV guest; the rest of the upper half is the guest kernel's. */
#define UPPER_HALF_FOR_GUESTS 0xffff880000000000ull
#define END_OF_LOWER_HALF 0x0000800000000000ull
#define LARGEST_PAGES (1ull << 28) /* 1 TiB; keeps all sums below far from overflow */

static uint64_t tables_for(const struct layout *layout, unsigned shift_of_parent_entry)
{
  uint64_t last = layout->virt_base + layout->pages * PAGE_BYTES - 1;

  return (last >> shift_of_parent_entry) - (layout->virt_base >> shift_of_parent_entry) + 1;
}

int layout_compute(struct layout *layout, uint64_t virt_base, uint64_t pages, uint64_t image_pages, uint64_t shared_pages,
                   uint64_t ring_pages)
{
  uint64_t last;

  memset(layout, 0, sizeof *layout);
  if (pages == 0 || pages > LARGEST_PAGES || image_pages == 0 || image_pages > pages || shared_pages > image_pages) return -2;
  last = virt_base + pages * PAGE_BYTES - 1;
  if (virt_base % (1ull << L2_SHIFT) != 0 || last < virt_base) return -1;
  if (!(last < END_OF_LOWER_HALF || virt_base >= UPPER_HALF_FOR_GUESTS)) return -1;

  layout->virt_base = virt_base;
  layout->pages = pages;
  layout->image_pages = image_pages;
  layout->shared_pages = shared_pages;
  layout->p2m = image_pages;
  layout->p2m_pages = (pages * sizeof(uint64_t) + PAGE_BYTES - 1) / PAGE_BYTES;
  layout->start_info = layout->p2m + layout->p2m_pages;
  layout->rings = layout->start_info + 1;
  layout->ring_pages = ring_pages;
  layout->tables = layout->rings + ring_pages;
  layout->l3_tables = tables_for(layout, L4_SHIFT);
  layout->l2_tables = tables_for(layout, L3_SHIFT);
  layout->l1_tables = tables_for(layout, L2_SHIFT);
  layout->table_pages = 1 + layout->l3_tables + layout->l2_tables + layout->l1_tables;
  layout->stack = layout->tables + layout->table_pages;
  layout->end = layout->stack + 1;
  return layout->end <= pages ? 0 : -2;
}

/*
 * A table that is number `index` of its level covers `ENTRIES_PER_TABLE << shift` bytes of address space, the first one those around
 * virt_base. Its entries point to tables number `first`, `first + 1`, … of the level below, as far as there are any.
 */
static void fill_upper(const struct layout *layout, const uint64_t *mfns, uint64_t index, unsigned shift, uint64_t below, uint64_t below_count,
                       uint64_t *entries)
{
  uint64_t first_slot = layout->virt_base >> shift;
  uint64_t table_slot = ((first_slot >> 9) + index) << 9;

  for (uint64_t i = 0; i < ENTRIES_PER_TABLE; i++) {
    uint64_t child = table_slot + i - first_slot;

    if (table_slot + i >= first_slot && child < below_count) entries[i] = mfns[below + child] << 12 | TABLE;
  }
}

void layout_fill_table(const struct layout *layout, const uint64_t *mfns, uint64_t table, uint64_t entries[ENTRIES_PER_TABLE])
{
  uint64_t l3 = layout->tables + 1;
  uint64_t l2 = l3 + layout->l3_tables;
  uint64_t l1 = l2 + layout->l2_tables;
  uint64_t frame = layout->tables + table;

  memset(entries, 0, ENTRIES_PER_TABLE * sizeof *entries);
  if (frame < l3) {
    /* There is one L4, and it covers all: its slot is the address without the sign extension. */
    for (uint64_t i = 0; i < layout->l3_tables; i++)
      entries[((layout->virt_base >> L4_SHIFT) + i) % ENTRIES_PER_TABLE] = mfns[l3 + i] << 12 | TABLE;
  } else if (frame < l2) {
    fill_upper(layout, mfns, frame - l3, L3_SHIFT, l2, layout->l2_tables, entries);
  } else if (frame < l1) {
    fill_upper(layout, mfns, frame - l2, L2_SHIFT, l1, layout->l1_tables, entries);
  } else {
    /* virt_base is a multiple of what an L1 covers, so the first L1 begins with frame 0. */
    uint64_t first = (frame - l1) * ENTRIES_PER_TABLE;

    for (uint64_t i = 0; i < ENTRIES_PER_TABLE && first + i < layout->pages; i++) {
      uint64_t target = first + i;
      int is_table = target >= layout->tables && target < layout->tables + layout->table_pages;

      if (target >= layout->shared_pages) entries[i] = mfns[target] << 12 | (is_table ? LEAF_READ_ONLY : LEAF);
    }
  }
}

uint64_t layout_entry_address(const struct layout *layout, const uint64_t *mfns, uint64_t frame)
{
  uint64_t l1 = layout->tables + 1 + layout->l3_tables + layout->l2_tables;

  return (mfns[l1 + frame / ENTRIES_PER_TABLE] << 12) + frame % ENTRIES_PER_TABLE * sizeof(uint64_t);
}

uint64_t layout_read_only(uint64_t mfn) { return mfn << 12 | LEAF_READ_ONLY; }
