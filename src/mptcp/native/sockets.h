/*
 * The two kinds of socket that Node has none of: netlink, by which the kernel's path manager is asked and heard, and MPTCP itself. Nothing here knows
 * what the bytes of a netlink message mean: that is src/mptcp/linux, in TypeScript.
 */
#ifndef SHOAL_MPTCP_SOCKETS_H
#define SHOAL_MPTCP_SOCKETS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "failure.h"

/* What one answer may be at most: a dump of some hundred thousand sockets. */
#define ANSWER_MOST_BYTES (256u << 20)

/* A netlink socket of a protocol (NETLINK_GENERIC, NETLINK_SOCK_DIAG), not blocking; its descriptor, or -1. */
int netlink_socket(int protocol, struct failure *failure);
/* Has the socket hear a multicast group. */
int netlink_join(int fd, uint32_t group, struct failure *failure);
/*
 * Sends one request and gathers what is answered, up to the last message (NLMSG_DONE, NLMSG_ERROR) included, into *answer, which the caller frees. Waits
 * timeout_ms at most; ETIMEDOUT then, EMSGSIZE when the answer has no end.
 */
int netlink_request(int fd, const uint8_t *request, size_t bytes, int timeout_ms, uint8_t **answer, size_t *answer_bytes, struct failure *failure);
/* One datagram of news: its length, 0 when there is none, -1 (ENOBUFS: some were lost). */
ssize_t netlink_news(int fd, uint8_t *buffer, size_t room, struct failure *failure);

/* Whether the kernel has MPTCP. */
int mptcp_known(void);
/* A listening stream socket on a numeric address; its descriptor, or -1. */
int stream_listen(const char *address, uint16_t port, int backlog, int mptcp, struct failure *failure);
/* A connected stream socket; local is "" for any. Blocks up to timeout_ms. */
int stream_connect(const char *address, uint16_t port, const char *local, int mptcp, int timeout_ms, struct failure *failure);
/* The kernel's struct mptcp_info of a socket into buffer: its length, or -1 (EOPNOTSUPP: it is plain TCP). */
ssize_t mptcp_describe(int fd, uint8_t *buffer, size_t room, struct failure *failure);

#endif
