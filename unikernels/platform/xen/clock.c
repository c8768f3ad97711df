/*
 * Time: Xen shows a time stamp counter reading, the nanoseconds that belong to it and how to scale the rest (struct
 * vcpu_time_info in xen.h); version numbers tell when it changes underneath. Sleeping is SCHEDOP_block with a one-shot timer,
 * which is set only when the time to wake differs from the one already set; its event channel is bound when the first timer is
 * waited for, for many a guest never has one. While the guest is suspended its time stands still: it is counted from a new beginning
 * afterwards, whatever the other host's clock says.
 */
#include "shoal.h"
#include <xen/event_channel.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include "barrier.h"
#include "events.h"
#include "guest.h"
#include "hypercall.h"
#include "loop.h"
#include "random.h"

static uint64_t start_ns;
static uint64_t armed_for_ns = TIMER_NEVER;
static uint64_t stopped_at_ns;
static uint32_t timer_port; /* 0: not bound yet */

static uint64_t read_tsc(void) {
  uint32_t low, high;
  __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return (uint64_t)high << 32 | low;
}

static uint64_t system_time_ns(void) {
  const volatile struct vcpu_time_info *time = &shared_info->vcpu_info[0].time;
  uint64_t now;
  uint32_t version;
  do {
    version = time->version;
    barrier_read();
    uint64_t delta = read_tsc() - time->tsc_timestamp;
    delta = time->tsc_shift >= 0 ? delta << time->tsc_shift : delta >> -time->tsc_shift;
    now = time->system_time + (uint64_t)((unsigned __int128)delta * time->tsc_to_system_mul >> 32);
    barrier_read();
  } while ((version & 1) != 0 || version != time->version);
  return now;
}

uint64_t shoal_now_ns(void) { return system_time_ns() - start_ns; }

uint64_t shoal_wall_ns(void) {
  const volatile struct shared_info *shared = shared_info;
  uint64_t base;
  uint32_t version;
  do {
    version = shared->wc_version;
    barrier_read();
    base = ((uint64_t)shared->wc_sec_hi << 32 | shared->wc_sec) * 1000000000ull + shared->wc_nsec;
    barrier_read();
  } while ((version & 1) != 0 || version != shared->wc_version);
  return base + system_time_ns();
}

static void on_timer(void *context) {
  (void)context;
  armed_for_ns = TIMER_NEVER;
}

static void stir(void) {
  uint64_t seeds[3] = {read_tsc(), shoal_wall_ns(), system_time_ns()};
  random_stir(seeds, sizeof seeds);
}

void clock_init(void) {
  start_ns = system_time_ns();
  stir();
}

void clock_stop(void) { stopped_at_ns = shoal_now_ns(); }

void clock_go_on(bool is_new) {
  armed_for_ns = TIMER_NEVER;
  if (!is_new) return;
  start_ns = system_time_ns() - stopped_at_ns; /* may be "negative": sums with it come out right */
  timer_port = 0;
  stir();
}

static void bind_timer(void) {
  struct evtchn_bind_virq bind = {.virq = VIRQ_TIMER, .vcpu = 0};
  if (hypercall2(__HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, (unsigned long)&bind) != 0) shoal_panic("clock: no timer");
  timer_port = bind.port;
  event_bind(timer_port, on_timer, NULL);
}

void platform_wait(uint64_t due_ns) {
  if (due_ns != TIMER_NEVER && due_ns <= shoal_now_ns()) return;
  if (due_ns != TIMER_NEVER && due_ns != armed_for_ns) {
    if (timer_port == 0) bind_timer();
    struct vcpu_set_singleshot_timer timer = {.timeout_abs_ns = start_ns + due_ns};
    hypercall3(__HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, 0, (unsigned long)&timer);
    armed_for_ns = due_ns;
  }
  /* Unmasks events and blocks in one step; the upcall that ends it leaves them masked (entry.S). */
  hypercall2(__HYPERVISOR_sched_op, SCHEDOP_block, 0);
  shared_info->vcpu_info[0].evtchn_upcall_mask = 1;
}
