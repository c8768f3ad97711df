/*
 * A bounded ping for tests, since not every machine has one: sends ICMP echo requests one by one and checks that each answer
 * carries the bytes that were sent.
 *   echo ADDRESS [COUNT [PAYLOAD_BYTES [TIMEOUT_MS]]]     exit code 0 when every request was answered
 */
#include <arpa/inet.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_PAYLOAD 8192

static uint64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static uint16_t checksum(const uint8_t *bytes, size_t size) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < size; i += 2) sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
  if (size % 2 != 0) sum += (uint32_t)bytes[size - 1] << 8;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons((uint16_t)~sum);
}

/* True when the answer to `sequence` with the same payload came in time. */
static int await(int raw, const uint8_t *request, size_t size, uint64_t until_us) {
  uint8_t packet[MOST_PAYLOAD + 128];
  for (;;) {
    uint64_t now = now_us();
    struct pollfd readable = {.fd = raw, .events = POLLIN};
    if (now >= until_us || poll(&readable, 1, (int)((until_us - now) / 1000) + 1) <= 0) return 0;
    ssize_t got = recv(raw, packet, sizeof packet, 0);
    size_t header = (size_t)(packet[0] & 15) * 4;
    if (got < (ssize_t)(header + size) || packet[header] != ICMP_ECHOREPLY) continue;
    if (memcmp(packet + header + 4, request + 4, size - 4) == 0) return 1;
  }
}

int main(int argc, char **argv) {
  struct sockaddr_in to = {.sin_family = AF_INET};
  static uint8_t request[8 + MOST_PAYLOAD];
  int count = argc > 2 ? atoi(argv[2]) : 1, answered = 0;
  size_t payload = argc > 3 ? (size_t)atoi(argv[3]) : 56;
  uint64_t timeout_us = (argc > 4 ? (uint64_t)atoi(argv[4]) : 2000u) * 1000u;
  if (argc < 2 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 || payload > MOST_PAYLOAD) return 2;
  int raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  if (raw < 0) return perror("socket"), 2;
  for (int sequence = 1; sequence <= count; sequence++) {
    uint64_t start = now_us();
    uint16_t id = htons((uint16_t)getpid()), number = htons((uint16_t)sequence), sum;
    memset(request, 0, 8);
    request[0] = ICMP_ECHO;
    memcpy(request + 4, &id, 2);
    memcpy(request + 6, &number, 2);
    for (size_t i = 0; i < payload; i++) request[8 + i] = (uint8_t)(i * 7 + (size_t)sequence);
    sum = checksum(request, 8 + payload);
    memcpy(request + 2, &sum, 2);
    if (sendto(raw, request, 8 + payload, 0, (struct sockaddr *)&to, sizeof to) < 0) perror("sendto");
    if (!await(raw, request, 8 + payload, start + timeout_us)) {
      printf("%d: no answer\n", sequence);
      continue;
    }
    answered++;
    printf("%d: %llu us\n", sequence, (unsigned long long)(now_us() - start));
  }
  printf("%d of %d answered\n", answered, count);
  return answered == count ? 0 : 1;
}
