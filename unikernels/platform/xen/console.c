/*
 * The console ring (xen/io/console.h). As a rule nobody reads it while the guest runs: when it is full the guest itself moves the
 * consumer's index on, so that the ring always holds the newest 2 KiB, which is what one wants to see of a guest that crashed.
 */
#include "shoal.h"
#include <xen/io/console.h>
#include "barrier.h"
#include "events.h"
#include "guest.h"
#include "loop.h"
#include "platform.h"

_Static_assert(offsetof(struct xencons_interface, in_cons) == 3072, "the ring page of console.h");

static struct xencons_interface *ring;
static uint32_t port;

static void notify(void *context) {
  (void)context;
  event_notify(port);
}

static struct loop_batch batch = {.flush = notify};

static void put(char character) {
  uint32_t producer = ring->out_prod;
  uint32_t consumer = *(volatile uint32_t *)&ring->out_cons;
  if (producer - consumer >= sizeof ring->out) *(volatile uint32_t *)&ring->out_cons = producer - (uint32_t)sizeof ring->out + 1;
  ring->out[MASK_XENCONS_IDX(producer, ring->out)] = character;
  barrier_write(); /* the byte before the index that shows it */
  *(volatile uint32_t *)&ring->out_prod = producer + 1;
}

void platform_console_write(const char *text, size_t length) {
  if (ring == NULL) return;
  for (size_t i = 0; i < length; i++) {
    if (text[i] == '\n') put('\r');
    put(text[i]);
  }
  if (port != 0) loop_flush_later(&batch);
}

void console_notify_now(void) {
  if (ring != NULL && port != 0) event_notify(port);
}

void console_init(struct start_info *info) {
  port = info->console.domU.evtchn;
  if (port != 0) ring = mmu_page_of(info->console.domU.mfn);
}
