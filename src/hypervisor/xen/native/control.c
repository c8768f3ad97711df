/*
 * libxenctrl lives here, in control_cpu.c and in control_memory.c and nowhere else; see control.h. The few calls that libxenctrl keeps to itself (the domctl that fills the
 * hypercall page, pinning page tables for another domain) go through libxencall with the structures of Xen's public headers.
 */
#include "control.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xencall.h>
#include <xenctrl.h>

#include <xen/arch-x86/xen.h>
#include <xen/grant_table.h>
#include <xen/sched.h>

#include "control_private.h"
#include "logger.h"

struct control *control_open(const uint8_t *guest_cpus, size_t length, struct failure *failure)
{
  struct control *control = calloc(1, sizeof *control);

  if (!control) {
    failed(failure, "calloc");
    return NULL;
  }
  control->xc = xc_interface_open(&quiet_logger, &quiet_logger, 0);
  if (!control->xc) {
    failed(failure, "xc_interface_open");
    free(control);
    return NULL;
  }
  control->call = xencall_open(&quiet_logger, 0);
  if (!control->call) {
    failed(failure, "xencall_open");
    xc_interface_close(control->xc);
    free(control);
    return NULL;
  }
  if (length > 0) {
    int room = xc_get_cpumap_size(control->xc);

    control->guest_cpus = xc_cpumap_alloc(control->xc);
    if (!control->guest_cpus) {
      failed(failure, "xc_cpumap_alloc");
      control_close(control);
      return NULL;
    }
    memcpy(control->guest_cpus, guest_cpus, room > 0 && (size_t)room < length ? (size_t)room : length);
  }
  return control;
}

void control_close(struct control *control)
{
  if (!control) return;
  free(control->guest_cpus);
  if (control->list) xencall_free_buffer(control->call, control->list);
  xencall_close(control->call);
  xc_interface_close(control->xc);
  free(control);
}

int control_machine(struct control *control, struct machine_facts *facts, struct failure *failure)
{
  xc_physinfo_t physical;
  xen_extraversion_t extra;
  int version;

  memset(&physical, 0, sizeof physical);
  if (xc_physinfo(control->xc, &physical)) return failed(failure, "xc_physinfo");
  version = xc_version(control->xc, XENVER_version, NULL);
  if (version < 0) return failed(failure, "xc_version");
  if (xc_version(control->xc, XENVER_extraversion, &extra) < 0) return failed(failure, "xc_version");
  facts->major = (unsigned)version >> 16;
  facts->minor = (unsigned)version & 0xffff;
  memcpy(facts->extra, extra, sizeof facts->extra);
  facts->extra[sizeof facts->extra - 1] = 0;
  facts->total_kib = physical.total_pages * 4;
  facts->free_kib = (physical.free_pages - physical.outstanding_pages) * 4;
  facts->cpus = physical.nr_cpus;
  return 0;
}

static void take_facts(struct domain_facts *facts, const xc_domaininfo_t *info)
{
  facts->domid = info->domain;
  facts->flags = (uint8_t)((info->flags & XEN_DOMINF_dying ? DOMAIN_DYING : 0) | (info->flags & XEN_DOMINF_shutdown ? DOMAIN_SHUTDOWN : 0) |
                           (info->flags & XEN_DOMINF_paused ? DOMAIN_PAUSED : 0));
  facts->shutdown_reason = (uint8_t)(info->flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask);
  memcpy(facts->handle, info->handle, 16);
  facts->total_pages = info->tot_pages;
  facts->max_pages = info->max_pages;
  facts->cpu_time_ns = info->cpu_time;
  facts->shared_info_mfn = info->shared_info_frame;
}

