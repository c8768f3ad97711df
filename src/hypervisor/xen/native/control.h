/*
 * The privileged calls of a toolstack, as this project needs them: the only door to libxenctrl, whose interface changes with every Xen
 * release. control.c alone includes xenctrl.h; what it offers here uses plain types, so that a new Xen means a new control.c.
 *
 * None of these is safe to call for one `struct control` from two threads at once, except that libxenctrl's own handle may be shared.
 */
#ifndef SHOAL_CONTROL_H
#define SHOAL_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "failure.h"

struct control;

/* Guest ports of the event channels that control_create allocates; Xen hands out the lowest free number, 0 is never valid. */
#define STORE_PORT 1u
#define CONSOLE_PORT 2u
#define FIRST_VIF_PORT 3u /* of the vifs that the builder wires, one each */

struct machine_facts {
  unsigned major, minor;
  char extra[16]; /* ".7", NUL terminated */
  uint64_t total_kib, free_kib;
  uint32_t cpus;
};

#define DOMAIN_DYING 1u
#define DOMAIN_SHUTDOWN 2u
#define DOMAIN_PAUSED 4u

struct domain_facts {
  uint16_t domid;
  uint8_t flags;           /* DOMAIN_* */
  uint8_t shutdown_reason; /* SHUTDOWN_* of xen/sched.h; only with DOMAIN_SHUTDOWN */
  uint8_t handle[16];
  uint64_t total_pages, max_pages;
  uint64_t cpu_time_ns;
  uint64_t shared_info_mfn;
};

struct domain_limits {
  uint64_t memory_pages;
  uint32_t max_event_port; /* largest port number */
  uint32_t max_grant_frames;
  unsigned wired_vifs;
};

/*
 * Opens libxenctrl and libxencall; NULL with `failure` outside dom0. Guests run on the processors of the bitmap `guest_cpus` (bit n of byte m is
 * processor 8m + n) only; of length 0: on all.
 */
struct control *control_open(const uint8_t *guest_cpus, size_t length, struct failure *failure);
void control_close(struct control *control);

int control_machine(struct control *control, struct machine_facts *facts, struct failure *failure);

/* One domain into *facts; returns 1 when there is none of that number. */
int control_domain(struct control *control, uint16_t domid, struct domain_facts *facts, struct failure *failure);
/* Listed at a time. */
enum { DOMAIN_BATCH = 256 };
/* Up to `room` domains numbered >= first, DOMAIN_BATCH at most, in order; returns how many, or -1. Not from two threads at once. */
int control_domains(struct control *control, uint16_t first, unsigned room, struct domain_facts *facts, struct failure *failure);

/*
 * A paused, empty PV domain with one vCPU, its memory limit, and the event channels STORE_PORT, CONSOLE_PORT and those of wired vifs open
 * to dom0. On failure there is no domain.
 */
int control_create(struct control *control, const uint8_t handle[16], const struct domain_limits *limits, uint16_t *domid,
                   struct failure *failure);
/* A domain that only owns memory: no vCPU, no event channels. */
int control_create_owner(struct control *control, const uint8_t handle[16], uint64_t memory_pages, uint16_t *domid, struct failure *failure);
/* Another handle for the domain. */
int control_set_handle(struct control *control, uint16_t domid, const uint8_t handle[16], struct failure *failure);
/* Frees what the domain owns. May take seconds for a domain of many GiB. A domain that is not there is ESRCH. */
int control_destroy(struct control *control, uint16_t domid, struct failure *failure);
/* As control_domain, once it has shut down or so many microseconds are over; gives way to other domains meanwhile. */
int control_await_shutdown(struct control *control, uint16_t domid, unsigned most_us, struct domain_facts *facts, struct failure *failure);
int control_pause(struct control *control, uint16_t domid, struct failure *failure);
int control_unpause(struct control *control, uint16_t domid, struct failure *failure);

/* Gives the domain `count` pages, guest frames `first` and up; mfns[i] receives the machine frame of guest frame first + i. ENOMEM when Xen has
 * no more. */
int control_populate(struct control *control, uint16_t domid, uint64_t first, uint64_t count, uint64_t *mfns, struct failure *failure);
/* Zeroes in pages of the domain, by their machine frames, of which none may be a page table. */
int control_clear_pages(struct control *control, uint16_t domid, const uint64_t *mfns, uint64_t count, struct failure *failure);
/* Machine frame of the first frame of the domain's grant table (version 1). */
int control_grant_frame(struct control *control, uint16_t domid, uint64_t *mfn, struct failure *failure);
/* Has Xen write its hypercall stubs into the page. */
int control_hypercall_page(struct control *control, uint16_t domid, uint64_t mfn, struct failure *failure);
/* Validates the whole tree of page tables and holds it. No page of it may still be mapped writable anywhere. */
int control_pin_l4(struct control *control, uint16_t domid, uint64_t mfn, struct failure *failure);
struct table_write {
  uint64_t address; /* machine address of a page-table entry of the domain */
  uint64_t entry;
};
/* Page-table entries of domain `domid`, pinned tables included, that map pages of domain `owner`. Xen holds those pages for as long as they
 * are mapped, and lets the domain itself change nothing about it but unmap them. */
int control_map_others(struct control *control, uint16_t domid, uint16_t owner, const struct table_write *writes, uint64_t count,
                       struct failure *failure);
/* State of vCPU 0 at its first instruction; everything else is zero. */
int control_set_start(struct control *control, uint16_t domid, uint64_t entry, uint64_t stack, uint64_t start_info, uint64_t l4_mfn,
                      struct failure *failure);


/* SHUTDOWN_suspend of xen/sched.h. */
#define SHUTDOWN_REASON_SUSPEND 2u

/* State of the vCPU of a domain that has suspended itself, to be freed with free(); *start_info_mfn is what the guest left in rdx. */
struct cpu_state;
struct cpu_state *control_read_cpu(struct control *control, uint16_t domid, uint64_t *start_info_mfn, struct failure *failure);
/* The same state for a copy of that domain, whose suspension has just come back with 0: "in a new domain". */
int control_write_cpu(struct control *control, uint16_t domid, const struct cpu_state *state, uint64_t l4_mfn, uint64_t start_info_mfn,
                      struct failure *failure);
/* The same as bytes, to be read elsewhere; they live as long as the state. */
const void *control_cpu_bytes(const struct cpu_state *state, size_t *length);
/* EINVAL: not the state of a vCPU as this Xen has it, or one with descriptor tables of its own. To be freed with free(). */
struct cpu_state *control_cpu_from(const void *bytes, size_t length, struct failure *failure);
/* What PV guests may have seen of the processors: bit n of words[m] is feature 32m + n of xen/arch-x86/cpufeatureset.h. At most `room` words; returns
 * how many, or -1. */
int control_cpu_features(struct control *control, uint32_t *words, unsigned room, struct failure *failure);
/* A domain that has suspended itself goes on where it is: its suspension comes back with 1. */
int control_resume(struct control *control, uint16_t domid, struct failure *failure);
/* Machine frame at a virtual address of the guest. */
int control_translate(struct control *control, uint16_t domid, uint64_t address, uint64_t *mfn, struct failure *failure);

#endif
