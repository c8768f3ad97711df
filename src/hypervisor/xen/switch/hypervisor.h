/*
 * All that the switch wants of Xen, so that a test can be Xen: frames of other domains mapped, event channels, copies by grant. xen.c
 * is the real one. Functions give 0 (or what they say) and -1 with errno set. Guests are not trusted with anything that comes back.
 */
#ifndef SWITCH_HYPERVISOR_H
#define SWITCH_HYPERVISOR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xengnttab.h>

int hypervisor_open(void);
int hypervisor_fd(void);                                        /* readable when an event channel fired */
void *hypervisor_map(unsigned domid, const uint64_t frames[2]); /* both pages, one after the other; NULL when the domain has no such frames */
void hypervisor_unmap(void *pages);
int hypervisor_bind(unsigned domid, uint32_t port);             /* our port */
void hypervisor_unbind(uint32_t port);
/* Ports that fired, `room` at most; each is silent until it is unmasked. */
size_t hypervisor_events(uint32_t *ports, size_t room);
void hypervisor_unmask(const uint32_t *ports, size_t count);
void hypervisor_notify(const uint32_t *ports, size_t count);    /* ports whose guest has just gone are passed over */
/* One call for all segments. Each segment's status says how it went; -1 when none was tried. */
int hypervisor_copy(xengnttab_grant_copy_segment_t *segments, size_t count);
/* Maps pages that the domain grants: a handle, and where each page is; NULL when any of them cannot be. */
void *hypervisor_lend(unsigned domid, const uint32_t *refs, size_t count, bool write, uint8_t **pages);
void hypervisor_return(void *handle, size_t count);

#endif
