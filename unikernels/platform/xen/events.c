/*
 * Event channels in the two-level form, polled: upcalls are masked but while the guest blocks, so handlers run in the main loop
 * and nothing is ever interrupted. Masking, clearing and scanning are plain memory operations on shared info; only binding,
 * notifying and blocking are hypercalls.
 */
#include "events.h"
#include <xen/event_channel.h>
#include "barrier.h"
#include "guest.h"
#include "hypercall.h"
#include "loop.h"

static struct {
  void (*handle)(void *context);
  void *context;
} handlers[EVENT_PORTS];

static long event_op(unsigned command, void *argument) {
  return hypercall2(__HYPERVISOR_event_channel_op, command, (unsigned long)argument);
}

void events_init(void) {
  memset((void *)shared_info->evtchn_mask, 0xff, sizeof shared_info->evtchn_mask);
  shared_info->vcpu_info[0].evtchn_upcall_mask = 1;
  memset(handlers, 0, sizeof handlers); /* another domain has other ports */
}

void event_bind(uint32_t port, void (*handle)(void *context), void *context) {
  if (port == 0 || port >= EVENT_PORTS) shoal_panic("events: port %u", port);
  handlers[port].handle = handle;
  handlers[port].context = context;
  __atomic_and_fetch(&shared_info->evtchn_mask[0], ~(1ul << port), __ATOMIC_SEQ_CST);
  /* What came while it was masked left no mark in the selector. */
  if (__atomic_load_n(&shared_info->evtchn_pending[0], __ATOMIC_SEQ_CST) >> port & 1) {
    __atomic_or_fetch(&shared_info->vcpu_info[0].evtchn_pending_sel, 1ul, __ATOMIC_SEQ_CST);
    shared_info->vcpu_info[0].evtchn_upcall_pending = 1;
  }
}

uint32_t event_listen(domid_t remote) {
  struct evtchn_alloc_unbound request = {.dom = DOMID_SELF, .remote_dom = remote};
  if (event_op(EVTCHNOP_alloc_unbound, &request) != 0) return 0;
  if (request.port < EVENT_PORTS) return request.port;
  event_close(request.port);
  return 0;
}

void event_notify(uint32_t port) {
  struct evtchn_send request = {.port = port};
  event_op(EVTCHNOP_send, &request);
}

void event_close(uint32_t port) {
  struct evtchn_close request = {.port = port};
  if (port < EVENT_PORTS) {
    __atomic_or_fetch(&shared_info->evtchn_mask[0], 1ul << port, __ATOMIC_SEQ_CST);
    handlers[port].handle = NULL;
  }
  event_op(EVTCHNOP_close, &request);
}

static void handle_word(size_t word) {
  unsigned long pending = shared_info->evtchn_pending[word] & ~shared_info->evtchn_mask[word];
  for (; pending != 0; pending &= pending - 1) {
    size_t port = word * 64 + (size_t)__builtin_ctzl(pending);
    __atomic_and_fetch(&shared_info->evtchn_pending[word], ~(pending & -pending), __ATOMIC_SEQ_CST);
    if (port < EVENT_PORTS && handlers[port].handle != NULL) handlers[port].handle(handlers[port].context);
  }
}

bool platform_handle_events(void) {
  struct vcpu_info *vcpu = &shared_info->vcpu_info[0];
  if (!*(volatile uint8_t *)&vcpu->evtchn_upcall_pending) return false;
  *(volatile uint8_t *)&vcpu->evtchn_upcall_pending = 0;
  barrier_full();
  unsigned long words = __atomic_exchange_n(&vcpu->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
  for (; words != 0; words &= words - 1) handle_word((size_t)__builtin_ctzl(words));
  return true;
}
