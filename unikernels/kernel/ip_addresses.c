/*
 * The addresses of device 0 beside its first one: each is a lwIP interface of its own over the same device, with a network of that one address,
 * so that no route ever leads over it. What comes for it is taken, what is answered bears it, and everything leaves by the first interface.
 */
#include "config.h"
#include "ip.h"

static struct {
  struct netif netif;
  bool used;
} others[IP_OTHERS_MAX];
static struct netif *first;
static netif_init_fn init;

static void add(unsigned at, uint32_t address) {
  ip4_addr_t ip = {address}, mask = {0xffffffffu};
  struct netif *netif = &others[at].netif;
  memset(netif, 0, sizeof *netif);
  netif_add(netif, &ip, &mask, IP4_ADDR_ANY4, NULL, init, first->input);
  memcpy(netif->hwaddr, first->hwaddr, sizeof netif->hwaddr);
  others[at].used = true;
  netif_set_up(netif);
  if (netif_is_link_up(first)) netif_set_link_up(netif); /* announced */
}

static void remove_at(unsigned at) {
  netif_remove(&others[at].netif); /* and its connections, with a reset */
  others[at].used = false;
}

static bool holds(const uint32_t *list, size_t count, uint32_t address) {
  for (size_t i = 0; i < count; i++) {
    if (list[i] == address) return true;
  }
  return false;
}

static bool is_host(uint32_t address) {
  uint32_t host = lwip_ntohl(address), top = host >> 24;
  return top != 0 && top != 127 && top < 224;
}

bool ip_addresses_set(const uint32_t *list, size_t count) {
  size_t wanted = 0;
  if (first == NULL) return false;
  for (size_t i = 0; i < count; i++) {
    if (!is_host(list[i])) return false;
    wanted += !holds(list, i, list[i]) && list[i] != netif_ip4_addr(first)->addr;
  }
  if (wanted > IP_OTHERS_MAX) return false;
  for (unsigned at = 0; at < IP_OTHERS_MAX; at++) {
    uint32_t address = netif_ip4_addr(&others[at].netif)->addr;
    if (others[at].used && (!holds(list, count, address) || address == netif_ip4_addr(first)->addr)) remove_at(at);
  }
  for (size_t i = 0; i < count; i++) {
    unsigned free_at = IP_OTHERS_MAX;
    bool there = list[i] == netif_ip4_addr(first)->addr;
    for (unsigned at = 0; at < IP_OTHERS_MAX; at++) {
      if (!others[at].used) free_at = at;
      else if (netif_ip4_addr(&others[at].netif)->addr == list[i]) there = true;
    }
    if (!there) add(free_at, list[i]);
  }
  return true;
}

/* The word ips=A.B.C.D[,A.B.C.D...]. */
static size_t read_word(uint32_t list[IP_OTHERS_MAX]) {
  const char *word = shoal_config("ips");
  size_t count = 0;
  while (word != NULL && *word != '\0') {
    char text[16];
    size_t length = 0;
    while (word[length] != '\0' && word[length] != ',' && length < sizeof text - 1) text[length] = word[length], length++;
    text[length] = '\0';
    uint32_t address;
    bool well = (word[length] == '\0' || (word[length] == ',' && word[length + 1] != '\0')) && config_parse_ipv4(text, &address) &&
                is_host(lwip_htonl(address)) && count < IP_OTHERS_MAX;
    if (!well) {
      shoal_print("net 0: ips=%s is no list of at most %u addresses\n", shoal_config("ips"), IP_OTHERS_MAX);
      return 0;
    }
    list[count++] = lwip_htonl(address);
    word += word[length] == ',' ? length + 1 : length;
  }
  return count;
}

void ip_addresses_start(struct netif *netif, netif_init_fn netif_init_function) {
  uint32_t list[IP_OTHERS_MAX];
  first = netif;
  init = netif_init_function;
  ip_addresses_set(list, read_word(list));
  config_listen(ip_addresses_set);
}

void ip_addresses_link(bool up) {
  for (unsigned at = 0; at < IP_OTHERS_MAX; at++) {
    if (!others[at].used) continue;
    memcpy(others[at].netif.hwaddr, first->hwaddr, sizeof first->hwaddr);
    if (up) netif_set_link_up(&others[at].netif);
    else netif_set_link_down(&others[at].netif);
  }
}

struct netif *ip_addresses_find(uint32_t address) {
  for (unsigned at = 0; at < IP_OTHERS_MAX; at++) {
    if (others[at].used && netif_ip4_addr(&others[at].netif)->addr == address) return &others[at].netif;
  }
  return first;
}
