/*
 * Start of day: from Xen's start_info to the main loop, and the parts of it that are gone through again in another domain. The order
 * matters: faults are reported from the first step on, the stack has its guard before any code that could overrun it. A start
 * makes two traps into Xen before the application runs, for thousands of guests pay for each.
 */
#include "shoal.h"
#include <xen/grant_table.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include "config.h"
#include "control.h"
#include "guest.h"
#include "hypercall.h"
#include "loop.h"
#include "note.h"
#include "pages.h"
#include "random.h"
#include "store.h"
#include "wired.h"

_Static_assert(NOTE_WIRING == WIRING_NOTE && NOTE_WIRING_VERSION == WIRING_VERSION, "entry.S tells what wiring.h says");
_Static_assert(sizeof(struct start_info) <= WIRING_OFFSET, "the wiring lies behind start_info");

#define STACK_BYTES 16384u

_Noreturn void start_of_day(struct start_info *info);
_Noreturn void stack_switch(void *top, void (*function)(void));

struct shared_info *shared_info;

static struct start_info *start_info;

/* Addresses in the window for what is Xen's. */
static void *shared_info_at, *grants_at;

void guest_end(unsigned reason) {
  struct sched_shutdown request = {.reason = reason};
  console_notify_now();
  for (;;) hypercall2(__HYPERVISOR_sched_op, SCHEDOP_shutdown, (unsigned long)&request);
}

void shoal_shutdown(enum shoal_shutdown how) { guest_end(how == SHOAL_REBOOT ? SHUTDOWN_reboot : SHUTDOWN_poweroff); }

void guest_introduce(void) {
  struct multicall_entry calls[] = {
    {.op = __HYPERVISOR_set_trap_table, .args = {(unsigned long)trap_table}},
    {.op = __HYPERVISOR_set_callbacks, .args = {(unsigned long)event_callback, (unsigned long)failsafe_callback}},
    /* 100 Hz for every PV guest that does not say no. */
    {.op = __HYPERVISOR_vcpu_op, .args = {VCPUOP_stop_periodic_timer, 0, 0}},
    {.op = __HYPERVISOR_grant_table_op, .args = {GNTTABOP_setup_table, (unsigned long)grants_request(), 1}},
  };
  hypercall_batch(calls, sizeof calls / sizeof *calls);
}

void guest_connect(const struct start_info *info) {
  if (shared_info_at == NULL) {
    shared_info_at = mmu_window();
    grants_at = mmu_window();
  }
  struct mmu_mapping mappings[] = {{shared_info_at, info->shared_info / PAGE_BYTES}, {grants_at, grants_frame()}};
  mmu_map(mappings, 2);
  shared_info = shared_info_at;
  /* Xen's own tools look for it before they ask the guest to suspend itself. */
  mmu_show_frame_list();
  grants_move(grants_at);
}

/* Neither page is the guest's, and page tables that refer to them cannot be saved. */
void guest_disconnect(void) {
  struct mmu_mapping mappings[] = {{shared_info_at, MMU_NO_FRAME}, {grants_at, MMU_NO_FRAME}};
  shared_info = NULL;
  mmu_map(mappings, 2);
}

void guest_set_up(struct start_info *info, bool is_start) {
  events_init();
  if (is_start) clock_init();
  else clock_go_on(true);
  grants_init();
  store_init(info->store_evtchn == 0 ? NULL : mmu_page_of(info->store_mfn), info->store_evtchn);
  random_stir(info, offsetof(struct start_info, cmd_line) + strlen((const char *)info->cmd_line));
}

struct wired_place guest_wired_place(struct start_info *info) {
  return (struct wired_place){
    .wiring = (struct wiring *)((uint8_t *)info + WIRING_OFFSET),
    .memory = (uint8_t *)image_start,
    .first_frame = (size_t)(image_end - image_start) / PAGE_BYTES,
    .frame_count = info->nr_pages,
    .order_port = info->console.domU.evtchn,
    .has_store = info->store_evtchn != 0,
  };
}

static void run(void) {
  guest_connect(start_info);
  guest_set_up(start_info, true);
  shoal_print("%s %s: %lu KiB, %lu free\n", shoal_app.name, shoal_app.version, shoal_memory().total_bytes / 1024,
              shoal_memory().free_bytes / 1024);
  shoal_app.start();
  control_start();
  loop_run();
}

void start_of_day(struct start_info *info) {
  start_info = info;
  guest_introduce();
  config_init((const char *)info->cmd_line, sizeof info->cmd_line);
  console_init(info);
  struct wired_place place = guest_wired_place(info);
  wired_init(&place);
  memory_init(info);
  suspend_init(info);
  size_t stack_pages = ((shoal_app.stack_bytes > STACK_BYTES ? shoal_app.stack_bytes : STACK_BYTES) + PAGE_BYTES - 1) / PAGE_BYTES;
  uint8_t *top = mmu_new_stack(stack_pages);
  traps_set_stack(top - stack_pages * PAGE_BYTES, top);
  stack_switch(top, run);
}
