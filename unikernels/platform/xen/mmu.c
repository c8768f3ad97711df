/*
 * Guest memory and its page tables. The builder maps guest-physical 0 at VIRT_BASE and upwards, xl only the first MiB, a leaner
 * one everything; what is missing is added here. Page tables are the guest's own pages, mapped read-only: a new one is filled,
 * made read-only, then hooked in by a hypercall in which Xen checks it as a whole.
 * Beyond the guest's memory lies a window of addresses for frames that are not the guest's (shared info, grant table). The pages of
 * text and constants may belong to another domain, mapped read-only into thousands: they are never written, and neither their
 * frame numbers nor their page-table entries mean anything to us.
 */
#include "guest.h"
#include "hypercall.h"
#include "netfront.h"
#include "pages.h"
#include "wired.h"

#define PAGE_SHIFT 12
#define TABLE_ENTRIES 512ul
#define PTE_PRESENT 0x1ul
#define PTE_WRITABLE 0x2ul
#define PTE_LEAF 0x63ul       /* present, writable, accessed, dirty */
#define PTE_LEAF_READONLY 0x61ul
#define PTE_TABLE 0x67ul      /* and for user: Xen's rings, not ours, keep users out */
#define PTE_FRAME 0x000ffffffffff000ul

static const unsigned long *p2m;
static uint64_t *top_table;
static size_t page_count;
static uint8_t *window;
static uint8_t small_bitmap[128]; /* one bit a page: enough for 4 MiB; larger guests spend a page */

/* Pages that are taken before there is an allocator. */
#define RANGES (8 + 2 * WIRING_VIFS)
static struct range {
  size_t first, count;
} ranges[RANGES];
static size_t range_count;

static size_t boot_stack; /* page */

static uint8_t *address_of(size_t index) { return (uint8_t *)image_start + index * PAGE_BYTES; }
static size_t index_of(const void *page) { return (size_t)((const uint8_t *)page - (uint8_t *)image_start) / PAGE_BYTES; }

unsigned long mmu_frame_of(const void *page) { return p2m[index_of(page)]; }
void *mmu_page_of(unsigned long mfn) { return address_of(machine_to_phys_mapping[mfn]); }

bool mmu_index_of(unsigned long mfn, unsigned long *index) {
  *index = machine_to_phys_mapping[mfn];
  return *index < page_count && p2m[*index] == mfn;
}

static size_t slot_of(const void *address, int level) {
  return (uintptr_t)address >> (PAGE_SHIFT + 9 * (level - 1)) & (TABLE_ENTRIES - 1);
}

static uint64_t *table_in(uint64_t entry) { return mmu_page_of((entry & PTE_FRAME) >> PAGE_SHIFT); }

/* The table of `level` (1 to 4) that covers `address`; NULL when it, or one above, is missing (then *missing is the level). */
static uint64_t *table_for(const void *address, int level, int *missing) {
  uint64_t *table = top_table;
  for (int at = 4; at > level; at--) {
    uint64_t entry = table[slot_of(address, at)];
    if (!(entry & PTE_PRESENT)) {
      if (missing != NULL) *missing = at - 1;
      return NULL;
    }
    table = table_in(entry);
  }
  return table;
}

/* The first page behind the image that the builder did not map. */
static size_t count_mapped(void) {
  size_t index = index_of(image_end);
  while (index < page_count) {
    const uint64_t *table = table_for(address_of(index), 1, NULL);
    if (table == NULL) return index;
    do {
      if (!(table[slot_of(address_of(index), 1)] & PTE_PRESENT)) return index;
      index++;
    } while (index < page_count && slot_of(address_of(index), 1) != 0);
  }
  return page_count;
}

static void set_leaf(const void *address, uint64_t entry) {
  if (hypercall3(__HYPERVISOR_update_va_mapping, (unsigned long)address, entry, UVMF_INVLPG | UVMF_LOCAL) != 0) {
    shoal_panic("mmu: mapping %p refused", address);
  }
}

