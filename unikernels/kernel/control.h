/* What the toolstack asks of the guest: control/shutdown in the store. */
#ifndef KERNEL_CONTROL_H
#define KERNEL_CONTROL_H

/* Watches from now on. */
void control_start(void);

#endif
