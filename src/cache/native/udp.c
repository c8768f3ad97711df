/* See udp.h. */
#define _GNU_SOURCE
#include "udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

static int is_multicast(uint32_t address) { return (ntohl(address) >> 28) == 0xe; }

static int set_multicast(int fd, const struct udp_options *options, struct failure *failure)
{
  unsigned char ttl = (unsigned char)options->ttl, loop = options->loop != 0;
  struct in_addr interface = {.s_addr = options->interface};

  if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof ttl)) return failed(failure, "IP_MULTICAST_TTL");
  if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &loop, sizeof loop)) return failed(failure, "IP_MULTICAST_LOOP");
  if (options->interface && setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof interface))
    return failed(failure, "IP_MULTICAST_IF");
  return 0;
}

int udp_open(struct udp *udp, const struct udp_options *options, struct failure *failure)
{
  struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = options->local};
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = options->to, .sin_port = htons(options->port)};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), none = 0;

  if (fd < 0) return failed(failure, "socket");
  if (options->send_buffer > 0) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &options->send_buffer, sizeof options->send_buffer);
  if (is_multicast(options->to) && set_multicast(fd, options, failure)) goto fail;
  if (options->local && bind(fd, (struct sockaddr *)&local, sizeof local)) {
    failed(failure, "bind");
    goto fail;
  }
  /* Connected, so that the route is looked up once and what the other side refuses comes back as an error. */
  if (connect(fd, (struct sockaddr *)&to, sizeof to)) {
    failed(failure, "connect");
    goto fail;
  }
  udp->fd = fd;
  udp->segments = setsockopt(fd, SOL_UDP, UDP_SEGMENT, &none, sizeof none) == 0;
  return 0;

fail:
  close(fd);
  return -1;
}

void udp_close(struct udp *udp)
{
  if (udp->fd >= 0) close(udp->fd);
  udp->fd = -1;
}

/* One call; the number of bytes, 0 when there is no room now, -1. */
static ssize_t send_some(struct udp *udp, const uint8_t *bytes, size_t length, uint16_t segment, struct failure *failure)
{
  union {
    char room[CMSG_SPACE(sizeof(uint16_t))];
    struct cmsghdr align;
  } control;
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  ssize_t sent;

  if (length > segment) {
    struct cmsghdr *header;

    memset(&control, 0, sizeof control);
    message.msg_control = control.room;
    message.msg_controllen = sizeof control.room;
    header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_UDP;
    header->cmsg_type = UDP_SEGMENT;
    header->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(header), &segment, sizeof segment);
  }
  do {
    sent = sendmsg(udp->fd, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return sent;
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) return 0;
  return failed(failure, "sendmsg");
}

int64_t udp_send(struct udp *udp, const uint8_t *bytes, size_t length, uint16_t segment, struct failure *failure)
{
  size_t most = (size_t)segment * UDP_MOST_SEGMENTS, done = 0;

  if (most > UDP_MOST_BYTES) most = UDP_MOST_BYTES / segment * segment;
  while (done < length) {
    size_t left = length - done, now = !udp->segments ? segment : most;
    ssize_t sent = send_some(udp, bytes + done, left < now ? left : now, segment, failure);

    if (sent < 0) {
      /* A device that cannot checksum, or a path that is too narrow to be cut for, says EIO or EINVAL: then datagram by datagram. */
      if (udp->segments && left > segment && (failure->error == EIO || failure->error == EINVAL)) {
        udp->segments = 0;
        continue;
      }
      /* What one datagram's reader refused earlier is told once and is no reason to stop: there may be none yet. */
      if (failure->error == ECONNREFUSED) continue;
      return done > 0 ? (int64_t)done : -1;
    }
    if (sent == 0) break;
    done += (size_t)sent;
  }
  return (int64_t)done;
}

int udp_wait(int fd, int timeout_ms, struct failure *failure)
{
  struct pollfd wanted = {.fd = fd, .events = POLLOUT};
  int ready;

  do {
    ready = poll(&wanted, 1, timeout_ms);
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) return failed(failure, "poll");
  return ready > 0;
}