/* Hooks a filled table of `level` in where it covers `address`. */
static void add_table(const void *address, int level, uint64_t *table) {
  uint64_t *above = table_for(address, level + 1, NULL);
  set_leaf(table, mmu_frame_of(table) << PAGE_SHIFT | PTE_LEAF_READONLY);
  struct mmu_update update = {
    .ptr = (mmu_frame_of(above) << PAGE_SHIFT) + slot_of(address, level + 1) * sizeof(uint64_t) + MMU_NORMAL_PT_UPDATE,
    .val = mmu_frame_of(table) << PAGE_SHIFT | PTE_TABLE,
  };
  if (hypercall4(__HYPERVISOR_mmu_update, (unsigned long)&update, 1, 0, DOMID_SELF) != 0) {
    shoal_panic("mmu: page table for %p refused", address);
  }
}

static uint64_t *new_table(void) {
  uint64_t *table = pages_alloc(1);
  if (table == NULL) shoal_panic("mmu: no page for a page table");
  memset(table, 0, PAGE_BYTES);
  return table;
}

/* Makes all tables above level 1 for `address`; returns the table of level 1, or NULL when that is still to be made. */
static uint64_t *upper_tables(const void *address) {
  int missing;
  uint64_t *table;
  while ((table = table_for(address, 1, &missing)) == NULL && missing > 1) add_table(address, missing, new_table());
  return table;
}

/* Maps guest pages from `first` to the end, a table (2 MiB) at a time. */
static void map_rest(size_t first) {
  while (first < page_count) {
    size_t in_table = TABLE_ENTRIES - slot_of(address_of(first), 1);
    size_t count = page_count - first < in_table ? page_count - first : in_table;
    uint64_t *table = upper_tables(address_of(first));
    if (table != NULL) {
      for (size_t i = first; i < first + count; i++) set_leaf(address_of(i), p2m[i] << PAGE_SHIFT | PTE_LEAF);
    } else {
      table = new_table();
      for (size_t i = first; i < first + count; i++) table[slot_of(address_of(i), 1)] = p2m[i] << PAGE_SHIFT | PTE_LEAF;
      add_table(address_of(first), 1, table);
    }
    pages_mark_free(first, count);
    first += count;
  }
}

static void take_range(const void *from, size_t bytes) {
  size_t first = index_of(from);
  size_t end = (size_t)((const uint8_t *)from + bytes + PAGE_BYTES - 1 - (uint8_t *)image_start) / PAGE_BYTES;
  if (bytes == 0) return;
  if (range_count == RANGES) shoal_panic("mmu: too many ranges");
  ranges[range_count++] = (struct range){first, end - first};
}

/* First page of `count` in a row that are in no range; 0 when there are none. */
static size_t find_room(size_t mapped, size_t count) {
  for (size_t first = 1; first + count <= mapped;) {
    size_t next = first;
    for (size_t i = 0; i < range_count; i++) {
      if (first < ranges[i].first + ranges[i].count && ranges[i].first < first + count) next = ranges[i].first + ranges[i].count;
    }
    if (next == first) return first;
    first = next;
  }
  return 0;
}

static bool is_in_range(size_t index) {
  for (size_t i = 0; i < range_count; i++) {
    if (index >= ranges[i].first && index < ranges[i].first + ranges[i].count) return true;
  }
  return false;
}

/* The backend writes to ring pages whenever it likes: they must be nobody else's. */
static void take_rings(void) {
  for (unsigned handle = 0; handle < NETFRONT_DEVICES; handle++) {
    const struct wiring_vif *vif = wired_vif(handle);
    if (vif == NULL) continue;
    if (is_in_range(vif->tx_frame) || is_in_range(vif->rx_frame)) {
      wired_reject("a ring page on one that the builder uses");
      return;
    }
    take_range(wired_page(vif->tx_frame), PAGE_BYTES);
    take_range(wired_page(vif->rx_frame), PAGE_BYTES);
  }
}

void *mmu_window(void) {
  uint8_t *address = window;
  window += PAGE_BYTES;
  if (upper_tables(address) == NULL) add_table(address, 1, new_table());
  return address;
}

#define MAPPINGS_AT_ONCE 8

