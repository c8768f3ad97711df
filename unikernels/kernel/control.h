/* What the host orders the guest to do: by its wiring, or by control/shutdown in the store. */
#ifndef KERNEL_CONTROL_H
#define KERNEL_CONTROL_H

/* Obeys from now on. Called again in another domain, after wiring or store were set up for it. */
void control_start(void);

#endif
