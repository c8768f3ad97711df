/* Faults on request, for tests of the host around a guest: see shoal_misbehave in shoal.h. */
#include "netfront.h"
#include "store.h"

#define SCRIBBLE_EVERY_NS 20000000ull
#define FLOODS_AT_ONCE 8

static void scribble(void *context);
static struct shoal_timer scribble_timer = {.fire = scribble};

static void scribble(void *context) {
  (void)context;
  struct shoal_net *net = netfront_device(0);
  if (net != NULL) netfront_scribble(net);
  shoal_timer_set(&scribble_timer, shoal_now_ns() + SCRIBBLE_EVERY_NS);
}

static void flood(void *context, int error, const char *value, size_t length) {
  static unsigned count;
  char path[32];
  (void)context, (void)error, (void)value, (void)length;
  if (!store_exists()) return; /* it would answer at once, for ever */
  shoal_format(path, sizeof path, "data/flood-%u", count++);
  store_write(path, "0123456789abcdef0123456789abcdef", flood, NULL);
}

bool shoal_misbehave(const char *how) {
  if (strcmp(how, "null") == 0) {
    volatile int *nowhere = (volatile int *)(uintptr_t)shoal_format(NULL, 0, "%s", "");
    *nowhere = 1;
  } else if (strcmp(how, "assert") == 0) {
    shoal_panic("assertion failed: asked for by crash=assert");
  } else if (strcmp(how, "hang") == 0) {
    for (;;) __asm__ volatile("pause");
  } else if (strcmp(how, "scribble") == 0) {
    shoal_timer_set(&scribble_timer, shoal_now_ns() + SCRIBBLE_EVERY_NS);
  } else if (strcmp(how, "flood") == 0) {
    for (int i = 0; i < FLOODS_AT_ONCE; i++) flood(NULL, 0, "", 0);
  } else {
    return false;
  }
  return true;
}
