/*
 * Suspends the guest and goes on: in the same domain when the toolstack changed its mind (a checkpoint), else in another one, which has
 * the guest's memory and nothing else of it: its own shared info, event channels and empty grant table, perhaps another store, wiring
 * and command line (a clone has another identity). What the guest keeps is what its pages say; the rest is asked for anew.
 *
 * What a saved guest must look like (xg_save of Xen's tools, docs/misc of Xen): no page-table entry refers to a frame that is not the
 * guest's, start_info names the store's and the console's page by number, and rdx has the frame of start_info.
 */
#include "shoal.h"
#include <xen/sched.h>
#include "config.h"
#include "control.h"
#include "guest.h"
#include "hypercall.h"
#include "loop.h"
#include "netfront.h"
#include "pages.h"
#include "platform.h"
#include "resume.h"
#include "store.h"
#include "wired.h"

/* Answers of the store that are under way would be lost: waited for, so often at most. */
#define PAUSE_NS 1000000ull
#define PAUSES 1000u

static struct start_info *info;
static unsigned pauses_left;

static void suspend(void *context);
static struct shoal_timer later = {.fire = suspend};

/* As start_info had them before, for when nothing comes of it. */
static unsigned long store_frame, console_frame;

/* Xen's tools find the two pages by number, for in another domain they have other frames. */
static void name_pages(void) {
  unsigned long index;
  store_frame = info->store_mfn;
  console_frame = info->console.domU.mfn;
  if (info->store_evtchn != 0 && mmu_index_of(store_frame, &index)) info->store_mfn = index;
  if (info->console.domU.evtchn != 0 && mmu_index_of(console_frame, &index)) info->console.domU.mfn = index;
}

static void go_on_here(void) {
  info->store_mfn = store_frame;
  info->console.domU.mfn = console_frame;
  guest_connect(info);
  clock_go_on(false);
  shared_info->vcpu_info[0].evtchn_upcall_mask = 1;
  shoal_print("suspend: cancelled\n");
}

static void go_on_elsewhere(void) {
  struct wired_place place = guest_wired_place(info);
  bool as_clone = !config_is((const char *)info->cmd_line, sizeof info->cmd_line);
  guest_introduce();
  guest_connect(info);
  console_init(info);
  guest_set_up(info, false);
  wired_resume(&place);
  /* Down under the old identity, up under the new one. */
  netfront_forget_all();
  if (as_clone) config_init((const char *)info->cmd_line, sizeof info->cmd_line);
  resume_run(as_clone);
  netfront_start_all();
  control_start();
  const char *name = shoal_config("name");
  shoal_print("suspend: gone on as %s%s\n", as_clone ? "the clone " : "", name == NULL ? "(no name)" : name);
}

static void suspend(void *context) {
  (void)context;
  struct sched_shutdown request = {.reason = SHUTDOWN_suspend};
  if (!store_is_quiet() && pauses_left-- > 0) {
    shoal_timer_set(&later, shoal_now_ns() + PAUSE_NS);
    return;
  }
  /* Whoever does not know which pages are free would keep, or send, what is in them. */
  if (!wired_map_is_read()) pages_clear_free();
  loop_flush(); /* frames that were sent, notifications */
  clock_stop();
  name_pages();
  guest_disconnect();
  bool cancelled = hypercall3(__HYPERVISOR_sched_op, SCHEDOP_shutdown, (unsigned long)&request, mmu_frame_of(info)) != 0;
  if (cancelled) go_on_here();
  else go_on_elsewhere();
}

void platform_suspend(void) {
  pauses_left = PAUSES;
  shoal_timer_set(&later, 0);
}

void suspend_init(struct start_info *start_info) { info = start_info; }
