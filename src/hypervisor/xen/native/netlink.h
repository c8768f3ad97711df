/*
 * rtnetlink in the few forms this project needs: several messages built into one buffer, sent by one system call, answered once. Also the
 * other direction, the kernel's notifications about links.
 *
 * A batch stops at its first error only in the sense that the error is reported: the kernel goes on with the later messages. So the
 * messages of a batch are such that each may be repeated. One thread at a time may use this file.
 */
#ifndef SHOAL_NETLINK_H
#define SHOAL_NETLINK_H

#include <stddef.h>
#include <stdint.h>

#include "failure.h"

#define BATCH_BYTES 8192u
#define LINK_NAME_BYTES 16u

struct batch {
  uint32_t length;   /* bytes used */
  uint32_t messages; /* also the sequence number of the last message within the batch, counted from 1 */
  uint32_t start;    /* offset of the message being built */
  int overflow;
  const char *names[64]; /* what message n does, for its failure */
  uint8_t bytes[BATCH_BYTES] __attribute__((aligned(4)));
};

void batch_reset(struct batch *batch);
/* Opens a message with its fixed part (struct ifinfomsg, struct ndmsg); flags beside NLM_F_REQUEST. */
void batch_message(struct batch *batch, const char *name, uint16_t type, uint16_t flags, const void *fixed, size_t fixed_bytes);
void batch_attribute(struct batch *batch, uint16_t type, const void *value, size_t bytes);
void batch_u8(struct batch *batch, uint16_t type, uint8_t value);
void batch_u32(struct batch *batch, uint16_t type, uint32_t value);
void batch_text(struct batch *batch, uint16_t type, const char *text);
/* Returns the offset that batch_close takes. */
uint32_t batch_open(struct batch *batch, uint16_t type);
void batch_close(struct batch *batch, uint32_t opened);

/* A blocking socket for requests, with a receive timeout of 10 s; -1 on failure. */
int netlink_open(struct failure *failure);
/* Sends the batch and waits until its last message is acknowledged. ENOENT and ESRCH of messages named "forget …" are no errors. */
int netlink_send(int socket, struct batch *batch, struct failure *failure);

struct link {
  int32_t index;
  int32_t master; /* 0: none */
  uint8_t gone;   /* the notification says that it went away */
  uint8_t up;
  char name[LINK_NAME_BYTES];
  char kind[LINK_NAME_BYTES]; /* "bridge", "veth", …; empty when the kernel does not say */
  uint8_t mac[6];
};

struct neighbour {
  int32_t index;
  uint8_t ipv4[4];
  uint8_t mac[6];
  uint8_t permanent;
};

/* Every link, every IPv4 neighbour, every static forwarding entry of a bridge: called once for each, stops early when it returns nonzero. */
int netlink_links(int socket, int (*each)(void *context, const struct link *link), void *context, struct failure *failure);
int netlink_neighbours(int socket, int (*each)(void *context, const struct neighbour *entry), void *context, struct failure *failure);

/* A non-blocking socket that receives the kernel's news about links; -1 on failure. */
int netlink_watch_links(struct failure *failure);
/* Reads what has come so far. Returns -1 with ENOBUFS when news were lost: dump all links again. */
int netlink_read_links(int socket, int (*each)(void *context, const struct link *link), void *context, struct failure *failure);

#endif
