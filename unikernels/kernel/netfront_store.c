/*
 * How a network device and its backend find each other by the store. A request costs the daemon about a millisecond on a busy
 * host, so the guest writes its whole half at once, in one batch without a transaction and without waiting for the backend:
 * netback looks at the frontend's keys when it sees state 4, whichever of the two was ready first. Even the backend's domain is
 * guessed first (dom0, as nearly always) and corrected when the answer says otherwise. 7 writes, 2 reads and 1 watch bring a
 * device up.
 */
#include "netfront.h"
#include "config.h"
#include "pages.h"
#include "store.h"

/* xen/io/xenbus.h: the states both ends show each other. */
enum { UNKNOWN, INITIALISING, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED };

#define PATH_BYTES 96u
#define GUESSED_BACKEND 0u

/* Where this end stands. */
enum front { ANNOUNCED, LINKED, DOWN };

struct device {
  struct shoal_net *net;
  enum front front;
  char backend[PATH_BYTES - 16]; /* its directory in the store, "" before it is known */
  bool asking;
};

static struct device devices[NETFRONT_DEVICES];

bool netfront_parse_backend(const char *path, domid_t *domain) {
  static const char prefix[] = "/local/domain/";
  uint32_t value = 0;
  if (strncmp(path, prefix, sizeof prefix - 1) != 0) return false;
  const char *at = path + sizeof prefix - 1;
  const char *start = at;
  for (; *at >= '0' && *at <= '9'; at++) {
    value = value * 10 + (uint32_t)(*at - '0');
    if (value >= DOMID_FIRST_RESERVED) return false;
  }
  if (at == start || *at != '/') return false;
  *domain = (domid_t)value;
  return true;
}

static void write_key(struct device *device, const char *key, const char *value) {
  char path[PATH_BYTES];
  shoal_format(path, sizeof path, "device/vif/%u/%s", device->net->index, key);
  if (!store_write(path, value, NULL, NULL)) shoal_print("net %u: store busy, %s not written\n", device->net->index, key);
}

static void write_number(struct device *device, const char *key, uint32_t value) {
  char text[12];
  shoal_format(text, sizeof text, "%u", value);
  write_key(device, key, text);
}

static void write_half(struct device *device) {
  const struct netfront_link *link = &device->net->link;
  write_number(device, "tx-ring-ref", link->tx_ring_ref);
  write_number(device, "rx-ring-ref", link->rx_ring_ref);
  write_number(device, "event-channel-tx", link->tx_port);
  write_number(device, "event-channel-rx", link->rx_port);
  /* Honest features of what we take: frames are copied to us in one buffer each, a blank checksum is understood (no
   * feature-no-csum-offload), and there is no feature-sg and no feature-gso-*. What we send is another matter. rx-notify: we tell when we posted buffers. */
  write_number(device, "request-rx-copy", 1);
  write_number(device, "feature-rx-notify", 1);
  write_number(device, "state", CONNECTED);
  device->front = ANNOUNCED;
}

/* Links to `backend` and tells it; on failure the device stays down. */
static bool announce(struct device *device, domid_t backend) {
  if (!netfront_link(device->net, backend)) {
    shoal_print("net %u: no memory, grants or event channels for it\n", device->net->index);
    device->front = DOWN;
    return false;
  }
  write_half(device);
  return true;
}

static void on_mac(void *context, int error, const char *value, size_t length) {
  struct device *device = context;
  uint8_t mac[6];
  (void)length;
  if (error != 0) return; /* on_backend tells */
  if (config_parse_mac(value, mac)) netfront_up(device->net, mac);
  else shoal_print("net %u: malformed MAC address in the store\n", device->net->index);
}

static void read_mac(struct device *device) {
  char path[PATH_BYTES];
  shoal_format(path, sizeof path, "device/vif/%u/mac", device->net->index);
  store_read(path, on_mac, device);
}

static void on_online(void *context, int error, const char *value, size_t length) {
  struct device *device = context;
  (void)length;
  /* A closed backend that is to stay waits for us to begin anew; one that is being removed is left alone. */
  if (error == 0 && strcmp(value, "1") == 0 && device->front == DOWN) write_number(device, "state", INITIALISING);
}

static void on_long_ipv4(void *context, int error, const char *value, size_t length) {
  struct device *device = context;
  (void)length;
  device->net->long_ipv4 = device->front != DOWN && error == 0 && strcmp(value, "1") == 0;
}

