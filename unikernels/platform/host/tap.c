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
#include <sys/uio.h>
#include <unistd.h>
#include "config.h"
#include "gso.h"
#include "loop.h"
#include "process.h"
#include "random.h"

/* Frames taken in one turn, so that timers have theirs. */
#define TURN_FRAMES 64

static int tap = -1;
static bool offloads; /* each frame has a virtio header: checksums and segmentation are the kernel's */
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
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  shoal_format(request.ifr_name, sizeof request.ifr_name, "%s", name);
  offloads = ioctl(tap, TUNSETIFF, &request) == 0;
  if (!offloads) { /* one that was made to last without such headers */
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (ioctl(tap, TUNSETIFF, &request) != 0) fail("cannot attach", name);
  }
  /* Frames that never were on a wire may come without a checksum. */
  if (offloads && ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM) != 0) fail("cannot take checksums", name);
}

int tap_descriptor(void) { return tap; }

void tap_read(void) {
  /* One byte more than a frame: a longer one shows, and is dropped. */
  static uint8_t bytes[sizeof(struct gso_header) + SHOAL_NET_FRAME_BYTES + 1];
  size_t header = offloads ? sizeof(struct gso_header) : 0;
  for (int i = 0; i < TURN_FRAMES; i++) {
    ssize_t length = read(tap, bytes, header + SHOAL_NET_FRAME_BYTES + 1);
    if (length <= 0) {
      if (length == 0 || (errno != EAGAIN && errno != EINTR)) exit(0); /* the device is gone */
      return;
    }
    if (device.events == NULL || (size_t)length < header || (size_t)length > header + SHOAL_NET_FRAME_BYTES) continue;
    /* Flags 1: to be filled in, 2: was found right. */
    uint32_t flags = offloads && (bytes[0] & 3) != 0 ? SHOAL_NET_CSUM_VALID : 0;
    device.events->frame(device.context, bytes + header, (size_t)length - header, flags);
  }
}

/* A full queue loses the frame, as a wire would. */
static void check_written(ssize_t written) {
  if (written < 0 && errno != EAGAIN && errno != EIO && errno != ENOBUFS) fail("cannot write", "tap");
}

static void send_long(void *context, const struct gso_header *header, const uint8_t *frame, size_t length) {
  struct iovec parts[2] = {{(void *)(uintptr_t)header, sizeof *header}, {(void *)(uintptr_t)frame, length}};
  (void)context;
  check_written(writev(tap, parts, 2));
}

static struct gso gso = {.send = send_long};
static void flush(void *context) { gso_flush(context); }
static struct loop_batch batch = {.flush = flush, .context = &gso};

uint8_t *shoal_net_reserve(struct shoal_net *net) { return offloads ? gso_reserve(&gso) : net->room; }

void shoal_net_commit(struct shoal_net *net, size_t length_bytes, uint32_t flags) {
  if (length_bytes < 14 || length_bytes > SHOAL_NET_FRAME_BYTES) shoal_panic("net 0: commit of %zu bytes", length_bytes);
  if (offloads) {
    gso_commit(&gso, length_bytes, flags);
    loop_flush_later(&batch);
    return;
  }
  if (flags & SHOAL_NET_CSUM_BLANK) gso_fill_checksum(net->room, length_bytes);
  check_written(write(tap, net->room, length_bytes));
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
