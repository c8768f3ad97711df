/*
 * The guest's network devices as elements share them: opened once and for good, whatever configuration runs. Device 0 is lwIP's too when the
 * guest has an address (ip=): then lwIP has the frames that are for the admin port of that address, echo requests to it, and all while no
 * configuration takes frames from device 0; ARP goes to both.
 */
#ifndef CLICK_DEVICES_H
#define CLICK_DEVICES_H

#include "element.h"

#define DEVICES 8u
#define DEVICE_SENDERS 8u

struct device {
  struct shoal_net *net;
  unsigned index;
  bool up, asked, named; /* named: `mac` is known */
  uint8_t mac[6];
  struct element *receiver; /* FromDevice of what runs */
  void (*receive)(struct element *receiver, struct packet *packet);
  struct element *senders[DEVICE_SENDERS]; /* ToDevice likewise: their tasks run when there is room again */
  uint64_t lost;                           /* frames without a buffer for them */
};

/* lwIP has device 0 as well, on this port of TCP; before any device is opened. False when the address is missing or malformed. */
bool devices_share(uint16_t admin_port);

/* "eth0", "vif0", "0": a number at the end, with letters before it or none. */
bool device_parse(struct slice name, unsigned *index);

/* NULL when the platform cannot have it. */
struct device *device_open(unsigned index);

/* Of one that is, or was, up; NULL. */
const uint8_t *device_mac(unsigned index);

/* Every device that was opened is up. */
bool devices_ready(void);

/* Called when a device came up, each time. */
void devices_listen(void (*came_up)(bool with_another_mac));

#endif
