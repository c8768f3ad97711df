/* The vCPU of a guest that suspends, resumes and is copied. With control.c the only user of libxenctrl; see control.h. */
#include "control.h"

#include <stdlib.h>
#include <string.h>

#include <xenctrl.h>

#include "control_private.h"

struct cpu_state {
  vcpu_guest_context_any_t context;
};

struct cpu_state *control_read_cpu(struct control *control, uint16_t domid, uint64_t *start_info_mfn, struct failure *failure)
{
  struct cpu_state *state = calloc(1, sizeof *state);

  if (!state) {
    failed(failure, "calloc");
    return NULL;
  }
  if (xc_vcpu_getcontext(control->xc, domid, 0, &state->context)) {
    failed(failure, "xc_vcpu_getcontext");
    free(state);
    return NULL;
  }
  *start_info_mfn = state->context.x64.user_regs.rdx;
  return state;
}

const void *control_cpu_bytes(const struct cpu_state *state, size_t *length)
{
  *length = sizeof state->context.x64;
  return &state->context.x64;
}

struct cpu_state *control_cpu_from(const void *bytes, size_t length, struct failure *failure)
{
  struct cpu_state *state = calloc(1, sizeof *state);

  if (!state) {
    failed(failure, "calloc");
    return NULL;
  }
  if (length == sizeof state->context.x64) {
    memcpy(&state->context.x64, bytes, length);
    /* These would be frames of another host. */
    if (state->context.x64.gdt_ents == 0 && state->context.x64.ldt_ents == 0) return state;
  }
  failed_with(failure, "memory", EINVAL);
  free(state);
  return NULL;
}

int control_cpu_features(struct control *control, uint32_t *words, unsigned room, struct failure *failure)
{
  struct xen_sysctl *sysctl = xencall_alloc_buffer(control->call, sizeof *sysctl);
  uint32_t *buffer = xencall_alloc_buffer(control->call, room * sizeof *buffer);
  int count = -1;

  if (!sysctl || !buffer) {
    failed(failure, "xencall_alloc_buffer");
  } else {
    memset(sysctl, 0, sizeof *sysctl);
    sysctl->cmd = XEN_SYSCTL_get_cpu_featureset;
    sysctl->interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    sysctl->u.cpu_featureset.index = XEN_SYSCTL_cpu_featureset_pv;
    sysctl->u.cpu_featureset.nr_features = room;
    set_xen_guest_handle_raw(sysctl->u.cpu_featureset.features, buffer);
    if (xencall1(control->call, __HYPERVISOR_sysctl, (uintptr_t)sysctl)) failed(failure, "XEN_SYSCTL_get_cpu_featureset");
    else count = (int)sysctl->u.cpu_featureset.nr_features;
    if (count > (int)room) count = (int)room;
    if (count > 0) memcpy(words, buffer, (size_t)count * sizeof *words);
  }
  xencall_free_buffer(control->call, buffer);
  xencall_free_buffer(control->call, sysctl);
  return count;
}

int control_write_cpu(struct control *control, uint16_t domid, const struct cpu_state *state, uint64_t l4_mfn, uint64_t start_info_mfn,
                      struct failure *failure)
{
  struct cpu_state *copy = malloc(sizeof *copy);
  int result;

  if (!copy) return failed(failure, "malloc");
  *copy = *state;
  copy->context.x64.ctrlreg[3] = l4_mfn << 12;
  copy->context.x64.ctrlreg[1] = 0; /* no page tables for user mode */
  copy->context.x64.user_regs.rax = 0;
  copy->context.x64.user_regs.rdx = start_info_mfn;
  result = xc_vcpu_setcontext(control->xc, domid, 0, &copy->context) ? failed(failure, "xc_vcpu_setcontext") : 0;
  free(copy);
  return result;
}

int control_resume(struct control *control, uint16_t domid, struct failure *failure)
{
  struct xen_domctl *domctl;
  uint64_t start_info_mfn;
  struct cpu_state *state = control_read_cpu(control, domid, &start_info_mfn, failure);
  int result;

  if (!state) return -1;
  state->context.x64.user_regs.rax = 1; /* what SCHEDOP_shutdown comes back with */
  result = xc_vcpu_setcontext(control->xc, domid, 0, &state->context);
  free(state);
  if (result) return failed(failure, "xc_vcpu_setcontext");
  domctl = xencall_alloc_buffer(control->call, sizeof *domctl);
  if (!domctl) return failed(failure, "xencall_alloc_buffer");
  memset(domctl, 0, sizeof *domctl);
  domctl->cmd = XEN_DOMCTL_resumedomain;
  domctl->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
  domctl->domain = domid;
  result = xencall1(control->call, __HYPERVISOR_domctl, (uintptr_t)domctl) ? failed(failure, "XEN_DOMCTL_resumedomain") : 0;
  xencall_free_buffer(control->call, domctl);
  return result;
}

int control_translate(struct control *control, uint16_t domid, uint64_t address, uint64_t *mfn, struct failure *failure)
{
  *mfn = xc_translate_foreign_address(control->xc, domid, 0, address);
  return *mfn == 0 ? failed_with(failure, "xc_translate_foreign_address", EFAULT) : 0;
}
