/* See devices.h. */
#include "devices.h"
#include "router.h"
#include "lwip/netif.h"

enum { ETHER_IP4 = 0x0800, ETHER_ARP = 0x0806, ETHER_IP6 = 0x86dd, ICMP = 1, TCP = 6, UDP = 17, ECHO_REQUEST = 8, DHCP_CLIENT = 68 };

static struct device devices[DEVICES];
static uint16_t admin_port; /* 0: lwIP has no device */
static bool by_dhcp;
static void (*listener)(bool with_another_mac);

/* The sum that SHOAL_NET_CSUM_BLANK left to us: the field holds that of the pseudo header. */
static void fill_checksum(struct packet *packet) {
  uint8_t *frame = packet->data;
  uint32_t at, end, field;
  if (packet->length < 14) return;
  uint16_t type = get16(frame + 12);
  uint8_t protocol;
  if (type == ETHER_IP4 && packet->length >= 34) {
    at = 14 + (frame[14] & 15u) * 4, end = 14 + get16(frame + 16), protocol = frame[23];
  } else if (type == ETHER_IP6 && packet->length >= 54) {
    at = 54, end = 54u + get16(frame + 18), protocol = frame[20];
  } else {
    return;
  }
  field = protocol == TCP ? 16 : protocol == UDP ? 6 : 0;
  if (field == 0 || end > packet->length || at + field + 2 > end) return;
  uint16_t sum = checksum_end(checksum_add(frame + at, end - at, 0));
  put16(frame + at + field, sum == 0 && protocol == UDP ? 0xffff : sum);
}

static void note_type(const struct device *device, struct packet *packet) {
  static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  const uint8_t *to = packet->data;
  packet->type = memcmp(to, everybody, 6) == 0 ? PACKET_BROADCAST : to[0] & 1 ? PACKET_MULTICAST : memcmp(to, device->mac, 6) == 0 ? PACKET_HOST : PACKET_OTHERHOST;
}

static void on_frame(void *context, const uint8_t *frame, size_t length_bytes, uint32_t flags) {
  struct device *device = context;
  if (device->receiver == NULL || length_bytes < 14) return;
  struct packet *packet = packet_new(PACKET_HEADROOM, (uint32_t)length_bytes);
  if (packet == NULL) {
    device->lost++;
    return;
  }
  memcpy(packet->data, frame, length_bytes);
  packet->device = (uint8_t)device->index;
  note_type(device, packet);
  if (flags & SHOAL_NET_CSUM_BLANK) fill_checksum(packet);
  device->receive(device->receiver, packet);
}

static void wake_senders(struct device *device) {
  for (unsigned i = 0; i < DEVICE_SENDERS; i++) {
    if (device->senders[i] != NULL && !device->senders[i]->inputs[0].is_push) element_schedule(device->senders[i]);
  }
}

static void on_up(void *context, const uint8_t *mac) {
  struct device *device = context;
  bool another = !device->named || memcmp(device->mac, mac, 6) != 0;
  memcpy(device->mac, mac, 6);
  device->up = device->named = true;
  wake_senders(device);
  if (listener != NULL) listener(another);
}

static void on_down(void *context) { ((struct device *)context)->up = false; }

static void on_writable(void *context) { wake_senders(context); }

/* ---- device 0 with lwIP ---- */

/* One of the guest's addresses. */
static bool is_ours(uint32_t address) {
  const struct netif *netif;
  NETIF_FOREACH(netif) {
    if (netif_ip4_addr(netif)->addr == address && address != 0) return true;
  }
  return false;
}

/* For lwIP alone? Frames for the guest's own addresses that are no one else's business. */
static bool is_own(const uint8_t *head, size_t length) {
  if (length < 38 || get16(head + 12) != ETHER_IP4) return false;
  unsigned header = (head[14] & 15u) * 4;
  if (header < 20 || 14 + header + 4 > length || (get16(head + 20) & 0x3fff) != 0) return false;
  const uint8_t *transport = head + 14 + header;
  uint32_t to = get_ip4(head + 30);
  switch (head[23]) {
    case TCP: return get16(transport + 2) == admin_port && is_ours(to);
    case ICMP: return transport[0] == ECHO_REQUEST && is_ours(to);
    case UDP: return by_dhcp && get16(transport + 2) == DHCP_CLIENT;
    default: return false;
  }
}

static bool on_shared_frame(void *context, const uint8_t *frame, size_t length_bytes, uint32_t flags) {
  struct device *device = context;
  uint8_t head[80]; /* the longest IPv4 header and four bytes: judged where nobody writes any more */
  size_t length = length_bytes < sizeof head ? length_bytes : sizeof head;
  if (device->receiver == NULL) return false;
  memcpy(head, frame, length);
  if (is_own(head, length)) return false;
  on_frame(device, frame, length_bytes, flags);
  return get16(head + 12) != ETHER_ARP;
}

bool devices_share(uint16_t port) {
  static const struct shoal_ip_share share = {.frame = on_shared_frame, .up = on_up, .down = on_down, .writable = on_writable, .context = &devices[0]};
  const char *ip = shoal_config("ip");
  admin_port = port;
  by_dhcp = ip != NULL && strcmp(ip, "dhcp") == 0;
  devices[0].asked = true;
  if (!shoal_ip_start_shared(&share, NULL)) return false;
  devices[0].net = shoal_ip_device();
  return true;
}

/* ---- all ---- */

bool device_parse(struct slice name, unsigned *index) {
  uint64_t number;
  while (name.length > 0 && slice_lower(name.at[0]) >= 'a' && slice_lower(name.at[0]) <= 'z') name = slice_from(name, 1);
  if (!slice_number(name, DEVICES - 1, &number)) return false;
  *index = (unsigned)number;
  return true;
}

struct device *device_open(unsigned index) {
  static const struct shoal_net_events events = {.up = on_up, .down = on_down, .frame = on_frame, .writable = on_writable};
  struct device *device = &devices[index];
  device->index = index;
  if (!device->asked) device->net = shoal_net_open(index, &events, device);
  device->asked = true;
  return device->net == NULL ? NULL : device;
}

const uint8_t *device_mac(unsigned index) { return index < DEVICES && devices[index].named ? devices[index].mac : NULL; }

bool devices_ready(void) {
  for (unsigned i = 0; i < DEVICES; i++) {
    if (devices[i].net != NULL && !devices[i].up) return false;
  }
  return true;
}

void devices_listen(void (*came_up)(bool with_another_mac)) { listener = came_up; }
