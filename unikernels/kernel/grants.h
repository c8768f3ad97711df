/* Grant table, version 1, from the platform: pages that another domain may map or copy. */
#ifndef KERNEL_GRANTS_H
#define KERNEL_GRANTS_H

#include "shoal.h"
#include <xen/xen.h>
#include <xen/grant_table.h>

/* 0 when the table is full (reference 0 is Xen's own, for the console). */
grant_ref_t grant_access(domid_t to, const void *page, bool readonly);

/* False when the other domain still has the page mapped: page and reference are then lost for good. */
bool grant_end(grant_ref_t reference);

#endif