/* By number, which Xen finds in a hash; its other call for this walks all domains up to that number. */
int control_domain(struct control *control, uint16_t domid, struct domain_facts *facts, struct failure *failure)
{
  struct xen_domctl *domctl = xencall_alloc_buffer(control->call, sizeof *domctl);
  int result = 0;

  if (!domctl) return failed(failure, "xencall_alloc_buffer");
  memset(domctl, 0, sizeof *domctl);
  domctl->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
  domctl->domain = domid;
  /* Asked for the facts of a domain that is not there, Xen walks the list of all; this call finds it by its number or not at all. */
  domctl->cmd = XEN_DOMCTL_get_address_size;
  if (xencall1(control->call, __HYPERVISOR_domctl, (uintptr_t)domctl) && errno == ESRCH) {
    xencall_free_buffer(control->call, domctl);
    return 1;
  }
  memset(domctl, 0, sizeof *domctl);
  domctl->cmd = XEN_DOMCTL_getdomaininfo;
  domctl->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
  domctl->domain = domid;
  if (xencall1(control->call, __HYPERVISOR_domctl, (uintptr_t)domctl)) {
    result = errno == ESRCH ? 1 : failed(failure, "XEN_DOMCTL_getdomaininfo");
  } else if (domctl->domain != domid) {
    result = 1; /* Xen answers with the next domain when this one is not there */
  } else {
    take_facts(facts, &domctl->u.getdomaininfo);
  }
  xencall_free_buffer(control->call, domctl);
  return result;
}

int control_domains(struct control *control, uint16_t first, unsigned room, struct domain_facts *facts, struct failure *failure)
{
  struct xen_sysctl *sysctl;
  int count = -1;

  /* Kept: libxenctrl's own takes room for all that could be answered from the kernel and gives it back, page by page, each time. */
  if (!control->list && !(control->list = xencall_alloc_buffer(control->call, sizeof *control->list))) return failed(failure, "xencall_alloc_buffer");
  sysctl = xencall_alloc_buffer(control->call, sizeof *sysctl);
  if (!sysctl) return failed(failure, "xencall_alloc_buffer");
  memset(sysctl, 0, sizeof *sysctl);
  sysctl->cmd = XEN_SYSCTL_getdomaininfolist;
  sysctl->interface_version = XEN_SYSCTL_INTERFACE_VERSION;
  sysctl->u.getdomaininfolist.first_domain = first;
  sysctl->u.getdomaininfolist.max_domains = room < DOMAIN_BATCH ? room : DOMAIN_BATCH;
  set_xen_guest_handle_raw(sysctl->u.getdomaininfolist.buffer, control->list->domains);
  if (xencall1(control->call, __HYPERVISOR_sysctl, (uintptr_t)sysctl)) failed(failure, "XEN_SYSCTL_getdomaininfolist");
  else count = (int)sysctl->u.getdomaininfolist.num_domains;
  for (int i = 0; i < count; i++) take_facts(&facts[i], &control->list->domains[i]);
  xencall_free_buffer(control->call, sysctl);
  return count;
}

/* Numbers that this toolstack gives: Xen itself, asked by others, counts from below. */
#define DOMID_LAST (DOMID_FIRST_RESERVED - 1)
#define DOMID_LEAST 0x4000u

/*
 * Creates with the next free number, downwards. Xen keeps its domains in a list in the order of their numbers and walks it from the start to put a
 * domain in or take one out, so that the youngest having the least number makes that cost the same however many there are.
 */
static int create_numbered(struct control *control, struct xen_domctl_createdomain *config, uint32_t *domid, struct failure *failure)
{
  if (control->next_domid == 0) {
    xc_domaininfo_t least;
    int found = xc_domain_getinfolist(control->xc, DOMID_LEAST, 1, &least);

    if (found < 0) return failed(failure, "xc_domain_getinfolist");
    control->next_domid = found == 1 && least.domain > DOMID_LEAST && least.domain <= DOMID_LAST ? least.domain - 1u : DOMID_LAST;
  }
  for (uint32_t tries = DOMID_LEAST; tries <= DOMID_LAST; tries++) {
    *domid = control->next_domid;
    control->next_domid = *domid == DOMID_LEAST ? DOMID_LAST : *domid - 1;
    if (xc_domain_create(control->xc, domid, config) == 0) return 0;
    if (errno != EEXIST) break;
  }
  return failed(failure, "xc_domain_create");
}

int control_create(struct control *control, const uint8_t handle[16], const struct domain_limits *limits, uint16_t *domid,
                   struct failure *failure)
{
  struct xen_domctl_createdomain config;
  uint32_t id;
  int port;

  memset(&config, 0, sizeof config);
  memcpy(config.handle, handle, sizeof config.handle);
  config.max_vcpus = 1;
  config.max_evtchn_port = limits->max_event_port;
  config.max_grant_frames = (int32_t)limits->max_grant_frames;
  config.max_maptrack_frames = 0; /* guests map no grants of others */
  config.grant_opts = XEN_DOMCTL_GRANT_version(1);
  if (create_numbered(control, &config, &id, failure)) return -1;

