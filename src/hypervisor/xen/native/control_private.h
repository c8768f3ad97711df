/* What control.c and control_cpu.c share. */
#ifndef SHOAL_CONTROL_PRIVATE_H
#define SHOAL_CONTROL_PRIVATE_H

#include <xencall.h>
#include <xenctrl.h>

#include "control.h"

/* What Xen lists its domains into. */
struct domain_list {
  xc_domaininfo_t domains[DOMAIN_BATCH];
};

struct control {
  xc_interface *xc;
  xencall_handle *call;
  xc_cpumap_t guest_cpus; /* NULL: all */
  uint32_t next_domid;    /* 0: not known yet */
  struct domain_list *list; /* NULL: not asked for yet */
};

#endif
