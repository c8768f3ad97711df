/*
 * Obeys control/shutdown. A word is acknowledged by emptying the node (docs/misc/xenstore-paths of Xen), and obeyed once the
 * store has that. The words are a table: suspension is another row when the kernel can do it.
 */
#include "control.h"
#include "store.h"

static bool asking;

static void power_off(void) { shoal_shutdown(SHOAL_POWEROFF); }
static void reboot(void) { shoal_shutdown(SHOAL_REBOOT); }

static const struct order {
  const char *word;
  void (*obey)(void);
} orders[] = {
  {"poweroff", power_off},
  {"halt", power_off},
  {"reboot", reboot},
};

static void on_acknowledged(void *context, int error, const char *value, size_t length) {
  const struct order *order = context;
  (void)error, (void)value, (void)length;
  order->obey();
}

static void on_order(void *context, int error, const char *value, size_t length) {
  (void)context;
  asking = false;
  if (error != 0 || length == 0) return;
  for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
    if (strcmp(value, orders[i].word) != 0) continue;
    shoal_print("control: %s\n", orders[i].word);
    if (!store_write("control/shutdown", "", on_acknowledged, (void *)&orders[i])) orders[i].obey();
    return;
  }
  shoal_print("control: cannot obey \"%s\"\n", value);
}

static void on_changed(void *context) {
  (void)context;
  if (!asking) asking = store_read("control/shutdown", on_order, NULL);
}

void control_start(void) {
  if (!store_watch("control/shutdown", on_changed, NULL)) shoal_print("control: cannot watch control/shutdown\n");
}
