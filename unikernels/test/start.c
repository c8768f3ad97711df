/*
 * The guest's own Xen code, from its first function to its sleep and through suspensions, with the test as builder and as Xen: guest
 * memory is mapped from a file of machine frames at the addresses that the page tables say, page tables and text are read-only, the
 * frames of text belong to somebody else, and a new domain has the same pages in other frames. Counted are the traps of a start,
 * checked is what a saved guest must look like, and that thousands of suspensions cost no page.
 */
#include "check.h"
#include "xen.h"
#include <sanitizer/common_interface_defs.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/io/xs_wire.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include "netfront.h"
#include "pages.h"
#include "wired.h"

#define BASE 0x40000000ul /* image_start, see the Makefile */
#define PAGES 200ul
#define TEXT_PAGES 25ul
#define IMAGE_PAGES 28ul
enum { P2M = IMAGE_PAGES, START_INFO, CONSOLE, STORE, TX, RX, TABLES, STACK = TABLES + 4 };
#define FIRST_FRAME 0x1000ul
#define DOMAIN_FRAMES 256ul
#define STORE_PORT 1u
#define CONSOLE_PORT 2u
#define DEVICE_PORT 3u

unsigned long xen_machine_to_phys[FIRST_FRAME + 2 * DOMAIN_FRAMES];
const struct trap_info trap_table[1];
const char event_callback[1], failsafe_callback[1];
_Noreturn void start_of_day(struct start_info *info);
extern struct shared_info *shared_info;

__asm__(".globl stack_switch\nstack_switch:\n mov %rdi, %rsp\n xor %ebp, %ebp\n call *%rsi\n ud2\n");

/* leave_for(&here, there): goes on where `there` was left, and comes back when somebody leaves for what is put into `here`. */
void leave_for(void **here, void *there);
__asm__("leave_for:\n push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
        " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

static int machine; /* the file of all frames */
static unsigned long domain; /* 0 or 1: which half of it */
static bool is_wired;
static unsigned traps, sends, other_calls, rounds, next_port;
static size_t free_pages;
static uint64_t timer_ns;
static bool done;
static char name_now[16];
static void *host, *guest; /* stack pointers of whichever does not run */
static const void *host_stack;
static size_t host_stack_bytes;
static struct call {
  unsigned long number, a, b, c, d;
  long result;
} call;

static unsigned long frame_of(unsigned long page) { return FIRST_FRAME + domain * DOMAIN_FRAMES + (page * 7 + 3 * domain) % PAGES; }
static unsigned long shared_frame(void) { return FIRST_FRAME + domain * DOMAIN_FRAMES + PAGES; }
static unsigned long grant_frame(void) { return shared_frame() + 1; }

static off_t offset_of(unsigned long frame) { return (off_t)((frame - FIRST_FRAME) * PAGE_BYTES); }

/* The test's own view of a frame; unmapped by the next call. */
static void *view(unsigned long frame) {
  static void *last;
  if (last != NULL) munmap(last, PAGE_BYTES);
  last = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, machine, offset_of(frame));
  return last;
}

static void map(unsigned long address, unsigned long frame, int protection) {
  void *at = mmap((void *)address, PAGE_BYTES, protection, MAP_SHARED | MAP_FIXED, machine, offset_of(frame));
  if (at == MAP_FAILED) abort();
}

static bool is_table(unsigned long page) { return page >= TABLES && page < STACK; }

static void write_tables(void) {
  ((uint64_t *)view(frame_of(TABLES)))[0] = frame_of(TABLES + 1) << 12 | 7;
  ((uint64_t *)view(frame_of(TABLES + 1)))[1] = frame_of(TABLES + 2) << 12 | 7;
  ((uint64_t *)view(frame_of(TABLES + 2)))[0] = frame_of(TABLES + 3) << 12 | 7;
  uint64_t *leaves = view(frame_of(TABLES + 3));
  for (unsigned long i = 0; i < PAGES; i++) leaves[i] = i < TEXT_PAGES ? 0x77777ul << 12 | 1 : frame_of(i) << 12 | (is_table(i) ? 1 : 3);
}

