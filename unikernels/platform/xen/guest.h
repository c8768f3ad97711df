/* What the Xen platform's files share: the pages Xen gave the guest, its page tables, its beginning and its end. */
#ifndef XEN_GUEST_H
#define XEN_GUEST_H

#include "shoal.h"
#include <xen/xen.h>

_Static_assert(offsetof(struct start_info, pt_base) == 88, "start_info of xen.h");
_Static_assert(sizeof(struct vcpu_info) == 64 && sizeof(struct vcpu_time_info) == 32, "vcpu_info of xen.h");
_Static_assert(offsetof(struct shared_info, evtchn_pending) == 64 * XEN_LEGACY_MAX_VCPUS, "shared_info of xen.h");

/* Valid after guest_connect, and not while the guest is suspended. */
extern struct shared_info *shared_info;

/* The linker's: where the image lies. */
extern char image_start[], image_data[], image_end[];

/* ---- mmu.c ---- */

/* Learns which pages are there, maps those that the builder left out, gives the rest to the page allocator. */
void memory_init(const struct start_info *info);

/* A page of addresses beyond the guest's memory, not mapped yet. Panics when there is no memory for page tables. */
void *mmu_window(void);

/* Maps frames at addresses of the window, in one trap; MMU_NO_FRAME unmaps. */
#define MMU_NO_FRAME (~0ul)
struct mmu_mapping {
  void *at;
  unsigned long frame;
};
void mmu_map(const struct mmu_mapping *mappings, size_t count);

/* The frame of a page of guest memory, by its address. */
unsigned long mmu_frame_of(const void *page);

/* The page of guest memory that is this frame. */
void *mmu_page_of(unsigned long mfn);

/* The number of that page; false when the frame is not the guest's. */
bool mmu_index_of(unsigned long mfn, unsigned long *index);

/* A stack of `pages` pages that faults when it overflows; returns its top. */
void *mmu_new_stack(size_t pages);

/* Shows a toolstack that saves the guest where its list of frames is. */
void mmu_show_frame_list(void);

/* ---- traps.c ---- */

/* entry.S: what Xen is to call. */
extern const struct trap_info trap_table[];
extern const char event_callback[], failsafe_callback[];

/* The stack that back-traces may walk. */
void traps_set_stack(const void *low, const void *high);

/* ---- start.c: at the start and again in another domain, in this order ---- */

/* Tells Xen of the guest's handlers, asks it for the grant table, stops the ticker that PV guests have by default. One trap. */
void guest_introduce(void);

/* Maps what is Xen's: shared info, grant table. One trap, and one more to take them away. */
void guest_connect(const struct start_info *info);
void guest_disconnect(void);

/* Clock, events, grants, store, random numbers: all that goes over shared info. */
void guest_set_up(struct start_info *info, bool is_start);

/* Where the wiring is and what it may refer to. */
struct wired_place;
struct wired_place guest_wired_place(struct start_info *info);

/* ---- the others ---- */

void events_init(void);
void clock_init(void);
void console_init(struct start_info *info);
void console_notify_now(void);
void suspend_init(struct start_info *info);

/* The clock stands still from the one to the other; is_new: it is another domain's. */
void clock_stop(void);
void clock_go_on(bool is_new);

/* For GNTTABOP_setup_table. */
struct gnttab_setup_table;
struct gnttab_setup_table *grants_request(void);

/* The frame that Xen answered with, MMU_NO_FRAME when there is none. */
unsigned long grants_frame(void);

/* The table lies at `table` now. */
void grants_move(void *table);

/* All entries are free: at the start, and in another domain, whose table is empty. */
void grants_init(void);

/* Ends the guest with a reason of xen/sched.h (SHUTDOWN_*). */
_Noreturn void guest_end(unsigned reason);

#endif
