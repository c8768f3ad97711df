/* Parts of the kernel that have something to do when the guest goes on in another domain, and that only some guests contain. */
#ifndef KERNEL_RESUME_H
#define KERNEL_RESUME_H

#include "shoal.h"

struct resume_hook {
  void (*resumed)(bool as_clone); /* as shoal_app.resumed */
  struct resume_hook *next;
  bool listed;
};

/* From now on `hook` runs; it must live for ever. Listing it again changes nothing. */
void resume_listen(struct resume_hook *hook);

/* Runs all hooks, then the application's. Devices are down while they run, and come up afterwards. */
void resume_run(bool as_clone);

#endif
