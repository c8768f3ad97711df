/* Which domains that were introduced to the store have ended; see deaths.c. */
#ifndef STORED_DEATHS_H
#define STORED_DEATHS_H
#include <xenctrl.h>
#include "store.h"

/* As xc_domain_getinfolist: up to `most` domains from number `first` on, in their order; how many, or -1. */
typedef int deaths_list(uint32_t first, unsigned most, xc_domaininfo_t *info);

void deaths_introduced(unsigned domid);
void deaths_released(unsigned domid); /* it may live on, and nobody is told of its end */
/* Calls `dead` for each that is dying or gone, once or more. `*news`: one shut down, began to die or went away since the last look. Returns -1, and then
 * nothing counts as gone, when the list could not be had. */
int deaths_look(deaths_list *list, void (*dead)(unsigned domid), bool *news);
#endif
