/* What the kernel asks of its platform besides events and grants: a console, a pause, and an end. */
#ifndef KERNEL_PLATFORM_H
#define KERNEL_PLATFORM_H

#include "shoal.h"

/* Never blocks. Lines end with "\n"; the platform adds what its terminal needs. */
void platform_console_write(const char *text, size_t length);

/* Suspends the guest once the work at hand is done: see platform/xen/suspend.c. */
void platform_suspend(void);

/* Shows how the code came here, then ends the guest as crashed. */
_Noreturn void platform_crash(void);

#endif