  if (xc_domain_max_vcpus(control->xc, id, 1)) {
    failed(failure, "xc_domain_max_vcpus");
    goto undo;
  }
  if (control->guest_cpus && xc_vcpu_setaffinity(control->xc, id, 0, control->guest_cpus, NULL, XEN_VCPUAFFINITY_HARD)) {
    failed(failure, "xc_vcpu_setaffinity");
    goto undo;
  }
  if (xc_domain_setmaxmem(control->xc, id, limits->memory_pages * 4)) {
    failed(failure, "xc_domain_setmaxmem");
    goto undo;
  }
  for (unsigned wanted = STORE_PORT; wanted < FIRST_VIF_PORT + limits->wired_vifs; wanted++) {
    port = xc_evtchn_alloc_unbound(control->xc, id, 0);
    if (port != (int)wanted) {
      failed_with(failure, "xc_evtchn_alloc_unbound", port < 0 ? errno : EPROTO);
      goto undo;
    }
  }
  *domid = (uint16_t)id;
  return 0;

undo:
  xc_domain_destroy(control->xc, id);
  return -1;
}

int control_create_owner(struct control *control, const uint8_t handle[16], uint64_t memory_pages, uint16_t *domid, struct failure *failure)
{
  struct xen_domctl_createdomain config;
  uint32_t id;

  memset(&config, 0, sizeof config);
  memcpy(config.handle, handle, sizeof config.handle);
  config.max_vcpus = 1;
  config.max_evtchn_port = 0;
  config.max_grant_frames = 1;
  config.grant_opts = XEN_DOMCTL_GRANT_version(1);
  if (create_numbered(control, &config, &id, failure)) return -1;
  if (xc_domain_setmaxmem(control->xc, id, memory_pages * 4)) {
    failed(failure, "xc_domain_setmaxmem");
    xc_domain_destroy(control->xc, id);
    return -1;
  }
  *domid = (uint16_t)id;
  return 0;
}

int control_set_handle(struct control *control, uint16_t domid, const uint8_t handle[16], struct failure *failure)
{
  xen_domain_handle_t value;

  memcpy(value, handle, sizeof value);
  return xc_domain_sethandle(control->xc, domid, value) ? failed(failure, "xc_domain_sethandle") : 0;
}

int control_destroy(struct control *control, uint16_t domid, struct failure *failure)
{
  /* Xen goes on by itself where it was preempted; EAGAIN or EBUSY here is the rare rest, and a bound keeps a bug from looping. */
  for (int attempt = 0; attempt < 1000; attempt++) {
    if (xc_domain_destroy(control->xc, domid) == 0) return 0;
    if (errno != EAGAIN && errno != EBUSY) return failed(failure, "xc_domain_destroy");
  }
  return failed(failure, "xc_domain_destroy");
}

int control_pause(struct control *control, uint16_t domid, struct failure *failure)
{
  return xc_domain_pause(control->xc, domid) ? failed(failure, "xc_domain_pause") : 0;
}

int control_await_shutdown(struct control *control, uint16_t domid, unsigned most_us, struct domain_facts *facts, struct failure *failure)
{
  struct timespec now;
  int64_t until_us = 0, now_us;
  int status;

  for (;;) {
    status = control_domain(control, domid, facts, failure);
    if (status || facts->flags & DOMAIN_SHUTDOWN) return status;
    clock_gettime(CLOCK_MONOTONIC, &now);
    now_us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    if (until_us == 0) until_us = now_us + most_us;
    if (now_us >= until_us) return 0;
    /* Else one that has to run on this processor would not, until what is left of our turn on it is over. */
    xencall2(control->call, __HYPERVISOR_sched_op, SCHEDOP_yield, 0);
  }
}

int control_unpause(struct control *control, uint16_t domid, struct failure *failure)
{
  return xc_domain_unpause(control->xc, domid) ? failed(failure, "xc_domain_unpause") : 0;
}

