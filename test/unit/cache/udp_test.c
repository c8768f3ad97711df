/* What udp.c does with the kernel: sizes exact, order kept, the last one short, refusals, a full buffer. Says TAP. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "udp.h"

static int count, bad;

static void ok(int good, const char *what)
{
  printf("%sok %d - %s\n", good ? "" : "not ", ++count, what);
  if (!good) bad = 1;
}

static int receiver(uint16_t *port)
{
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), room = 4 << 20;

  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  if (bind(fd, (struct sockaddr *)&at, sizeof at) || getsockname(fd, (struct sockaddr *)&at, &size)) exit(2);
  *port = ntohs(at.sin_port);
  return fd;
}

static void check_sizes(struct udp *udp, int fd, size_t length, uint16_t segment, const char *what)
{
  uint8_t *sent = malloc(length), *got = malloc(length);
  struct failure failure;
  size_t at = 0, datagrams = 0;
  int exact = 1;

  for (size_t i = 0; i < length; i++) sent[i] = (uint8_t)(i * 7 + (i >> 8));
  if (udp_send(udp, sent, length, segment, &failure) != (int64_t)length) exact = 0;
  for (ssize_t n; at < length && (n = recv(fd, got + at, length - at, 0)) >= 0; at += (size_t)n, datagrams++)
    if ((size_t)n != (length - at < segment ? length - at : segment)) exact = 0;
  ok(exact && at == length && memcmp(sent, got, length) == 0 && datagrams == (length + segment - 1) / segment, what);
  free(sent);
  free(got);
}

int main(void)
{
  struct udp_options options = {.to = htonl(INADDR_LOOPBACK), .ttl = 1};
  struct failure failure;
  struct udp udp;
  uint8_t bytes[4000] = {0};
  int fd = receiver(&options.port);

  ok(udp_open(&udp, &options, &failure) == 0, "opens");
  check_sizes(&udp, fd, 1316 * 100, 1316, "100 datagrams of 1,316 bytes");
  check_sizes(&udp, fd, 1316 * 3 + 1, 1316, "the last one of a byte");
  check_sizes(&udp, fd, 200, 1316, "one that is shorter than a segment");
  check_sizes(&udp, fd, 64 * 3 + 5, 1, "datagrams of a byte");
  check_sizes(&udp, fd, 40000, 20000, "two large ones");
  udp.segments = 0;
  check_sizes(&udp, fd, 1316 * 70 + 9, 1316, "the same without the kernel's cutting");
  ok(udp_send(&udp, bytes, 0, 1316, &failure) == 0, "nothing is nothing");
  udp_close(&udp);
  ok(udp_send(&udp, bytes, 10, 10, &failure) == -1 && failure.error == EBADF, "a closed one is an error");

  close(fd);
  ok(udp_open(&udp, &options, &failure) == 0, "opens where nobody listens");
  for (int i = 0; i < 50; i++) udp_send(&udp, bytes, sizeof bytes, 1000, &failure);
  ok(udp_send(&udp, bytes, sizeof bytes, 1000, &failure) == sizeof bytes, "and goes on when nobody does");
  ok(udp_wait(udp.fd, 100, &failure) == 1, "there is room");
  udp_close(&udp);
  options.local = htonl(0xc0000201); /* 192.0.2.1, which nobody has */
  ok(udp_open(&udp, &options, &failure) == -1 && failure.error == EADDRNOTAVAIL && strcmp(failure.call, "bind") == 0, "a local address that is not here");
  options = (struct udp_options){.to = htonl(0xefff0001), .port = 1, .ttl = 1, .interface = htonl(0xc0000201)};
  ok(udp_open(&udp, &options, &failure) == -1 && strcmp(failure.call, "IP_MULTICAST_IF") == 0, "an interface that is not here");
  printf("1..%d\n", count);
  return bad;
}