void mmu_map(const struct mmu_mapping *mappings, size_t count) {
  struct multicall_entry calls[MAPPINGS_AT_ONCE];
  if (count > MAPPINGS_AT_ONCE) shoal_panic("mmu: %zu mappings at once", count);
  for (size_t i = 0; i < count; i++) {
    uint64_t entry = mappings[i].frame == MMU_NO_FRAME ? 0 : (uint64_t)mappings[i].frame << PAGE_SHIFT | PTE_LEAF;
    calls[i] = (struct multicall_entry){.op = __HYPERVISOR_update_va_mapping,
                                        .args = {(unsigned long)mappings[i].at, entry, UVMF_INVLPG | UVMF_LOCAL}};
  }
  hypercall_batch(calls, count);
  for (size_t i = 0; i < count; i++) {
    if (calls[i].result != 0) shoal_panic("mmu: mapping %p refused", mappings[i].at);
  }
}

/*
 * Builders put the first stack, a page, right behind the page tables, and those cannot be written: pages above it make it larger, and
 * the last page table is its guard, without a single mapping. Where that is not so, the stack lies in the window above a hole.
 */
void *mmu_new_stack(size_t pages) {
  struct mmu_mapping mappings[MAPPINGS_AT_ONCE];
  uint8_t *below = address_of(boot_stack - 1);
  bool is_guarded = below >= (uint8_t *)image_end && !(table_for(below, 1, NULL)[slot_of(below, 1)] & PTE_WRITABLE);
  if (is_guarded && pages_take(boot_stack + 1, pages - 1)) return address_of(boot_stack + pages);
  uint8_t *memory = pages_alloc(pages);
  if (memory == NULL) shoal_panic("mmu: no memory for a stack");
  window += PAGE_BYTES;
  for (size_t i = 0, count = 0; i < pages; i++) {
    mappings[count++] = (struct mmu_mapping){mmu_window(), mmu_frame_of(memory + i * PAGE_BYTES)};
    if (count < MAPPINGS_AT_ONCE && i + 1 < pages) continue;
    mmu_map(mappings, count);
    count = 0;
  }
  return window;
}

void mmu_show_frame_list(void) {
  shared_info->arch.max_pfn = page_count;
  shared_info->arch.p2m_cr3 = xen_pfn_to_cr3(mmu_frame_of(top_table));
  shared_info->arch.p2m_vaddr = (unsigned long)p2m;
  shared_info->arch.p2m_generation = 0;
}

void memory_init(const struct start_info *info) {
  p2m = (const unsigned long *)info->mfn_list;
  top_table = (uint64_t *)info->pt_base;
  page_count = info->nr_pages;
  window = address_of(page_count + 1);
  size_t mapped = count_mapped();
  boot_stack = index_of(__builtin_frame_address(0)); /* the stack we stand on */

  take_range(image_start, (size_t)(image_end - image_start));
  take_range(p2m, page_count * sizeof *p2m);
  take_range(info, sizeof *info);
  take_range(top_table, info->nr_pt_frames * PAGE_BYTES);
  take_range(address_of(boot_stack), PAGE_BYTES);
  if (info->store_evtchn != 0) take_range(mmu_page_of(info->store_mfn), PAGE_BYTES);
  if (info->console.domU.evtchn != 0) take_range(mmu_page_of(info->console.domU.mfn), PAGE_BYTES);
  if (info->mod_len != 0 && !(info->flags & SIF_MOD_START_PFN)) take_range((void *)info->mod_start, info->mod_len);
  take_rings();

  uint8_t *bitmap = small_bitmap;
  if (page_count > sizeof small_bitmap * 8) {
    size_t pages = (page_count / 8 + PAGE_BYTES) / PAGE_BYTES;
    size_t first = find_room(mapped, pages);
    if (first == 0) shoal_panic("mmu: no room for the page bitmap");
    bitmap = address_of(first);
    take_range(bitmap, pages * PAGE_BYTES);
  }
  pages_init(image_start, page_count, bitmap);
  wired_show_map((uint64_t)(bitmap - (uint8_t *)image_start), page_count);
  pages_mark_free(0, mapped);
  for (size_t i = 0; i < range_count; i++) pages_mark_taken(ranges[i].first, ranges[i].count);
  if (mapped == page_count) return;
  map_rest(mapped);
  for (size_t i = 0; i < range_count; i++) pages_mark_taken(ranges[i].first, ranges[i].count);
}
