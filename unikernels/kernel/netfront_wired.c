/*
 * A network device that the builder laid out (include/wiring.h): rings, event channel, backend and address are there before the guest
 * runs, so it is up as soon as its buffers are granted, without a word to anybody. One event channel serves both directions, for
 * this backend has one thread that looks at both rings whenever it is woken (link_to in netfront_link.c tells why Linux's has two).
 */
#include "netfront.h"
#include "wired.h"

static void come_up(void *context) {
  struct shoal_net *net = context;
  const struct wiring_vif *vif = wired_vif(net->index);
  if (vif != NULL) netfront_up(net, vif->mac);
}

static struct shoal_timer coming_up[NETFRONT_DEVICES];

bool netfront_wired_start(struct shoal_net *net) {
  const struct wiring_vif *vif = wired_vif(net->index);
  struct shoal_timer *timer = &coming_up[net->index];
  if (!netfront_adopt(net, vif->backend, vif->port, wired_page(vif->tx_frame), wired_page(vif->rx_frame))) {
    shoal_print("net %u: no grants for it\n", net->index);
    return false;
  }
  /* At the next turn of the loop, for `up` must not come before shoal_net_open has returned. */
  shoal_timer_cancel(timer);
  *timer = (struct shoal_timer){.fire = come_up, .context = net};
  shoal_timer_set(timer, 0);
  return true;
}