static void on_long_ipv6(void *context, int error, const char *value, size_t length) {
  struct device *device = context;
  (void)length;
  device->net->long_ipv6 = device->front != DOWN && error == 0 && strcmp(value, "1") == 0;
}

/* Who takes frames of several segments takes them in several buffers too (feature-sg goes with it in every backend there is). */
static void do_ask_long(struct device *device) {
  char path[PATH_BYTES];
  shoal_format(path, sizeof path, "%s/feature-gso-tcpv4", device->backend);
  store_read(path, on_long_ipv4, device);
  shoal_format(path, sizeof path, "%s/feature-gso-tcpv6", device->backend);
  store_read(path, on_long_ipv6, device);
}

static void do_lose(struct device *device) {
  netfront_unlink(device->net);
  shoal_print("net %u: backend went away\n", device->net->index);
}

static void do_close(struct device *device) {
  write_number(device, "state", CLOSED);
  do_lose(device);
}

static void do_ask_again(struct device *device) {
  char path[PATH_BYTES];
  shoal_format(path, sizeof path, "%s/online", device->backend);
  store_read(path, on_online, device);
}

/* A device that was given anew may have another address. */
static void do_announce(struct device *device) {
  if (!announce(device, device->net->link.backend)) return;
  shoal_print("net %u: backend is back\n", device->net->index);
  read_mac(device);
}

/* [where we stand, what the backend shows, where we stand then, what to do]; a pair that is not listed needs nothing. */
static const struct transition {
  enum front from;
  uint8_t backend_states; /* bits */
  enum front to;
  void (*effect)(struct device *device);
} transitions[] = {
  /* Some backends connect and never say so. */
  {ANNOUNCED, 1u << INIT_WAIT, ANNOUNCED, do_ask_long},
  {ANNOUNCED, 1u << CONNECTED, LINKED, do_ask_long},
  {ANNOUNCED, 1u << CLOSING | 1u << CLOSED, DOWN, do_close},
  {LINKED, 1u << CLOSING | 1u << CLOSED, DOWN, do_close},
  {LINKED, 1u << UNKNOWN | 1u << INITIALISING | 1u << INITIALISED, DOWN, do_lose},
  {LINKED, 1u << INIT_WAIT, DOWN, do_lose}, /* it began anew without a farewell: goes on with the next line */
  {DOWN, 1u << INIT_WAIT, ANNOUNCED, do_announce},
  {DOWN, 1u << CLOSED, DOWN, do_ask_again},
};

static void step(struct device *device, unsigned backend_state) {
  for (size_t i = 0; i < sizeof transitions / sizeof *transitions; i++) {
    const struct transition *row = &transitions[i];
    if (row->from != device->front || !(row->backend_states >> backend_state & 1)) continue;
    device->front = row->to;
    row->effect(device);
    if (row->effect != do_lose) return;
  }
}

static void on_backend_state(void *context, int error, const char *value, size_t length) {
  struct device *device = context;
  device->asking = false;
  unsigned state = error == 0 && length == 1 && value[0] >= '1' && value[0] <= '6' ? (unsigned)(value[0] - '0') : UNKNOWN;
  if (!device->net->broken) step(device, state);
}

static void on_backend_changed(void *context) {
  struct device *device = context;
  char path[PATH_BYTES];
  if (device->asking) return;
  shoal_format(path, sizeof path, "%s/state", device->backend);
  device->asking = store_read(path, on_backend_state, device);
}

static void on_backend(void *context, int error, const char *value, size_t length) {
  struct device *device = context;
  domid_t domain;
  char path[PATH_BYTES];
  if (error != 0) {
    shoal_print("net %u: the host gave the guest no such device\n", device->net->index);
    netfront_unlink(device->net);
    return;
  }
  if (length >= sizeof device->backend || !netfront_parse_backend(value, &domain)) {
    shoal_print("net %u: malformed backend path in the store\n", device->net->index);
    return;
  }
  memcpy(device->backend, value, length + 1);
  if (domain != device->net->link.backend) {
    netfront_unlink(device->net);
    if (!announce(device, domain)) return;
    read_mac(device);
  }
  shoal_format(path, sizeof path, "%s/state", device->backend);
  store_watch(path, on_backend_changed, device);
}

bool netfront_store_start(struct shoal_net *net) {
  struct device *device = &devices[net->index];
  char path[PATH_BYTES];
  *device = (struct device){.net = net};
  if (!announce(device, GUESSED_BACKEND)) return false;
  read_mac(device);
  shoal_format(path, sizeof path, "device/vif/%u/backend", net->index);
  store_read(path, on_backend, device);
  return true;
}
