/*
 * Network device 0 over a TAP device: the contract of shoal.h by read and write. The MAC address is the word mac=, or made from
 * the name of the guest, so that a process that starts again is the same station.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "config.h"
#include "process.h"
#include "random.h"

/* Frames taken in one turn, so that timers have theirs. */
#define TURN_FRAMES 64

static int tap = -1;
static struct shoal_net {
  const struct shoal_net_events *events;
  void *context;
  uint8_t mac[6];
  uint8_t room[SHOAL_NET_FRAME_BYTES];
} device;

static _Noreturn void fail(const char *what, const char *name) {
  fprintf(stderr, "%s: %s: %s\n", name, what, strerror(errno));
  exit(1);
}

void tap_open(const char *name) {
  struct ifreq request;
  if (strncmp(name, "fd:", 3) == 0) {
    tap = atoi(name + 3);
    if (fcntl(tap, F_SETFL, O_NONBLOCK) != 0) fail("no such descriptor", name);
    return;
  }
  tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (tap < 0) fail("cannot open /dev/net/tun", name);
  memset(&request, 0, sizeof request);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  shoal_format(request.ifr_name, sizeof request.ifr_name, "%s", name);
  if (ioctl(tap, TUNSETIFF, &request) != 0) fail("cannot attach", name);
}

int tap_descriptor(void) { return tap; }

void tap_read(void) {
  /* One byte more than a frame: a longer one shows, and is dropped. */
  static uint8_t frame[SHOAL_NET_FRAME_BYTES + 1];
  for (int i = 0; i < TURN_FRAMES; i++) {
    ssize_t length = read(tap, frame, sizeof frame);
    if (length <= 0) {
      if (length == 0 || (errno != EAGAIN && errno != EINTR)) exit(0); /* the device is gone */
      return;
    }
    if (device.events != NULL && (size_t)length <= SHOAL_NET_FRAME_BYTES) {
      device.events->frame(device.context, frame, (size_t)length, 0);
    }
  }
}

uint8_t *shoal_net_reserve(struct shoal_net *net) { return net->room; }

void shoal_net_commit(struct shoal_net *net, size_t length_bytes, uint32_t flags) {
  (void)flags;
  if (length_bytes < 14 || length_bytes > SHOAL_NET_FRAME_BYTES) shoal_panic("net 0: commit of %zu bytes", length_bytes);
  /* A full queue loses the frame, as a wire would. */
  if (write(tap, net->room, length_bytes) < 0 && errno != EAGAIN && errno != EIO && errno != ENOBUFS) fail("cannot write", "tap");
}

static void tell_up(void *context) {
  (void)context;
  device.events->up(device.context, device.mac);
}

static struct shoal_timer up = {.fire = tell_up};

struct shoal_net *shoal_net_open(unsigned index, const struct shoal_net_events *events, void *context) {
  static const uint64_t key[2] = {0};
  const char *mac = shoal_config("mac"), *name = shoal_config("name");
  if (index != 0 || device.events != NULL) return NULL;
  if (mac == NULL || !config_parse_mac(mac, device.mac)) {
    uint64_t hash = siphash24(key, name == NULL ? "" : name, name == NULL ? 0 : strlen(name));
    memcpy(device.mac, &hash, sizeof device.mac);
    device.mac[0] = (uint8_t)((device.mac[0] & 0xfc) | 0x02); /* locally administered, one station */
  }
  device.events = events;
  device.context = context;
  shoal_timer_set(&up, 0);
  return &device;
}
