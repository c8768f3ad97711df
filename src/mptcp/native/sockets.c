/* See sockets.h. */
#define _GNU_SOURCE
#include "sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif
#ifndef MPTCP_INFO
#define MPTCP_INFO 1
#endif

enum { DATAGRAM_BYTES = 64 * 1024, NEWS_BUFFER_BYTES = 4 * 1024 * 1024 };

static int64_t now_ms(void)
{
  struct timespec t;

  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static int left_ms(int64_t until)
{
  int64_t left = until - now_ms();

  return left < 0 ? 0 : (int)left;
}

int netlink_socket(int protocol, struct failure *failure)
{
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol), bytes = NEWS_BUFFER_BYTES;

  if (fd < 0) return failed(failure, "socket");
  /* FORCE passes net.core.rmem_max, for which root suffices; a thousand connections ending at once are some hundred kB of news. */
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes)) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  if (bind(fd, (struct sockaddr *)&address, sizeof address)) {
    failed(failure, "bind");
    close(fd);
    return -1;
  }
  return fd;
}

int netlink_join(int fd, uint32_t group, struct failure *failure)
{
  if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group)) return failed(failure, "NETLINK_ADD_MEMBERSHIP");
  return 0;
}

/* Whether a datagram holds the last message of the answer to `sequence`. */
static int is_last(const uint8_t *bytes, size_t length, uint32_t sequence)
{
  while (length >= sizeof(struct nlmsghdr)) {
    struct nlmsghdr header;
    size_t whole;

    memcpy(&header, bytes, sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > length) return 0;
    if (header.nlmsg_seq == sequence && (header.nlmsg_type == NLMSG_DONE || header.nlmsg_type == NLMSG_ERROR)) return 1;
    whole = NLMSG_ALIGN(header.nlmsg_len);
    if (whole >= length) return 0;
    bytes += whole;
    length -= whole;
  }
  return 0;
}

int netlink_request(int fd, const uint8_t *request, size_t bytes, int timeout_ms, uint8_t **answer, size_t *answer_bytes, struct failure *failure)
{
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  int64_t until = now_ms() + timeout_ms;
  struct nlmsghdr header;
  uint8_t *all = NULL;
  size_t used = 0, room = 0;

  if (bytes < sizeof header) return failed_with(failure, "netlink request", EINVAL);
  memcpy(&header, request, sizeof header);
  if (sendto(fd, request, bytes, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0) return failed(failure, "sendto");
  for (;;) {
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    ssize_t got;

    if (room - used < DATAGRAM_BYTES) {
      size_t more = room ? room * 2 : DATAGRAM_BYTES * 2;
      uint8_t *larger = more > ANSWER_MOST_BYTES ? NULL : realloc(all, more);

      if (!larger) {
        free(all);
        return failed_with(failure, "netlink answer", more > ANSWER_MOST_BYTES ? EMSGSIZE : ENOMEM);
      }
      all = larger;
      room = more;
    }
    got = recv(fd, all + used, DATAGRAM_BYTES, 0);
    if (got < 0 && errno == EAGAIN) {
      int left = left_ms(until), ready = poll(&wanted, 1, left);

      if (ready > 0 || (ready < 0 && errno == EINTR)) continue;
      free(all);
      return ready < 0 ? failed(failure, "poll") : failed_with(failure, "netlink answer", ETIMEDOUT);
    }
    if (got < 0) {
      if (errno == EINTR) continue;
      failed(failure, "recv");
      free(all);
      return -1;
    }
    /* A late answer to an earlier request that ran out of time is thrown away by its sequence number, message by message, above. */
    used += (size_t)got;
    if (is_last(all + used - got, (size_t)got, header.nlmsg_seq)) break;
  }
  *answer = all;
  *answer_bytes = used;
  return 0;
}

ssize_t netlink_news(int fd, uint8_t *buffer, size_t room, struct failure *failure)
{
  ssize_t got;

  do got = recv(fd, buffer, room, 0);
  while (got < 0 && errno == EINTR);
  if (got >= 0) return got;
  return errno == EAGAIN ? 0 : failed(failure, "recv");
}

int mptcp_known(void)
{
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

  if (fd < 0) return 0;
  close(fd);
  return 1;
}

union address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

static socklen_t read_address(union address *to, const char *text, uint16_t port)
{
  memset(to, 0, sizeof *to);
  if (inet_pton(AF_INET, text, &to->v4.sin_addr) == 1) {
    to->v4.sin_family = AF_INET;
    to->v4.sin_port = htons(port);
    return sizeof to->v4;
  }
  if (inet_pton(AF_INET6, text, &to->v6.sin6_addr) == 1) {
    to->v6.sin6_family = AF_INET6;
    to->v6.sin6_port = htons(port);
    return sizeof to->v6;
  }
  return 0;
}

int stream_listen(const char *address, uint16_t port, int backlog, int mptcp, struct failure *failure)
{
  union address at;
  socklen_t length = read_address(&at, address, port);
  int fd, yes = 1;

  if (!length) return failed_with(failure, "address", EINVAL);
  fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, mptcp ? IPPROTO_MPTCP : IPPROTO_TCP);
  if (fd < 0) return failed(failure, "socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, &at.any, length)) {
    failed(failure, "bind");
  } else if (listen(fd, backlog)) {
    failed(failure, "listen");
  } else {
    return fd;
  }
  close(fd);
  return -1;
}

int stream_connect(const char *address, uint16_t port, const char *local, int mptcp, int timeout_ms, struct failure *failure)
{
  union address to, from;
  socklen_t length = read_address(&to, address, port), from_length = local[0] ? read_address(&from, local, 0) : 0, error_length = sizeof(int);
  int64_t until = now_ms() + timeout_ms;
  int fd, error = 0, ready;

  if (!length || (local[0] && !from_length)) return failed_with(failure, "address", EINVAL);
  fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, mptcp ? IPPROTO_MPTCP : IPPROTO_TCP);
  if (fd < 0) return failed(failure, "socket");
  if (from_length && bind(fd, &from.any, from_length)) {
    failed(failure, "bind");
    goto fail;
  }
  if (connect(fd, &to.any, length) == 0) return fd;
  if (errno != EINPROGRESS) {
    failed(failure, "connect");
    goto fail;
  }
  do {
    struct pollfd wanted = {.fd = fd, .events = POLLOUT};

    ready = poll(&wanted, 1, left_ms(until));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    failed_with(failure, "connect", ETIMEDOUT);
    goto fail;
  }
  if (ready < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_length)) {
    failed(failure, "connect");
    goto fail;
  }
  if (error == 0) return fd;
  failed_with(failure, "connect", error);
fail:
  close(fd);
  return -1;
}

ssize_t mptcp_describe(int fd, uint8_t *buffer, size_t room, struct failure *failure)
{
  socklen_t length = (socklen_t)room;

  if (getsockopt(fd, SOL_MPTCP, MPTCP_INFO, buffer, &length)) return failed(failure, "MPTCP_INFO");
  return (ssize_t)length;
}
