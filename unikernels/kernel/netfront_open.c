/*
 * The network devices of the guest: each is wired when the builder laid one out of that number, else found by the store. In another
 * domain (a restored guest, a clone) the choice is made anew, and the application sees its device go down and come up.
 */
#include "netfront.h"
#include "store.h"
#include "wired.h"

static struct shoal_net *nets[NETFRONT_DEVICES];

static bool start(struct shoal_net *net) {
  if (wired_vif(net->index) != NULL) return netfront_wired_start(net);
  if (store_exists()) return netfront_store_start(net);
  shoal_print("net %u: the host gave the guest no such device\n", net->index);
  return true;
}

struct shoal_net *shoal_net_open(unsigned index, const struct shoal_net_events *events, void *context) {
  if (index >= NETFRONT_DEVICES || nets[index] != NULL) return NULL;
  struct shoal_net *net = shoal_alloc(sizeof *net);
  if (net == NULL) return NULL;
  nets[index] = net;
  net->open = false;
  if (!netfront_init(net, index, events, context) || !start(net)) return NULL;
  net->open = true;
  return net;
}

struct shoal_net *netfront_device(unsigned index) {
  return index < NETFRONT_DEVICES && nets[index] != NULL && nets[index]->open ? nets[index] : NULL;
}

void netfront_forget_all(void) {
  for (unsigned i = 0; i < NETFRONT_DEVICES; i++) {
    struct shoal_net *net = netfront_device(i);
    if (net != NULL) netfront_forget(net);
  }
}

void netfront_start_all(void) {
  for (unsigned i = 0; i < NETFRONT_DEVICES; i++) {
    struct shoal_net *net = netfront_device(i);
    if (net != NULL) start(net);
  }
}
