/* Netlink and stream sockets against the kernel, on loopback. TAP on standard output. */
#define _GNU_SOURCE
#include "sockets.h"

#include <arpa/inet.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int count, failures;

static void ok(int good, const char *what)
{
  printf("%sok %d - %s\n", good ? "" : "not ", ++count, what);
  if (!good) failures++;
}

struct ask {
  struct nlmsghdr header;
  struct genlmsghdr generic;
  uint16_t length, type;
  char name[16];
};

static struct ask family(const char *name, uint32_t sequence)
{
  struct ask ask = {
      .header = {.nlmsg_len = sizeof ask, .nlmsg_type = GENL_ID_CTRL, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK, .nlmsg_seq = sequence},
      .generic = {.cmd = CTRL_CMD_GETFAMILY, .version = 1},
      .length = sizeof ask.name + 4,
      .type = CTRL_ATTR_FAMILY_NAME,
  };

  strncpy(ask.name, name, sizeof ask.name - 1);
  return ask;
}

static void netlink(void)
{
  struct ask known = family("nlctrl", 7), unknown = family("no-such-one", 8);
  struct failure failure = {0};
  uint8_t *answer = NULL, news[64];
  const struct nlmsghdr *first;
  const struct nlmsgerr *error;
  size_t bytes = 0;
  int fd = netlink_socket(NETLINK_GENERIC, &failure);

  ok(fd >= 0, "a netlink socket");
  ok(netlink_request(fd, (const uint8_t *)&known, sizeof known, 2000, &answer, &bytes, &failure) == 0 && bytes > sizeof *first, "a family is found");
  first = (const struct nlmsghdr *)(const void *)answer;
  ok(answer && first->nlmsg_type == GENL_ID_CTRL && first->nlmsg_seq == 7, "the answer is that to the question");
  free(answer);
  answer = NULL;
  ok(netlink_request(fd, (const uint8_t *)&unknown, sizeof unknown, 2000, &answer, &bytes, &failure) == 0, "a family that is not there is answered, too");
  first = (const struct nlmsghdr *)(const void *)answer;
  error = (const struct nlmsgerr *)(const void *)(answer + sizeof *first);
  ok(answer && first->nlmsg_type == NLMSG_ERROR && error->error == -ENOENT, "with its errno");
  free(answer);
  known.header.nlmsg_flags = NLM_F_REQUEST;
  known.header.nlmsg_type = NLMSG_NOOP;
  ok(netlink_request(fd, (const uint8_t *)&known, sizeof known, 50, &answer, &bytes, &failure) < 0 && failure.error == ETIMEDOUT, "no answer ends in ETIMEDOUT");
  ok(netlink_request(fd, (const uint8_t *)&known, 4, 50, &answer, &bytes, &failure) < 0 && failure.error == EINVAL, "less than a header is refused");
  ok(netlink_news(fd, news, sizeof news, &failure) == 0, "no news is none");
  ok(netlink_join(fd, 0x7fffffff, &failure) < 0, "a group that is not there is refused");
  close(fd);
}

static void streams(int mptcp, const char *address, const char *name)
{
  struct sockaddr_storage at = {0};
  socklen_t length = sizeof at;
  struct failure failure = {0};
  uint8_t info[256];
  uint32_t token = 0;
  char what[80], byte = 'x';
  uint16_t port;
  int listener = stream_listen(address, 0, 4, mptcp, &failure), far = -1, near = -1;
  ssize_t got;

  getsockname(listener, (struct sockaddr *)&at, &length);
  port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port : ((struct sockaddr_in *)&at)->sin_port);
  far = stream_connect(address, port, address, mptcp, 2000, &failure);
  snprintf(what, sizeof what, "%s connects", name);
  ok(listener >= 0 && far >= 0, what);
  for (int tries = 0; near < 0 && tries < 1000; tries++, usleep(1000)) near = accept(listener, NULL, NULL);
  snprintf(what, sizeof what, "%s carries a byte", name);
  ok(send(far, &byte, 1, MSG_NOSIGNAL) == 1 && recv(near, &byte, 1, 0) == 1 && byte == 'x', what);
  got = mptcp_describe(far, info, sizeof info, &failure);
  if (got >= 16) memcpy(&token, info + 12, sizeof token);
  snprintf(what, sizeof what, "%s %s a token", name, mptcp ? "has" : "has not");
  ok(mptcp ? got >= 16 && token != 0 : got < 0 && (failure.error == EOPNOTSUPP || failure.error == ENOPROTOOPT), what);
  close(near);
  close(far);
  close(listener);
  snprintf(what, sizeof what, "%s to a closed port is refused", name);
  ok(stream_connect(address, port, "", mptcp, 2000, &failure) < 0 && failure.error == ECONNREFUSED, what);
}

int main(void)
{
  struct failure failure = {0};

  netlink();
  ok(mptcp_known(), "this kernel has MPTCP");
  streams(1, "127.0.0.1", "MPTCP");
  streams(0, "127.0.0.1", "TCP");
  streams(1, "::1", "MPTCP over IPv6");
  ok(stream_listen("localhost", 0, 4, 1, &failure) < 0 && failure.error == EINVAL, "a name is no address");
  ok(stream_connect("127.0.0.1", 9, "nowhere", 1, 100, &failure) < 0 && failure.error == EINVAL, "nor is one to come from");
  ok(stream_listen("192.0.2.77", 0, 4, 1, &failure) < 0 && failure.error == EADDRNOTAVAIL, "an address of another machine is refused");
  printf("1..%d\n", count);
  return failures != 0;
}
