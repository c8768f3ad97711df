/*
 * Echo requests as fast as they are answered: keeps WINDOW of them under way to each address for SECONDS, and prints how many replies came a
 * second. A request that is not answered within 200 ms is taken for lost and sent anew. Runs in the namespace it is started in.
 *   flood SECONDS WINDOW ADDRESS…
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ADDRESSES = 256, PAYLOAD = 56, BATCH = 64 };
#define LOST_NS 200000000ll

struct target {
  struct sockaddr_in to;
  unsigned under_way;
  int64_t last_reply;
};

static struct target targets[MOST_ADDRESSES];
static unsigned target_count;
static uint64_t sent, replies;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static uint16_t checksum(const uint8_t *bytes, size_t length) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < length; i += 2) sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons((uint16_t)~sum);
}

static void ask(int handle, unsigned index) {
  uint8_t packet[sizeof(struct icmphdr) + PAYLOAD] = {0};
  struct icmphdr *header = (struct icmphdr *)packet;
  header->type = ICMP_ECHO;
  header->un.echo.id = htons((uint16_t)getpid());
  header->un.echo.sequence = htons((uint16_t)index);
  header->checksum = checksum(packet, sizeof packet);
  if (sendto(handle, packet, sizeof packet, 0, (struct sockaddr *)&targets[index].to, sizeof targets[index].to) == sizeof packet) {
    targets[index].under_way++;
    sent++;
  }
}

static void take(const uint8_t *packet, ssize_t length, int64_t now) {
  const struct iphdr *ip = (const struct iphdr *)packet;
  const struct icmphdr *header = (const struct icmphdr *)(packet + ip->ihl * 4u);
  if (length < (ssize_t)(ip->ihl * 4u + sizeof *header) || header->type != ICMP_ECHOREPLY || header->un.echo.id != htons((uint16_t)getpid())) return;
  unsigned index = ntohs(header->un.echo.sequence);
  if (index >= target_count || ip->saddr != targets[index].to.sin_addr.s_addr) return;
  if (targets[index].under_way > 0) targets[index].under_way--;
  targets[index].last_reply = now;
  replies++;
}

int main(int count, char **words) {
  if (count < 4) return fprintf(stderr, "usage: flood SECONDS WINDOW ADDRESS…\n"), 2;
  double seconds = atof(words[1]);
  unsigned window = (unsigned)atoi(words[2]);
  int handle = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP);
  if (handle < 0) return perror("flood: socket"), 1;
  int64_t start = now_ns(), now = start;
  for (int i = 3; i < count && target_count < MOST_ADDRESSES; i++) {
    struct target *target = &targets[target_count++];
    target->to.sin_family = AF_INET;
    target->last_reply = start;
    if (inet_pton(AF_INET, words[i], &target->to.sin_addr) != 1) return fprintf(stderr, "flood: %s is no address\n", words[i]), 2;
  }
  while (now - start < (int64_t)(seconds * 1e9)) {
    uint8_t packet[2048];
    struct pollfd poller = {.fd = handle, .events = POLLIN};
    for (unsigned i = 0; i < target_count; i++) {
      if (now - targets[i].last_reply > LOST_NS) targets[i].under_way = 0, targets[i].last_reply = now;
      while (targets[i].under_way < window) {
        unsigned before = targets[i].under_way;
        ask(handle, i);
        if (targets[i].under_way == before) break; /* no room: poll */
      }
    }
    poll(&poller, 1, 10);
    now = now_ns();
    for (int i = 0; i < BATCH; i++) {
      ssize_t length = recv(handle, packet, sizeof packet, 0);
      if (length < 0) break;
      take(packet, length, now);
    }
  }
  printf("{\"repliesPerS\":%.0f,\"sent\":%llu,\"replies\":%llu}\n", (double)replies * 1e9 / (double)(now - start), (unsigned long long)sent, (unsigned long long)replies);
  return 0;
}
