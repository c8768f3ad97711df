/* See world.h. */
#include "world.h"
#include <stdlib.h>
#include "events.h"
#include "grants.h"
#include "loop.h"
#include "pages.h"
#include "platform.h"

uint64_t world_now_ns;
jmp_buf world_end;
int world_allocations_left = -1;
char world_console[4096];
size_t world_console_length;
unsigned world_notifications, world_grants, world_ports, world_pages;
bool world_grants_stuck;
unsigned world_suspensions;

static struct {
  void (*handle)(void *context);
  void *context;
  bool open;
} ports[EVENT_PORTS];
static bool granted[512];
static struct {
  const void *page;
  bool readonly;
} granted_pages[512];
static void *page_list[1024];

void world_reset(void) {
  world_now_ns = 0;
  world_allocations_left = -1;
  world_console_length = 0;
  world_notifications = 0;
  world_grants_stuck = false;
  world_suspensions = 0;
  for (size_t i = 0; i < sizeof page_list / sizeof *page_list; i++) {
    free(page_list[i]);
    page_list[i] = NULL;
  }
  memset(granted, 0, sizeof granted);
  memset(ports, 0, sizeof ports);
  world_pages = world_grants = world_ports = 0;
}

void world_new_domain(void) {
  memset(granted, 0, sizeof granted);
  memset(ports, 0, sizeof ports);
  world_grants = world_ports = 0;
}

static bool may_allocate(void) {
  if (world_allocations_left == 0) return false;
  if (world_allocations_left > 0) world_allocations_left--;
  return true;
}

uint64_t shoal_now_ns(void) { return world_now_ns; }
uint64_t shoal_wall_ns(void) { return world_now_ns; }
void *shoal_alloc(size_t size_bytes) { return may_allocate() ? malloc(size_bytes) : NULL; }
void shoal_free(void *memory) { free(memory); }
struct shoal_memory shoal_memory(void) { return (struct shoal_memory){1 << 20, 1 << 19}; }

void *pages_alloc(size_t count) {
  size_t slot = 0;
  while (slot < sizeof page_list / sizeof *page_list && page_list[slot] != NULL) slot++;
  if (slot == sizeof page_list / sizeof *page_list || !may_allocate()) return NULL;
  page_list[slot] = aligned_alloc(PAGE_BYTES, count * PAGE_BYTES);
  world_pages += (unsigned)count;
  return page_list[slot];
}

void pages_free(void *pages, size_t count) {
  size_t slot = 0;
  while (slot < sizeof page_list / sizeof *page_list && page_list[slot] != pages) slot++;
  if (slot == sizeof page_list / sizeof *page_list) abort();
  page_list[slot] = NULL;
  world_pages -= (unsigned)count;
  free(pages);
}

size_t pages_total_count(void) { return 256; }
size_t pages_free_count(void) { return 128; }

void platform_console_write(const char *text, size_t length) {
  if (length > sizeof world_console - 1 - world_console_length) length = sizeof world_console - 1 - world_console_length;
  memcpy(world_console + world_console_length, text, length);
  world_console_length += length;
  world_console[world_console_length] = '\0';
}

void platform_crash(void) {
  abort();
}

bool platform_handle_events(void) { return false; }
void platform_wait(uint64_t due_ns) { world_now_ns = due_ns; }
void shoal_shutdown(enum shoal_shutdown how) {
  (void)how;
  longjmp(world_end, 1);
}

void platform_suspend(void) { world_suspensions++; }

bool shoal_misbehave(const char *how) { return how[0] == '\0'; }

uint32_t event_listen(domid_t remote) {
  (void)remote;
  for (uint32_t port = 8; port < EVENT_PORTS; port++) {
    if (ports[port].open) continue;
    ports[port].open = true;
    world_ports++;
    return port;
  }
  return 0;
}

void event_bind(uint32_t port, void (*handle)(void *context), void *context) {
  ports[port].handle = handle;
  ports[port].context = context;
}

void event_notify(uint32_t port) {
  (void)port;
  world_notifications++;
}

void event_close(uint32_t port) {
  ports[port].handle = NULL;
  ports[port].open = false;
  world_ports--;
}

void world_fire(uint32_t port) {
  if (ports[port].handle != NULL) ports[port].handle(ports[port].context);
}

grant_ref_t grant_access(domid_t to, const void *page, bool readonly) {
  (void)to;
  for (grant_ref_t reference = GNTTAB_NR_RESERVED_ENTRIES; reference < sizeof granted; reference++) {
    if (granted[reference]) continue;
    granted[reference] = true;
    granted_pages[reference].page = page;
    granted_pages[reference].readonly = readonly;
    world_grants++;
    return reference;
  }
  return 0;
}

const void *world_granted_page(uint32_t reference, bool *readonly) {
  if (reference >= sizeof granted || !granted[reference]) return NULL;
  *readonly = granted_pages[reference].readonly;
  return granted_pages[reference].page;
}

bool grant_end(grant_ref_t reference) {
  if (reference >= sizeof granted || !granted[reference]) abort(); /* ended twice, or never granted */
  if (world_grants_stuck) return false;
  granted[reference] = false;
  world_grants--;
  return true;
}
