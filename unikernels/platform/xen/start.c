/*
 * Start of day: from Xen's start_info to the main loop. The order matters: faults are reported from the second step on, the stack
 * has its guard page before any code that could overrun it.
 */
#include "shoal.h"
#include <xen/sched.h>
#include "config.h"
#include "control.h"
#include "guest.h"
#include "hypercall.h"
#include "loop.h"
#include "pages.h"
#include "random.h"
#include "store.h"

#define STACK_PAGES 4u

_Noreturn void start_of_day(struct start_info *info);
_Noreturn void stack_switch(void *top, void (*function)(void));

static struct start_info *start_info;

void guest_end(unsigned reason) {
  struct sched_shutdown request = {.reason = reason};
  console_notify_now();
  for (;;) hypercall2(__HYPERVISOR_sched_op, SCHEDOP_shutdown, (unsigned long)&request);
}

void shoal_shutdown(enum shoal_shutdown how) { guest_end(how == SHOAL_REBOOT ? SHUTDOWN_reboot : SHUTDOWN_poweroff); }

static void run(void) {
  events_init();
  clock_init();
  grants_init();
  store_init(start_info->store_evtchn == 0 ? NULL : mmu_page_of(start_info->store_mfn), start_info->store_evtchn);
  random_stir(start_info, sizeof *start_info);
  shoal_print("%s %s: %lu KiB, %lu free\n", shoal_app.name, shoal_app.version, shoal_memory().total_bytes / 1024,
              shoal_memory().free_bytes / 1024);
  shoal_app.start();
  control_start();
  loop_run();
}

void start_of_day(struct start_info *info) {
  start_info = info;
  traps_init();
  config_init((const char *)info->cmd_line, sizeof info->cmd_line);
  console_init(info);
  memory_init(info);
  uint8_t *top = mmu_new_stack(STACK_PAGES);
  traps_set_stack(top - STACK_PAGES * PAGE_BYTES, top);
  stack_switch(top, run);
}