int control_grant_frame(struct control *control, uint16_t domid, uint64_t *mfn, struct failure *failure)
{
  struct {
    gnttab_setup_table_t setup;
    xen_pfn_t frame;
  } *buffer = xencall_alloc_buffer(control->call, sizeof *buffer);
  int result = 0;

  if (!buffer) return failed(failure, "xencall_alloc_buffer");
  memset(buffer, 0, sizeof *buffer);
  buffer->setup.dom = domid;
  buffer->setup.nr_frames = 1;
  set_xen_guest_handle_raw(buffer->setup.frame_list, &buffer->frame);
  if (xencall3(control->call, __HYPERVISOR_grant_table_op, GNTTABOP_setup_table, (uintptr_t)&buffer->setup, 1)) {
    result = failed(failure, "GNTTABOP_setup_table");
  } else if (buffer->setup.status != GNTST_okay) {
    result = failed_with(failure, "GNTTABOP_setup_table", EINVAL);
  }
  *mfn = buffer->frame;
  xencall_free_buffer(control->call, buffer);
  return result;
}

int control_hypercall_page(struct control *control, uint16_t domid, uint64_t mfn, struct failure *failure)
{
  struct xen_domctl *domctl = xencall_alloc_buffer(control->call, sizeof *domctl);
  int result;

  if (!domctl) return failed(failure, "xencall_alloc_buffer");
  memset(domctl, 0, sizeof *domctl);
  domctl->cmd = XEN_DOMCTL_hypercall_init;
  domctl->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
  domctl->domain = domid;
  domctl->u.hypercall_init.gmfn = mfn;
  result = xencall1(control->call, __HYPERVISOR_domctl, (uintptr_t)domctl) ? failed(failure, "XEN_DOMCTL_hypercall_init") : 0;
  xencall_free_buffer(control->call, domctl);
  return result;
}

int control_pin_l4(struct control *control, uint16_t domid, uint64_t mfn, struct failure *failure)
{
  struct mmuext_op *operation = xencall_alloc_buffer(control->call, sizeof *operation);
  int result;

  if (!operation) return failed(failure, "xencall_alloc_buffer");
  memset(operation, 0, sizeof *operation);
  operation->cmd = MMUEXT_PIN_L4_TABLE;
  operation->arg1.mfn = mfn;
  result = xencall4(control->call, __HYPERVISOR_mmuext_op, (uintptr_t)operation, 1, 0, domid) ? failed(failure, "MMUEXT_PIN_L4_TABLE") : 0;
  xencall_free_buffer(control->call, operation);
  return result;
}

int control_map_others(struct control *control, uint16_t domid, uint16_t owner, const struct table_write *writes, uint64_t count,
                       struct failure *failure)
{
  /* Whose tables: upper half, plus one; whose pages: lower half (HYPERVISOR_mmu_update in xen.h). */
  uint32_t whose = (domid + 1u) << 16 | owner;
  mmu_update_t *updates = xencall_alloc_buffer(control->call, count * sizeof *updates);
  int result;

  if (!updates) return failed(failure, "xencall_alloc_buffer");
  for (uint64_t i = 0; i < count; i++) updates[i] = (mmu_update_t){ .ptr = writes[i].address | MMU_NORMAL_PT_UPDATE, .val = writes[i].entry };
  result = xencall4(control->call, __HYPERVISOR_mmu_update, (uintptr_t)updates, count, 0, whose) ? failed(failure, "HYPERVISOR_mmu_update") : 0;
  xencall_free_buffer(control->call, updates);
  return result;
}

int control_set_start(struct control *control, uint16_t domid, uint64_t entry, uint64_t stack, uint64_t start_info, uint64_t l4_mfn,
                      struct failure *failure)
{
  vcpu_guest_context_any_t *context = calloc(1, sizeof *context);
  vcpu_guest_context_x86_64_t *state;
  int result;

  if (!context) return failed(failure, "calloc");
  state = &context->x64;
  state->flags = VGCF_in_kernel | VGCF_online;
  state->user_regs.rip = entry;
  state->user_regs.rsp = stack;
  state->user_regs.rsi = start_info;
  state->user_regs.rflags = 1u << 9; /* interrupt flag; real interrupts stay on, events are masked in shared_info */
  state->user_regs.cs = FLAT_KERNEL_CS;
  state->user_regs.ss = FLAT_KERNEL_SS;
  state->user_regs.ds = state->user_regs.es = state->user_regs.fs = state->user_regs.gs = FLAT_KERNEL_DS;
  state->kernel_ss = FLAT_KERNEL_SS;
  state->kernel_sp = stack;
  state->ctrlreg[3] = l4_mfn << 12;
  result = xc_vcpu_setcontext(control->xc, domid, 0, context) ? failed(failure, "xc_vcpu_setcontext") : 0;
  free(context);
  return result;
}
