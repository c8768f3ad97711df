/*
 * Where everything of a new 64-bit PV domain goes, as arithmetic without Xen: which guest frame holds what, and what stands in the page
 * tables. Kept apart from the builder so that it can be tested for every size of memory on any machine.
 *
 * Guest frames from 0 up, in the order that Xen's public header gives for the boot of a guest:
 *   image (with .bss) | p2m list | start_info | rings | page tables (L4, L3, L2, L1) | boot stack | free memory
 * Guest frame n is at virtual address virt_base + n * 4096, for all of the domain's memory. The first frames of the image may belong to
 * another domain (template.h): they are no memory of this one, and the page tables laid out here have nothing there.
 */
#ifndef SHOAL_LAYOUT_H
#define SHOAL_LAYOUT_H

#include <stdint.h>

#define PAGE_BYTES 4096u
#define ENTRIES_PER_TABLE 512u

struct layout {
  uint64_t virt_base;
  uint64_t pages;       /* memory of the domain */
  uint64_t image_pages;  /* from frame 0 on */
  uint64_t shared_pages; /* the first of them that are not the domain's own */
  uint64_t p2m, p2m_pages;
  uint64_t start_info;
  uint64_t rings, ring_pages;
  uint64_t tables, table_pages; /* all levels; the L4 is the first */
  uint64_t l3_tables, l2_tables, l1_tables; /* how many of each */
  uint64_t stack;
  uint64_t end; /* first frame the builder does not touch */
};

/* 0; -1 when virt_base is no address a guest kernel can have; -2 when the pages do not suffice. */
int layout_compute(struct layout *layout, uint64_t virt_base, uint64_t pages, uint64_t image_pages, uint64_t shared_pages,
                   uint64_t ring_pages);

/* Machine address of the page-table entry that maps guest frame `frame`. */
uint64_t layout_entry_address(const struct layout *layout, const uint64_t *mfns, uint64_t frame);

/* A read-only page-table entry for machine frame `mfn`. */
uint64_t layout_read_only(uint64_t mfn);

static inline uint64_t layout_address(const struct layout *layout, uint64_t frame)
{
  return layout->virt_base + frame * PAGE_BYTES;
}

/*
 * Fills page table number `table` (0 = the L4) of layout->table_pages, 512 entries, given the machine frame of every guest frame. Page
 * tables themselves are mapped read-only, as Xen demands of a PV guest; everything else is writable.
 */
void layout_fill_table(const struct layout *layout, const uint64_t *mfns, uint64_t table, uint64_t entries[ENTRIES_PER_TABLE]);

#endif