static void map_domain(void) {
  munmap((void *)BASE, 512 * PAGE_BYTES);
  memset(xen_machine_to_phys, 0xee, sizeof xen_machine_to_phys);
  for (unsigned long i = TEXT_PAGES; i < PAGES; i++) {
    map(BASE + i * PAGE_BYTES, frame_of(i), is_table(i) ? PROT_READ : PROT_READ | PROT_WRITE);
    xen_machine_to_phys[frame_of(i)] = i;
  }
  unsigned long *p2m = (unsigned long *)(BASE + P2M * PAGE_BYTES);
  for (unsigned long i = 0; i < PAGES; i++) p2m[i] = i < TEXT_PAGES ? ~0ul : frame_of(i);
  next_port = 5;
}

/* What the toolstack writes before a domain runs. `name` tells clones apart. */
static void lay_out(unsigned name) {
  struct start_info *info = (struct start_info *)(BASE + START_INFO * PAGE_BYTES);
  struct wiring *wiring = (struct wiring *)((uint8_t *)info + WIRING_OFFSET);
  struct shared_info *shared = view(shared_frame());
  memset(shared, 0, PAGE_BYTES);
  shared->vcpu_info[0].time.tsc_to_system_mul = 0x80000000u;
  shared->vcpu_info[0].time.system_time = 1000000 * (uint64_t)(name % 7);
  memset(shared->evtchn_mask, 0xff, sizeof shared->evtchn_mask);
  memset(view(grant_frame()), 0, PAGE_BYTES);
  info->nr_pages = PAGES;
  info->shared_info = shared_frame() << 12;
  info->store_evtchn = is_wired ? 0 : STORE_PORT;
  info->store_mfn = is_wired ? 0 : frame_of(STORE);
  info->console.domU.mfn = frame_of(CONSOLE);
  info->console.domU.evtchn = CONSOLE_PORT;
  info->pt_base = BASE + TABLES * PAGE_BYTES;
  info->nr_pt_frames = 4;
  info->mfn_list = BASE + P2M * PAGE_BYTES;
  snprintf((char *)info->cmd_line, sizeof info->cmd_line, "name=vm%u ip=10.0.%u.%u/16", name, name / 250, name % 250 + 1);
  snprintf(name_now, sizeof name_now, "vm%u", name);
  memset(wiring, 0, sizeof *wiring);
  if (!is_wired) return;
  *wiring = (struct wiring){WIRING_MAGIC, WIRING_VERSION, 0, 1, {{0, DEVICE_PORT, TX, RX, 0, {0, 0x16, 0x3e, 0, 0, (uint8_t)name}}}};
  memset((void *)(BASE + TX * PAGE_BYTES), 0, 2 * PAGE_BYTES);
  SHARED_RING_INIT((netif_tx_sring_t *)(BASE + TX * PAGE_BYTES));
  SHARED_RING_INIT((netif_rx_sring_t *)(BASE + RX * PAGE_BYTES));
}

/* ---- Xen ---- */

static long event_channel_op(unsigned long command, void *argument) {
  switch (command) {
    case EVTCHNOP_send: sends++; return 0;
    case EVTCHNOP_bind_virq: ((struct evtchn_bind_virq *)argument)->port = next_port++; return 0;
    case EVTCHNOP_alloc_unbound: ((struct evtchn_alloc_unbound *)argument)->port = next_port++; return 0;
    case EVTCHNOP_close: return 0;
    default: abort();
  }
}

static long update_va_mapping(unsigned long address, uint64_t entry) {
  unsigned long slot = (address - BASE) / PAGE_BYTES;
  if (slot <= PAGES || slot >= 512) abort(); /* the window only, and not the hole below it */
  ((uint64_t *)view(frame_of(TABLES + 3)))[slot] = entry;
  if (entry == 0) munmap((void *)address, PAGE_BYTES);
  else map(address, entry >> 12, PROT_READ | PROT_WRITE);
  return 0;
}

static long setup_table(struct gnttab_setup_table *request) {
  *request->frame_list.p = grant_frame();
  request->status = GNTST_okay;
  return 0;
}

