/*
 * The same application as a Linux process, for sanitizers, fuzzing and comparison:
 *   ping-linux TAP[,TAP...] WORD...     TAP: name of a TAP device, or fd:N; none: no device;  WORD: as on a guest's command line
 * The console is standard output; SIGTERM and SIGINT power the guest off, a panic aborts.
 */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include "config.h"
#include "loop.h"
#include "platform.h"
#include "process.h"
#include "random.h"

static uint64_t start_ns;
static volatile sig_atomic_t stopping;
static sigset_t while_waiting; /* SIGTERM and SIGINT come only in the sleep of the main loop */

static void on_signal(int signal_number) {
  (void)signal_number;
  stopping = 1;
}

static void catch_signals(void) {
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigaddset(&blocked, SIGINT);
  sigprocmask(SIG_BLOCK, &blocked, &while_waiting);
  signal(SIGTERM, on_signal);
  signal(SIGINT, on_signal);
}

static uint64_t read_clock_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void clock_start(void) { start_ns = read_clock_ns(CLOCK_MONOTONIC); }
uint64_t shoal_now_ns(void) { return read_clock_ns(CLOCK_MONOTONIC) - start_ns; }
uint64_t shoal_wall_ns(void) { return read_clock_ns(CLOCK_REALTIME); }

/* The word heap-kib= makes the process run out of memory as a small guest does. */
static size_t heap_bytes, used_bytes;

static void limit_heap(void) {
  const char *word = shoal_config("heap-kib");
  heap_bytes = word == NULL ? 0 : strtoul(word, NULL, 10) * 1024;
}

/*
 * Small objects lie side by side by size, the last freed is the next taken: those of segments that follow each other stay neighbours, so that freeing a window of
 * them reads memory in its order. Not where memory is counted (heap-kib=) or watched (sanitizers).
 */
#define SMALL_CLASSES 3u
#define SMALL_SPAN (UINT64_C(1) << 28) /* of addresses, for each size; pages come with their use */
static const uint16_t small_bytes[SMALL_CLASSES] = {64, 128, 192};
static struct small { uint8_t *fresh; void *free; } smalls[SMALL_CLASSES];
static uint8_t *small_base;

static void open_smalls(void) {
#ifndef __SANITIZE_ADDRESS__
  if (heap_bytes > 0) return;
  void *memory = mmap(NULL, SMALL_CLASSES * SMALL_SPAN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  small_base = memory;
  for (unsigned i = 0; i < SMALL_CLASSES; i++) smalls[i].fresh = small_base + i * SMALL_SPAN;
#endif
}

static void *take_small(size_t size_bytes) {
  unsigned class = size_bytes <= 64 ? 0 : size_bytes <= 128 ? 1 : 2;
  struct small *small = &smalls[class];
  void *memory = small->free;
  if (memory != NULL) {
    small->free = *(void **)memory;
    return memory;
  }
  if (small->fresh + small_bytes[class] > small_base + (class + 1) * SMALL_SPAN) return NULL;
  memory = small->fresh;
  small->fresh += small_bytes[class];
  return memory;
}

void *shoal_alloc(size_t size_bytes) {
  if (heap_bytes > 0 && (used_bytes > heap_bytes || size_bytes > heap_bytes - used_bytes)) return NULL;
  void *memory = small_base != NULL && size_bytes <= small_bytes[SMALL_CLASSES - 1] ? take_small(size_bytes) : NULL;
  if (memory == NULL) memory = malloc(size_bytes);
  if (heap_bytes > 0 && memory != NULL) used_bytes += malloc_usable_size(memory);
  return memory;
}

void shoal_free(void *memory) {
  uint64_t at = (uint64_t)((uintptr_t)memory - (uintptr_t)small_base);
  if (memory != NULL && small_base != NULL && at < SMALL_CLASSES * SMALL_SPAN) {
    struct small *small = &smalls[at / SMALL_SPAN];
    *(void **)memory = small->free;
    small->free = memory;
    return;
  }
  if (heap_bytes > 0 && memory != NULL) used_bytes -= malloc_usable_size(memory);
  free(memory);
}

struct shoal_memory shoal_memory(void) {
  if (heap_bytes > 0) return (struct shoal_memory){heap_bytes, heap_bytes > used_bytes ? heap_bytes - used_bytes : 0};
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return (struct shoal_memory){(size_t)sysconf(_SC_PHYS_PAGES) * page, (size_t)sysconf(_SC_AVPHYS_PAGES) * page};
}

void platform_console_write(const char *text, size_t length) {
  while (length > 0) {
    ssize_t written = write(STDOUT_FILENO, text, length);
    if (written < 0 && errno != EINTR) return;
    if (written > 0) text += written, length -= (size_t)written;
  }
}

void platform_crash(void) { abort(); }

void shoal_shutdown(enum shoal_shutdown how) { exit(how == SHOAL_POWEROFF ? 0 : 64); }

bool shoal_misbehave(const char *how) {
  if (strcmp(how, "null") == 0) {
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
  } else if (strcmp(how, "assert") == 0) {
    shoal_panic("assertion failed: asked for by crash=assert");
  } else if (strcmp(how, "hang") == 0) {
    for (;;) sigsuspend(&while_waiting);
  }
  return false;
}

bool platform_handle_events(void) {
  if (stopping) shoal_shutdown(SHOAL_POWEROFF);
  struct pollfd polls[TAP_DEVICES];
  unsigned count = tap_wait_for(polls);
  const struct timespec at_once = {0};
  if (count == 0 || ppoll(polls, count, &at_once, &while_waiting) <= 0) return false; /* one that never sleeps hears of its end here */
  for (unsigned i = 0; i < count; i++) {
    if (polls[i].revents != 0) tap_read(i);
  }
  return true;
}

void platform_wait(uint64_t due_ns) {
  struct pollfd polls[TAP_DEVICES];
  unsigned count = tap_wait_for(polls);
  uint64_t now = shoal_now_ns();
  if (due_ns <= now) return;
  uint64_t rest = due_ns - now;
  struct timespec limit = {.tv_sec = (time_t)(rest / 1000000000ull), .tv_nsec = (long)(rest % 1000000000ull)};
  ppoll(polls, count, due_ns == TIMER_NEVER ? NULL : &limit, &while_waiting);
}

int main(int count, char **words) {
  char line[CONFIG_LINE_BYTES];
  size_t length = 0;
  uint8_t seed[32];
  if (count < 2) {
    fprintf(stderr, "usage: %s TAP|fd:N|none[,...] WORD...\n", words[0]);
    return 2;
  }
  for (int i = 2; i < count; i++) length += shoal_format(line + length, sizeof line - length, "%s ", words[i]);
  if (length >= sizeof line) {
    fprintf(stderr, "%s: more than %u bytes of words\n", words[0], CONFIG_LINE_BYTES - 1);
    return 2;
  }
  catch_signals();
  clock_start();
  if (getrandom(seed, sizeof seed, 0) == (ssize_t)sizeof seed) random_stir(seed, sizeof seed);
  config_init(line, length);
  limit_heap();
  open_smalls();
  tap_open(words[1]);
  shoal_print("%s %s: a Linux process\n", shoal_app.name, shoal_app.version);
  shoal_app.start();
  loop_run();
}
