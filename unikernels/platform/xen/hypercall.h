/*
 * Hypercalls of a 64-bit PV guest: `syscall` with the number in rax and arguments in rdi, rsi, rdx, r10, r8; rcx and r11 are
 * spoilt. The kernel brings these itself, so the builder need not fill a hypercall page.
 */
#ifndef XEN_HYPERCALL_H
#define XEN_HYPERCALL_H

#include "shoal.h"
#include <xen/xen.h>

static inline long hypercall4(unsigned long number, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  long result;
  register unsigned long r10 __asm__("r10") = d;
  __asm__ volatile("syscall"
                   : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(r10)
                   : "0"(number)
                   : "rcx", "r11", "r8", "memory", "cc");
  return result;
}

static inline long hypercall2(unsigned long number, unsigned long a, unsigned long b) {
  long result;
  __asm__ volatile("syscall" : "=a"(result), "+D"(a), "+S"(b) : "0"(number) : "rcx", "r11", "memory", "cc");
  return result;
}

static inline long hypercall3(unsigned long number, unsigned long a, unsigned long b, unsigned long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result), "+D"(a), "+S"(b), "+d"(c) : "0"(number) : "rcx", "r11", "memory", "cc");
  return result;
}

/* Several in one trap: getting into Xen and back is the greater part of a small hypercall. Each has its own result. */
static inline void hypercall_batch(struct multicall_entry *calls, size_t count) {
  hypercall2(__HYPERVISOR_multicall, (unsigned long)calls, count);
}

#endif