static void fire(unsigned port) {
  struct shared_info *shared = view(shared_frame());
  CHECK(!(shared->evtchn_mask[0] >> port & 1));
  shared->evtchn_pending[0] |= 1ul << port;
  shared->vcpu_info[0].evtchn_pending_sel = 1;
  shared->vcpu_info[0].evtchn_upcall_pending = 1;
}

/* ---- the store's daemon ---- */

static struct xenstore_domain_interface *const store = (void *)(BASE + STORE * PAGE_BYTES);
static const char *shutdown_word = "";
static char shutdown_token[2];

static void reply(const struct xsd_sockmsg *to, const char *payload, size_t length) {
  struct xsd_sockmsg header = {.type = to->type, .req_id = to->req_id, .len = (uint32_t)length};
  for (size_t i = 0; i < sizeof header; i++) store->rsp[MASK_XENSTORE_IDX(store->rsp_prod++)] = ((const char *)&header)[i];
  for (size_t i = 0; i < length; i++) store->rsp[MASK_XENSTORE_IDX(store->rsp_prod++)] = payload[i];
}

static void tell_change(const char *token) {
  char event[4] = {'p', '\0', token[0], '\0'};
  reply(&(struct xsd_sockmsg){.type = XS_WATCH_EVENT}, event, sizeof event);
}

static const char *value_of(const char *path) {
  if (strcmp(path, "control/shutdown") == 0) return shutdown_word;
  if (strcmp(path, "device/vif/0/mac") == 0) return "00:16:3e:00:00:09";
  return strcmp(path, "device/vif/0/backend") == 0 ? "/local/domain/0/backend/vif/1/0" : "4";
}

/* Answers one request; false when there is none. */
static bool serve(void) {
  struct xsd_sockmsg header;
  char payload[256];
  if (is_wired || store->req_cons == store->req_prod) return false;
  for (size_t i = 0; i < sizeof header; i++) ((char *)&header)[i] = store->req[MASK_XENSTORE_IDX(store->req_cons++)];
  for (size_t i = 0; i < header.len; i++) payload[i] = store->req[MASK_XENSTORE_IDX(store->req_cons++)];
  payload[header.len] = '\0';
  bool is_shutdown = strcmp(payload, "control/shutdown") == 0;
  const char *second = payload + strlen(payload) + 1;
  if (header.type == XS_READ) {
    reply(&header, value_of(payload), strlen(value_of(payload)));
  } else {
    if (header.type == XS_WRITE && is_shutdown) shutdown_word = "";
    if (header.type == XS_WATCH && is_shutdown) memcpy(shutdown_token, second, 2);
    reply(&header, "OK", 3);
    if (header.type == XS_WATCH) tell_change(second);
  }
  fire(STORE_PORT);
  return true;
}

static struct wiring_page *wiring(void) { return (struct wiring_page *)(BASE + START_INFO * PAGE_BYTES + WIRING_OFFSET); }

/* By the guest's own map. */
static bool is_free(unsigned long page) {
  return is_wired && !(((const uint8_t *)BASE)[wiring()->map.offset + page / 8] >> (page % 8) & 1);
}

/* A page that nobody uses, with something in it: only a host that does not read the map wants it cleared. */
static unsigned long used_before;
static bool reads_map;

static void look_at_map(void) {
  const struct wiring_map *map = &wiring()->map;
  size_t count = 0;
  if (map->magic != WIRING_MAP_MAGIC || map->pages != PAGES || map->offset < TEXT_PAGES * PAGE_BYTES) CHECK(!"the map is shown");
  for (unsigned long page = 0; page < PAGES; page++) count += is_free(page);
  for (unsigned long page = 0; page <= STACK + 3; page++) if (is_free(page)) CHECK(!"what the builder laid out is in use");
  if (count != pages_free_count() || count == 0) CHECK(!"and says what is free");
  if (map->is_read != 0) CHECK(!"read for one suspension only");
  if (*(const uint8_t *)view(frame_of(used_before)) != (reads_map ? 0xee : 0)) CHECK(!"free pages are cleared for those who do not read it");
}

