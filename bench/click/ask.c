/*
 * Tells the guest that makes packets (unikernels/apps/packets) by a frame what to do, waits, and prints what it counted, as JSON:
 *   ask BRIDGE MAC-OF-THE-GUEST SECONDS WINDOW FLOWS MAC-OF-THE-MIDDLEBOX SOURCE/LENGTH
 * with the share of dom0's processors that was busy meanwhile.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "../../unikernels/apps/packets/order.h"
#include "busy.h"

enum { HEAD = 14, AGAIN_MS = 500, TRIES = 60 };

static bool mac_of(const char *text, uint8_t mac[6]) {
  return sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) == 6;
}

int main(int count, char **words) {
  uint8_t frame[HEAD + sizeof(struct order_ask)] = {0}, got[2048];
  struct order_ask ask = {.magic = ORDER_ASK};
  struct order_tell told;
  char address[20] = "";
  unsigned length = 0;
  if (count != 8 || !mac_of(words[2], frame) || !mac_of(words[6], ask.to) || sscanf(words[7], "%19[0-9.]/%u", address, &length) != 2 || length < 1 || length > 32 ||
      inet_pton(AF_INET, address, &ask.source) != 1)
    return fprintf(stderr, "usage: ask BRIDGE MAC SECONDS WINDOW FLOWS MAC SOURCE/LENGTH\n"), 2;
  ask.run_ms = (uint32_t)(atof(words[3]) * 1000);
  ask.window = (uint32_t)atoi(words[4]);
  ask.flows = (uint32_t)atoi(words[5]);
  ask.source_mask = UINT32_MAX << (32 - length);
  ask.source = ntohl(ask.source) & ask.source_mask;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  ask.id = ((uint32_t)now.tv_nsec ^ (uint32_t)now.tv_sec << 12) | 1;
  struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ORDER_TYPE), .sll_ifindex = (int)if_nametoindex(words[1])};
  struct ifreq request = {0};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", words[1]);
  int handle = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ORDER_TYPE));
  if (handle < 0 || bind(handle, (struct sockaddr *)&at, sizeof at) != 0 || ioctl(handle, SIOCGIFHWADDR, &request) != 0) return perror(words[1]), 1;
  memcpy(frame + 6, request.ifr_hwaddr.sa_data, 6);
  frame[12] = ORDER_TYPE >> 8, frame[13] = ORDER_TYPE & 255;
  memcpy(frame + HEAD, &ask, sizeof ask);
  uint64_t idle[2], all[2];
  ticks(&idle[0], &all[0]);
  for (int tries = 0; tries < TRIES; tries++) {
    if (send(handle, frame, sizeof frame, 0) < 0) perror("send");
    struct pollfd waiting = {.fd = handle, .events = POLLIN};
    int patience_ms = tries == 0 ? (int)ask.run_ms + AGAIN_MS : AGAIN_MS;
    while (poll(&waiting, 1, patience_ms) > 0) {
      ssize_t bytes = recv(handle, got, sizeof got, 0);
      if (bytes < (ssize_t)(HEAD + sizeof told)) continue;
      memcpy(&told, got + HEAD, sizeof told);
      if (memcmp(told.magic, ORDER_TELL, sizeof told.magic) != 0 || told.id != ask.id) continue;
      ticks(&idle[1], &all[1]);
      printf("{\"sent\":%llu,\"received\":%llu,\"perS\":%.0f,\"lookedAt\":%llu,\"wrong\":%llu,\"busy\":%.3f}\n", (unsigned long long)told.sent, (unsigned long long)told.received,
             told.took_us > 0 ? (double)told.in_time * 1e6 / (double)told.took_us : 0, (unsigned long long)told.looked_at, (unsigned long long)told.wrong,
             all[1] > all[0] ? 1 - (double)(idle[1] - idle[0]) / (double)(all[1] - all[0]) : 0);
      return 0;
    }
  }
  return fprintf(stderr, "ask: the guest does not answer\n"), 1;
}
