/* Put before the sources of platform/xen when they are compiled for test/start.c: hypercalls end in the test, which plays Xen. */
#ifndef TEST_XEN_H
#define TEST_XEN_H

#define XEN_HYPERCALL_H /* instead of platform/xen/hypercall.h */
#define machine_to_phys_mapping xen_machine_to_phys

#include "shoal.h"
#include <xen/xen.h>

extern unsigned long xen_machine_to_phys[];

long xen_hypercall(unsigned long number, unsigned long a, unsigned long b, unsigned long c, unsigned long d);

#define hypercall2(number, a, b) xen_hypercall(number, a, b, 0, 0)
#define hypercall3(number, a, b, c) xen_hypercall(number, a, b, c, 0)
#define hypercall4(number, a, b, c, d) xen_hypercall(number, a, b, c, d)
#define hypercall_batch(calls, count) xen_hypercall(__HYPERVISOR_multicall, (unsigned long)(calls), count, 0, 0)

#endif