static void order_suspension(void) {
  if (!is_wired) {
    shutdown_word = "suspend";
    tell_change(shutdown_token);
    fire(STORE_PORT);
    return;
  }
  reads_map = rounds % 2 == 0;
  for (used_before = PAGES - 1; !is_free(used_before); used_before--) continue;
  memset(view(frame_of(used_before)), 0xee, PAGE_BYTES);
  wiring()->map.is_read = reads_map;
  wiring()->wiring.order = WIRING_SUSPEND;
  fire(CONSOLE_PORT);
}

/* Looks whether the guest is as a saved one must be. Every third time the answer is that it was cancelled, then the guest goes on as it
 * was, then as a clone. */
static long suspend(unsigned long info_frame) {
  const struct start_info *info = (const struct start_info *)(BASE + START_INFO * PAGE_BYTES);
  const uint64_t *leaves = view(frame_of(TABLES + 3));
  for (unsigned long i = TEXT_PAGES; i < 512; i++) {
    unsigned long frame = leaves[i] >> 12;
    if ((leaves[i] & 1) && (frame == shared_frame() || frame == grant_frame())) CHECK(!"no frame of Xen's is mapped");
  }
  if (info_frame != frame_of(START_INFO) || info->console.domU.mfn != CONSOLE) CHECK(!"start_info as a saved guest has it");
  if (is_wired ? info->store_mfn != 0 : info->store_mfn != STORE) CHECK(!"the store's page by number");
  const struct shared_info *shared = view(shared_frame());
  if (shared->arch.max_pfn != PAGES || shared->arch.p2m_cr3 != xen_pfn_to_cr3(frame_of(TABLES))) CHECK(!"the list of frames is shown");
  if (is_wired) look_at_map();
  if (rounds % 3 == 1) return 1;
  /* Through the file, for the stack in there has places that the sanitizer guards. */
  for (unsigned long i = TEXT_PAGES; i < PAGES; i++) {
    uint8_t page[PAGE_BYTES] = {0};
    if (!is_free(i) && pread(machine, page, sizeof page, offset_of(frame_of(i))) != (ssize_t)sizeof page) abort();
    domain = 1 - domain;
    if (pwrite(machine, page, sizeof page, offset_of(frame_of(i))) != (ssize_t)sizeof page) abort();
    domain = 1 - domain;
  }
  domain = 1 - domain;
  write_tables();
  map_domain();
  lay_out(rounds % 3 == 0 ? rounds : 0);
  return 0;
}

static void look_at_grants(unsigned expected) {
  const grant_entry_v1_t *grants = view(grant_frame());
  unsigned granted = 0;
  for (unsigned i = GNTTAB_NR_RESERVED_ENTRIES; i < 512; i++) {
    if (!(grants[i].flags & GTF_permit_access)) continue;
    granted++;
    if (xen_machine_to_phys[grants[i].frame] >= PAGES) CHECK(!"a page of this domain's is granted");
  }
  if (granted != expected) CHECK(!"all buffers are granted");
}

/* The guest has nothing to do: what it did since is looked at, then comes the next thing. */
static void block(void) {
  const struct shoal_net *net = netfront_device(0);
  static uint64_t last_ns;
  if (serve()) return;
  if (rounds == 0) {
    printf("a %s guest sleeps after %u traps (%u of them events), %zu of %lu pages free; ", is_wired ? "wired" : "store", traps, sends,
           pages_free_count(), PAGES);
    free_pages = pages_free_count();
    CHECK(!is_wired || (traps == 4 && sends == 1)); /* introduce, connect, announce, sleep */
    /* The stack is the builder's and three pages more, above the page tables, which cannot be written. */
    CHECK((uintptr_t)guest > BASE + (STACK + 3) * PAGE_BYTES && (uintptr_t)guest < BASE + (STACK + 4) * PAGE_BYTES);
  }
  const struct start_info *info = (const struct start_info *)(BASE + START_INFO * PAGE_BYTES);
  if (info->console.domU.mfn != frame_of(CONSOLE) || info->store_mfn != (is_wired ? 0 : frame_of(STORE))) CHECK(!"frames again");
  if (shoal_now_ns() < last_ns) CHECK(!"time goes on");
  last_ns = shoal_now_ns();
  if (pages_free_count() != free_pages) CHECK(!"no page is lost");
  if (timer_ns != 0 || other_calls != 0) CHECK(!"an idle guest sets no timer");
  if (net == NULL || !net->sending || net->tx.sring->req_prod != 1) {
    CHECK(!"announced once in each domain");
  } else {
    const uint8_t *frame = net->tx_buffers[RING_GET_REQUEST(&net->tx, 0)->id].bytes;
    if (memcmp(frame + 6, is_wired ? wired_vif(0)->mac : net->link.mac, 6) != 0 || frame[13] != 6) CHECK(!"as who it is now");
    if (strcmp(shoal_config("name"), name_now) != 0) CHECK(!"by the name it has now");
  }
  look_at_grants(is_wired ? 12 + 6 : 12 + 6 + 2);
  if (rounds++ == 3000) done = true;
  else order_suspension();
}

