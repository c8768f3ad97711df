/*
 * Obeys what the host orders. A guest that is wired finds a word in its wiring when the console's event channel fires; others watch
 * control/shutdown in the store, acknowledge a word by emptying the node (docs/misc/xenstore-paths of Xen), and obey once the
 * store has that. Both read from one table.
 */
#include "control.h"
#include "config.h"
#include "events.h"
#include "platform.h"
#include "store.h"
#include "wired.h"

static bool asking;

static void power_off(void) { shoal_shutdown(SHOAL_POWEROFF); }
static void reboot(void) { shoal_shutdown(SHOAL_REBOOT); }

static void readdress(void) {
  uint32_t list[WIRING_ADDRESSES];
  size_t count;
  uint32_t number = wired_addresses(list, &count);
  if (number != 0 && config_readdress(list, count)) wired_took_addresses(number);
  else shoal_print("control: addresses that cannot be taken\n");
}

static const struct order {
  const char *word;
  uint32_t number; /* in the wiring; WIRING_NOTHING: has none */
  void (*obey)(void);
} orders[] = {
  {"poweroff", WIRING_POWEROFF, power_off},
  {"halt", WIRING_NOTHING, power_off},
  {"reboot", WIRING_REBOOT, reboot},
  {"suspend", WIRING_SUSPEND, platform_suspend},
  {NULL, WIRING_READDRESS, readdress},
};
#define ORDERS (sizeof orders / sizeof *orders)

static void on_acknowledged(void *context, int error, const char *value, size_t length) {
  const struct order *order = context;
  (void)error, (void)value, (void)length;
  order->obey();
}

static void on_word(void *context, int error, const char *value, size_t length) {
  (void)context;
  asking = false;
  if (error != 0 || length == 0) return;
  for (size_t i = 0; i < ORDERS; i++) {
    if (orders[i].word == NULL || strcmp(value, orders[i].word) != 0) continue;
    shoal_print("control: %s\n", orders[i].word);
    if (!store_write("control/shutdown", "", on_acknowledged, (void *)&orders[i])) orders[i].obey();
    return;
  }
  shoal_print("control: cannot obey \"%s\"\n", value);
}

static void on_changed(void *context) {
  (void)context;
  if (!asking) asking = store_read("control/shutdown", on_word, NULL);
}

static void look_for_number(void *context) {
  (void)context;
  uint32_t number = wired_take_order();
  if (number == WIRING_NOTHING) return;
  for (size_t i = 0; i < ORDERS; i++) {
    if (orders[i].number != number) continue;
    if (orders[i].word != NULL) shoal_print("control: %s\n", orders[i].word);
    orders[i].obey();
    return;
  }
  shoal_print("control: cannot obey order %u\n", number);
}

void control_start(void) {
  asking = false;
  if (wired_order_port() != 0) {
    event_bind(wired_order_port(), look_for_number, NULL);
    look_for_number(NULL); /* it may have been left there before anybody could ring */
  } else if (!store_watch("control/shutdown", on_changed, NULL)) {
    shoal_print("control: cannot watch control/shutdown\n");
  }
}
