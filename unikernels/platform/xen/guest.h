/* What the Xen platform's files share: the pages Xen gave the guest, its page tables, its beginning and its end. */
#ifndef XEN_GUEST_H
#define XEN_GUEST_H

#include "shoal.h"
#include <xen/xen.h>

_Static_assert(offsetof(struct start_info, pt_base) == 88, "start_info of xen.h");
_Static_assert(sizeof(struct vcpu_info) == 64 && sizeof(struct vcpu_time_info) == 32, "vcpu_info of xen.h");
_Static_assert(offsetof(struct shared_info, evtchn_pending) == 64 * XEN_LEGACY_MAX_VCPUS, "shared_info of xen.h");

/* Valid after memory_init. */
extern struct shared_info *shared_info;

/* The linker's: where the image lies. */
extern char image_start[], image_data[], image_end[];

/* ---- mmu.c ---- */

/* Learns which pages are there, maps those that the builder left out, gives the rest to the page allocator. */
void memory_init(const struct start_info *info);

/* The frame mapped at a new address beyond the guest's memory. Panics when there is no memory for page tables. */
void *mmu_map_frame(unsigned long mfn);

/* The frame of a page of guest memory, by its address. */
unsigned long mmu_frame_of(const void *page);

/* The page of guest memory that is this frame. */
void *mmu_page_of(unsigned long mfn);

/* A stack of `pages` pages with an unmapped page below; returns its top. */
void *mmu_new_stack(size_t pages);

/* ---- traps.c ---- */

void traps_init(void);

/* The stack that back-traces may walk. */
void traps_set_stack(const void *low, const void *high);

/* ---- the others ---- */

void events_init(void);
void grants_init(void);
void clock_init(void);
void console_init(struct start_info *info);
void console_notify_now(void);

/* Ends the guest with a reason of xen/sched.h (SHUTDOWN_*). */
_Noreturn void guest_end(unsigned reason);

#endif
