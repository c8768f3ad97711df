/*
 * Network devices over TAP devices: the contract of shoal.h by read and write. The MAC address of the first is the word mac=, or made from
 * the name of the guest, so that a process that starts again is the same station; those of the others are made from name and number.
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

static struct shoal_net {
  int tap;
  bool offloads; /* each frame has a virtio header: checksums and segmentation are the kernel's */
  const struct shoal_net_events *events;
  void *context;
  uint8_t mac[6];
  uint8_t room[SHOAL_NET_FRAME_BYTES];
  struct gso *gso;
  struct loop_batch batch;
  struct shoal_timer up;
} devices[TAP_DEVICES];
static unsigned device_count;

static _Noreturn void fail(const char *what, const char *name) {
  fprintf(stderr, "%s: %s: %s\n", name, what, strerror(errno));
  exit(1);
}

/* A full queue loses the frame, as a wire would. */
static void check_written(ssize_t written) {
  if (written < 0 && errno != EAGAIN && errno != EIO && errno != ENOBUFS) fail("cannot write", "tap");
}

static void send_long(void *context, const struct gso_header *header, const uint8_t *frame, size_t length) {
  const struct shoal_net *net = context;
  struct iovec parts[2] = {{(void *)(uintptr_t)header, sizeof *header}, {(void *)(uintptr_t)frame, length}};
  check_written(writev(net->tap, parts, 2));
}

static void flush(void *context) { gso_flush(context); }

static void open_one(struct shoal_net *net, const char *name) {
  struct ifreq request;
  if (strncmp(name, "fd:", 3) == 0) {
    net->tap = atoi(name + 3);
    if (fcntl(net->tap, F_SETFL, O_NONBLOCK) != 0) fail("no such descriptor", name);
    return;
  }
  net->tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (net->tap < 0) fail("cannot open /dev/net/tun", name);
  memset(&request, 0, sizeof request);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  shoal_format(request.ifr_name, sizeof request.ifr_name, "%s", name);
  net->offloads = ioctl(net->tap, TUNSETIFF, &request) == 0;
  if (!net->offloads) { /* one that was made to last without such headers */
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (ioctl(net->tap, TUNSETIFF, &request) != 0) fail("cannot attach", name);
  }
  /* Frames that never were on a wire may come without a checksum. */
  if (net->offloads && ioctl(net->tap, TUNSETOFFLOAD, TUN_F_CSUM) != 0) fail("cannot take checksums", name);
  if (!net->offloads) return;
  net->gso = calloc(1, sizeof *net->gso);
  if (net->gso == NULL) fail("no memory", name);
  net->gso->send = send_long;
  net->gso->context = net;
  net->batch = (struct loop_batch){.flush = flush, .context = net->gso};
}

void tap_open(const char *names) {
  char name[64];
  if (strcmp(names, "none") == 0) return;
  for (;;) {
    size_t length = strcspn(names, ",");
    if (device_count == TAP_DEVICES || length == 0 || length >= sizeof name) {
      fprintf(stderr, "%s: not one to %u names of devices\n", names, TAP_DEVICES);
      exit(2);
    }
    shoal_format(name, sizeof name, "%.*s", (int)length, names);
    open_one(&devices[device_count++], name);
    if (names[length] == '\0') return;
    names += length + 1;
  }
}

unsigned tap_wait_for(struct pollfd *polls) {
  for (unsigned i = 0; i < device_count; i++) polls[i] = (struct pollfd){.fd = devices[i].tap, .events = POLLIN};
  return device_count;
}

void tap_read(unsigned index) {
  /* One byte more than a frame: a longer one shows, and is dropped. */
  static uint8_t bytes[sizeof(struct gso_header) + SHOAL_NET_FRAME_BYTES + 1];
  const struct shoal_net *net = &devices[index];
  size_t header = net->offloads ? sizeof(struct gso_header) : 0;
  for (int i = 0; i < TURN_FRAMES; i++) {
    ssize_t length = read(net->tap, bytes, header + SHOAL_NET_FRAME_BYTES + 1);
    if (length <= 0) {
      if (length == 0 || (errno != EAGAIN && errno != EINTR)) exit(0); /* the device is gone */
      return;
    }
    if (net->events == NULL || (size_t)length < header || (size_t)length > header + SHOAL_NET_FRAME_BYTES) continue;
    /* Flags 1: to be filled in, 2: was found right. */
    uint32_t flags = !net->offloads ? 0 : bytes[0] & 1 ? SHOAL_NET_CSUM_VALID | SHOAL_NET_CSUM_BLANK : bytes[0] & 2 ? SHOAL_NET_CSUM_VALID : 0;
    net->events->frame(net->context, bytes + header, (size_t)length - header, flags);
  }
}

uint8_t *shoal_net_reserve(struct shoal_net *net) { return net->offloads ? gso_reserve(net->gso) : net->room; }

void shoal_net_commit(struct shoal_net *net, size_t length_bytes, uint32_t flags) {
  if (length_bytes < 14 || length_bytes > SHOAL_NET_FRAME_BYTES) shoal_panic("net %u: commit of %zu bytes", (unsigned)(net - devices), length_bytes);
  if (net->offloads) {
    gso_commit(net->gso, length_bytes, flags);
    loop_flush_later(&net->batch);
    return;
  }
  if (flags & SHOAL_NET_CSUM_BLANK) gso_fill_checksum(net->room, length_bytes);
  check_written(write(net->tap, net->room, length_bytes));
}

static void tell_up(void *context) {
  struct shoal_net *net = context;
  net->events->up(net->context, net->mac);
}

struct shoal_net *shoal_net_open(unsigned index, const struct shoal_net_events *events, void *context) {
  const char *mac = shoal_config("mac"), *name = shoal_config("name");
  if (index >= device_count || devices[index].events != NULL) return NULL;
  struct shoal_net *net = &devices[index];
  if (index > 0 || mac == NULL || !config_parse_mac(mac, net->mac)) {
    const uint64_t key[2] = {index, 0};
    uint64_t hash = siphash24(key, name == NULL ? "" : name, name == NULL ? 0 : strlen(name));
    memcpy(net->mac, &hash, sizeof net->mac);
    net->mac[0] = (uint8_t)((net->mac[0] & 0xfc) | 0x02); /* locally administered, one station */
  }
  net->events = events;
  net->context = context;
  net->up = (struct shoal_timer){.fire = tell_up, .context = net};
  shoal_timer_set(&net->up, 0);
  return net;
}