static long answer(unsigned long number, unsigned long a, unsigned long b, unsigned long c) {
  switch (number) {
    case __HYPERVISOR_multicall: {
      struct multicall_entry *calls = (struct multicall_entry *)a;
      for (unsigned long i = 0; i < b; i++) {
        calls[i].result = (unsigned long)answer(calls[i].op, calls[i].args[0], calls[i].args[1], calls[i].args[2]);
      }
      return 0;
    }
    case __HYPERVISOR_set_trap_table:
    case __HYPERVISOR_set_callbacks: return 0;
    case __HYPERVISOR_vcpu_op:
      if (a == VCPUOP_set_singleshot_timer) timer_ns = ((const struct vcpu_set_singleshot_timer *)c)->timeout_abs_ns;
      else if (a != VCPUOP_stop_periodic_timer) abort();
      return 0;
    case __HYPERVISOR_grant_table_op: return setup_table((struct gnttab_setup_table *)b);
    case __HYPERVISOR_update_va_mapping: return update_va_mapping(a, b);
    case __HYPERVISOR_event_channel_op: return event_channel_op(a, (void *)b);
    case __HYPERVISOR_sched_op:
      if (a == SCHEDOP_block) {
        block();
        return 0;
      }
      if (((const struct sched_shutdown *)b)->reason == SHUTDOWN_suspend) return suspend(c);
      CHECK(!"the guest ended itself");
      printf("%.2048s\n", (const char *)(BASE + CONSOLE * PAGE_BYTES + 1024));
      done = true;
      return 0;
    default: other_calls++; return -1;
  }
}

#define STACK_BYTES (4 * PAGE_BYTES)

/* Into Xen's own stack and back. */
long xen_hypercall(unsigned long number, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  void *state;
  call = (struct call){number, a, b, c, d, 0};
  __sanitizer_start_switch_fiber(&state, host_stack, host_stack_bytes);
  leave_for(&guest, host);
  __sanitizer_finish_switch_fiber(state, NULL, NULL);
  return call.result;
}

static void begin(void) {
  __sanitizer_finish_switch_fiber(NULL, &host_stack, &host_stack_bytes);
  start_of_day((struct start_info *)(BASE + START_INFO * PAGE_BYTES));
}

static void run_guest(void) {
  void *state;
  __sanitizer_start_switch_fiber(&state, (void *)(BASE + STACK * PAGE_BYTES), STACK_BYTES);
  leave_for(&host, guest);
  __sanitizer_finish_switch_fiber(state, NULL, NULL);
}

int main(int argc, char **argv) {
  is_wired = argc < 2 || strcmp(argv[1], "store") != 0;
  machine = memfd_create("machine", 0);
  if (machine < 0 || ftruncate(machine, 2 * DOMAIN_FRAMES * PAGE_BYTES) != 0) return 1;
  write_tables();
  map_domain();
  lay_out(0);
  /* The builder's stack is a page; on it, as leave_for finds it, six registers, and where to begin. */
  uintptr_t *top = (uintptr_t *)(BASE + (STACK + 1) * PAGE_BYTES) - 2;
  *top = (uintptr_t)begin;
  guest = top - 6;
  while (!done) {
    run_guest();
    traps++;
    call.result = answer(call.number, call.a, call.b, call.c);
  }
  CHECK_END();
}
