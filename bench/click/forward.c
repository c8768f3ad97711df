/*
 * Small packets through a middlebox, both ends in one program: sends UDP packets of 64 bytes (with the frame check sequence) of many flows into
 * one device of a namespace, counts what comes out of the other, answers ARP on both. Keeps WINDOW of them under way; with WINDOW 0
 * sends as fast as the device takes them. Of what comes every 64th is looked at: checksums, and where it says it is from.
 *   forward SECONDS WINDOW FLOWS IN OUT MAC-OF-THE-MIDDLEBOX SOURCE/LENGTH
 * Prints JSON: packets sent and received, per second, wrong ones, and the share of dom0's processor that was busy.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "../../unikernels/apps/packets/packet.h"
#include "busy.h"

enum { BATCH = 64, FLOWS_MOST = 4096, SLOT = 256, SLOTS = 4096, BLOCK = 1 << 16, EVERY = 64 };
#define LOST_NS 100000000ll
/* Longer than that nothing holds this program up but that the whole emulated machine stands still: not part of the time. */
#define STANDSTILL_NS 1000000000ll

static uint8_t frames[FLOWS_MOST][FRAME];
static struct mmsghdr messages[BATCH];
static struct iovec parts[BATCH];
static uint8_t *ring;
static unsigned slot;
static uint64_t received, wrong, looked_at;
static uint32_t expected, expected_mask;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int device(const char *name, int protocol) {
  struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)protocol), .sll_ifindex = (int)if_nametoindex(name)};
  int handle = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1;
  if (handle < 0 || at.sll_ifindex == 0) return perror(name), exit(1), -1;
  setsockopt(handle, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  setsockopt(handle, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
  if (protocol == ETH_P_ALL) {
    struct tpacket_req shape = {.tp_block_size = BLOCK, .tp_block_nr = SLOTS * SLOT / BLOCK, .tp_frame_size = SLOT, .tp_frame_nr = SLOTS};
    int version = TPACKET_V2;
    if (setsockopt(handle, SOL_PACKET, PACKET_VERSION, &version, sizeof version) || setsockopt(handle, SOL_PACKET, PACKET_RX_RING, &shape, sizeof shape)) return perror("ring"), exit(1), -1;
    ring = mmap(NULL, SLOTS * SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    if (ring == MAP_FAILED) return perror("mmap"), exit(1), -1;
  }
  if (bind(handle, (struct sockaddr *)&at, sizeof at)) return perror(name), exit(1), -1;
  return handle;
}

/* Every address is here. */
static void answer_arp(int handle, const uint8_t *asked, uint8_t last) {
  uint8_t answer[FRAME] = {0};
  if (asked[21] != 1) return;
  memcpy(answer, asked + 6, 6);
  memcpy(answer + 6, (uint8_t[]){2, 0, 0, 0, 9, last}, 6);
  memcpy(answer + 12, asked + 12, 8);
  answer[21] = 2;
  memcpy(answer + 22, answer + 6, 6);
  memcpy(answer + 28, asked + 38, 4);
  memcpy(answer + 32, asked + 22, 10);
  if (send(handle, answer, FRAME, 0) < 0) perror("arp");
}

static void look(const uint8_t *ip) {
  uint32_t source;
  memcpy(&source, ip + 12, 4);
  wrong += !sums_right(ip) || (ntohl(source) & expected_mask) != expected;
  looked_at++;
}

/* Takes what lies in the ring; returns how many of ours. */
static unsigned drain(int handle) {
  unsigned count = 0;
  for (unsigned i = 0; i < SLOTS; i++) {
    struct tpacket2_hdr *header = (struct tpacket2_hdr *)(ring + slot * SLOT);
    if (!(__atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) break;
    const uint8_t *frame = (uint8_t *)header + header->tp_mac;
    if (frame[12] == 8 && frame[13] == 6) answer_arp(handle, frame, 2);
    else if (header->tp_snaplen >= FRAME && memcmp(frame + 42, MARK, 8) == 0) {
      if (received % EVERY == 0) look(frame + 14);
      received++, count++;
    }
    __atomic_store_n(&header->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    slot = (slot + 1) % SLOTS;
  }
  return count;
}

static void drain_arp(int handle) {
  uint8_t frame[256];
  while (recv(handle, frame, sizeof frame, MSG_DONTWAIT) >= 42) answer_arp(handle, frame, 1);
}

int main(int count, char **words) {
  uint8_t mac[6];
  char address[20] = "";
  unsigned length = 0, next = 0;
  if (count != 8 || sscanf(words[6], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6 ||
      sscanf(words[7], "%19[0-9.]/%u", address, &length) != 2 || length < 1 || length > 32 || inet_pton(AF_INET, address, &expected) != 1)
    return fprintf(stderr, "usage: forward SECONDS WINDOW FLOWS IN OUT MAC SOURCE/LENGTH\n"), 2;
  expected_mask = UINT32_MAX << (32 - length);
  expected = ntohl(expected) & expected_mask;
  int64_t forNs = (int64_t)(atof(words[1]) * 1e9);
  unsigned window = (unsigned)atoi(words[2]), flows = (unsigned)atoi(words[3]);
  if (flows < 1 || flows > FLOWS_MOST) return fprintf(stderr, "forward: 1 to %d flows\n", FLOWS_MOST), 2;
  for (unsigned i = 0; i < flows; i++) make_frame(frames[i], mac, (const uint8_t[6]){2, 0, 0, 0, 9, 1}, i);
  for (unsigned i = 0; i < BATCH; i++) messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  /* Else netback's threads, on the same processor, would take over after the first packet of each burst, and everything would go by ones. */
  if (window > 0 && sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1}) != 0) perror("sched_setscheduler");
  int in = device(words[4], ETH_P_ARP), out = device(words[5], ETH_P_ALL);
  uint64_t sent = 0, lost = 0, full = 0, standstills = 0, idle[2], all[2];
  ticks(&idle[0], &all[0]);
  int64_t start = now_ns(), now = start, last = start;
  while (now - start < forNs) {
    if (received + lost > sent) lost = sent - received; /* they came after all */
    uint64_t away = sent - received - lost;
    unsigned room = window == 0 ? BATCH : away < window ? (unsigned)(window - away) : 0, send_now = room < BATCH ? room : BATCH;
    /* By halves of the window, so that neither end is woken for single packets. */
    if (window == 0 || away <= window / 2 || room >= BATCH) {
      for (unsigned i = 0; i < send_now; i++) parts[i] = (struct iovec){frames[(next + i) % flows], FRAME};
      int done = send_now == 0 ? 0 : sendmmsg(in, messages, send_now, MSG_DONTWAIT);
      if (done > 0) sent += (unsigned)done, next = (next + (unsigned)done) % flows;
      else if (send_now > 0) full++;
      if (done > 0 && (unsigned)done == send_now && window > 0 && room > send_now) goto on;
    }
    if (drain(out) > 0) last = now;
    else {
      struct pollfd waiting[2] = {{.fd = out, .events = POLLIN}, {.fd = in, .events = POLLIN}};
      if (window == 0) sched_yield();
      else poll(waiting, 2, 5);
    }
    drain_arp(in);
  on:
    int64_t before = now;
    now = now_ns();
    if (now - before > STANDSTILL_NS) start += now - before, last += now - before, standstills++;
    if (now - last > LOST_NS) lost = sent - received, last = now;
  }
  int64_t took = now - start;
  uint64_t in_time = received;
  ticks(&idle[1], &all[1]);
  usleep(200000);
  drain(out);
  printf("{\"sent\":%llu,\"received\":%llu,\"perS\":%.0f,\"sentPerS\":%.0f,\"full\":%llu,\"standstills\":%llu,\"lookedAt\":%llu,\"wrong\":%llu,\"busy\":%.3f}\n", (unsigned long long)sent, (unsigned long long)received,
         (double)in_time * 1e9 / (double)took, (double)sent * 1e9 / (double)took, (unsigned long long)full, (unsigned long long)standstills,
         (unsigned long long)looked_at, (unsigned long long)wrong,
         all[1] > all[0] ? 1 - (double)(idle[1] - idle[0]) / (double)(all[1] - all[0]) : 0);
  return 0;
}
