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
#include "wired.h"

_Static_assert(offsetof(struct xencons_interface, in_cons) == 3072, "the ring page of console.h");

static struct xencons_interface *ring;
static uint32_t port;

static void notify(void *context) {
  (void)context;
  event_notify(port);
}

static struct loop_batch batch = {.flush = notify};

/* The host of a wired guest reads the ring when it wants to know, and uses the channel for orders only. */
static bool is_heard(void) { return ring != NULL && port != 0 && wired_order_port() == 0; }

/* Where the next byte goes; what lies before it is for the reader to see once it is published. */
static uint32_t producer;

static void publish(void) {
  barrier_write(); /* bytes before the index that shows them */
  *(volatile uint32_t *)&ring->out_prod = producer;
}

static void put(char character) {
  volatile uint32_t *consumer = (volatile uint32_t *)&ring->out_cons;
  if (producer - *consumer >= sizeof ring->out) {
    publish();
    *consumer = producer - (uint32_t)sizeof ring->out + 1;
  }
  ring->out[MASK_XENCONS_IDX(producer, ring->out)] = character;
  producer++;
}

void platform_console_write(const char *text, size_t length) {
  if (ring == NULL) return;
  producer = ring->out_prod;
  for (size_t i = 0; i < length; i++) {
    if (text[i] == '\n') put('\r');
    put(text[i]);
  }
  publish();
  if (is_heard()) loop_flush_later(&batch);
}

void console_notify_now(void) {
  if (is_heard()) event_notify(port);
}

void console_init(struct start_info *info) {
  port = info->console.domU.evtchn;
  ring = port != 0 ? mmu_page_of(info->console.domU.mfn) : NULL;
}
