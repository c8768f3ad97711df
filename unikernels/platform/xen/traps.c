/*
 * Exceptions: nothing in the guest recovers from one, so each ends in a report on the console (registers, back-trace as addresses
 * for addr2line and the unstripped image) and in a crash that the toolstack sees.
 */
#include "guest.h"
#include "hypercall.h"
#include "platform.h"
#include <xen/sched.h>

struct registers {
  uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
  uint64_t vector, code;
  uint64_t rip, cs, rflags, rsp, ss;
};
_Static_assert(sizeof(struct registers) == 22 * 8, "as entry.S pushes them");

#define MOST_FRAMES 24

static uintptr_t stack_low, stack_high;

static const char *name_of(uint64_t vector) {
  switch (vector) {
    case 0: return "divide error";
    case 3: return "breakpoint";
    case 6: return "invalid opcode";
    case 8: return "double fault";
    case 13: return "general protection";
    case 14: return "page fault";
    case 17: return "alignment check";
    case 32: return "failsafe callback";
    default: return "exception";
  }
}

void traps_set_stack(const void *low, const void *high) {
  stack_low = (uintptr_t)low;
  stack_high = (uintptr_t)high;
}

static bool on_stack(uintptr_t at) { return at % 8 == 0 && at >= stack_low && at < stack_high - 8; }

/* Frame pointers form a list up the stack; a broken one ends it. */
static void print_trace(uintptr_t frame) {
  shoal_print("trace:");
  for (int i = 0; i < MOST_FRAMES && on_stack(frame); i++) {
    const uintptr_t *at = (const uintptr_t *)frame;
    if (at[1] == 0) break;
    shoal_print(" %lx", at[1]);
    if (at[0] <= frame) break;
    frame = at[0];
  }
  shoal_print("\n");
}

void platform_crash(void) {
  static bool once;
  if (!once) {
    once = true;
    print_trace((uintptr_t)__builtin_frame_address(0));
  }
  guest_end(SHUTDOWN_crash);
}

_Noreturn void exception_report(const struct registers *r);

void exception_report(const struct registers *r) {
  static bool once;
  if (once) guest_end(SHUTDOWN_crash);
  once = true;
  shoal_print("\nfault: %s (vector %lu, code %lx) at %lx", name_of(r->vector), r->vector, r->code, r->rip);
  if (r->vector == 14) shoal_print(", address %lx", shared_info == NULL ? 0ul : shared_info->vcpu_info[0].arch.cr2);
  shoal_print("\nrax %016lx rbx %016lx rcx %016lx\nrdx %016lx rsi %016lx rdi %016lx\n", r->rax, r->rbx, r->rcx, r->rdx, r->rsi,
              r->rdi);
  shoal_print("r8  %016lx r9  %016lx r10 %016lx\nr11 %016lx r12 %016lx r13 %016lx\n", r->r8, r->r9, r->r10, r->r11, r->r12,
              r->r13);
  shoal_print("r14 %016lx r15 %016lx rbp %016lx\nrsp %016lx flags %08lx cs %04lx ss %04lx\n", r->r14, r->r15, r->rbp, r->rsp,
              r->rflags, r->cs & 0xffff, r->ss & 0xffff);
  if (on_stack(r->rsp)) {
    const uint64_t *at = (const uint64_t *)r->rsp;
    shoal_print("stack:");
    for (int i = 0; i < 6 && on_stack((uintptr_t)&at[i]); i++) shoal_print(" %lx", at[i]);
    shoal_print("\n");
  }
  print_trace(r->rbp);
  guest_end(SHUTDOWN_crash);
}
