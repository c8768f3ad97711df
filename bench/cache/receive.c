/*
 * receive PORT: counts the datagrams that come to a port until nothing came for a second (twenty before the first). Says `ready`, then a line of JSON:
 * how many, their bytes, and the seconds from the first to the last.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#define BATCH 64
#define ROOM 2048
#define SOCKET_BYTES (64 << 20)

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void wait_for(int fd, int seconds) {
  struct timeval limit = {.tv_sec = seconds};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

int main(int count, char **words) {
  static char room[BATCH][ROOM];
  static struct mmsghdr messages[BATCH];
  static struct iovec parts[BATCH];
  unsigned long long datagrams = 0, bytes = 0;
  double first = 0, last = 0;
  int size = SOCKET_BYTES, fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(count > 1 ? words[1] : "0"))};
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0) perror("receive buffer");
  if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) != 0) {
    perror("receive");
    return 1;
  }
  for (int i = 0; i < BATCH; i++) {
    parts[i] = (struct iovec){room[i], ROOM};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  puts("ready");
  fflush(stdout);
  wait_for(fd, 20);
  for (int got; (got = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL)) > 0 || errno == EINTR;) {
    if (datagrams == 0) first = now(), wait_for(fd, 1);
    last = now();
    for (int i = 0; i < got; i++) datagrams++, bytes += messages[i].msg_len;
  }
  printf("{\"datagrams\":%llu,\"bytes\":%llu,\"seconds\":%.6f}\n", datagrams, bytes, last - first);
  return 0;
}
