/* See netlink.h. Message formats are those of <linux/rtnetlink.h> and rtnetlink(7). */
#include "netlink.h"

#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Sequence numbers continue over the life of the process, so that a late answer to an earlier request is not taken for one to this. */
static uint32_t sequence;

enum { RECEIVE_BYTES = 64 * 1024, NEWS_BUFFER_BYTES = 8 * 1024 * 1024, TIMEOUT_S = 10 };

static uint32_t aligned(size_t length) { return (uint32_t)((length + 3) & ~(size_t)3); }

static void *reserve(struct batch *batch, size_t bytes)
{
  uint32_t at = batch->length;

  if (batch->overflow || bytes > BATCH_BYTES - at) {
    batch->overflow = 1;
    return NULL;
  }
  batch->length = at + aligned(bytes);
  memset(batch->bytes + at, 0, aligned(bytes));
  return batch->bytes + at;
}

static struct nlmsghdr *message_at(struct batch *batch) { return (struct nlmsghdr *)(void *)(batch->bytes + batch->start); }

static void grow_message(struct batch *batch)
{
  if (!batch->overflow) message_at(batch)->nlmsg_len = batch->length - batch->start;
}

void batch_reset(struct batch *batch)
{
  batch->length = batch->messages = batch->start = 0;
  batch->overflow = 0;
}

void batch_message(struct batch *batch, const char *name, uint16_t type, uint16_t flags, const void *fixed, size_t fixed_bytes)
{
  struct nlmsghdr *header;
  uint8_t *at;

  if (batch->messages >= sizeof batch->names / sizeof *batch->names - 1) batch->overflow = 1;
  batch->start = batch->length;
  at = reserve(batch, sizeof *header + fixed_bytes);
  if (!at) return;
  header = (struct nlmsghdr *)(void *)at;
  header->nlmsg_type = type;
  header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
  header->nlmsg_seq = ++batch->messages;
  batch->names[batch->messages] = name;
  memcpy(at + sizeof *header, fixed, fixed_bytes);
  grow_message(batch);
}

void batch_attribute(struct batch *batch, uint16_t type, const void *value, size_t bytes)
{
  uint8_t *at = reserve(batch, sizeof(struct rtattr) + bytes);
  struct rtattr *attribute = (struct rtattr *)(void *)at;

  if (!at) return;
  attribute->rta_type = type;
  attribute->rta_len = (uint16_t)(sizeof *attribute + bytes);
  if (bytes) memcpy(at + sizeof *attribute, value, bytes);
  grow_message(batch);
}

void batch_u8(struct batch *batch, uint16_t type, uint8_t value) { batch_attribute(batch, type, &value, sizeof value); }
void batch_u32(struct batch *batch, uint16_t type, uint32_t value) { batch_attribute(batch, type, &value, sizeof value); }
void batch_text(struct batch *batch, uint16_t type, const char *text) { batch_attribute(batch, type, text, strlen(text) + 1); }

uint32_t batch_open(struct batch *batch, uint16_t type)
{
  uint32_t opened = batch->length;

  batch_attribute(batch, type, NULL, 0);
  return opened;
}

void batch_close(struct batch *batch, uint32_t opened)
{
  if (!batch->overflow) ((struct rtattr *)(void *)(batch->bytes + opened))->rta_len = (uint16_t)(batch->length - opened);
}

int netlink_open(struct failure *failure)
{
  struct sockaddr_nl address = { .nl_family = AF_NETLINK };
  struct timeval timeout = { .tv_sec = TIMEOUT_S };
  int handle = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

  if (handle < 0) return failed(failure, "socket");
  if (bind(handle, (struct sockaddr *)&address, sizeof address) || setsockopt(handle, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout)) {
    failed(failure, "bind");
    close(handle);
    return -1;
  }
  return handle;
}

static int transmit(int handle, const void *bytes, size_t length, struct failure *failure)
{
  struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
  ssize_t sent;

  do sent = sendto(handle, bytes, length, 0, (struct sockaddr *)&kernel, sizeof kernel);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? failed(failure, "sendto") : 0;
}

/* One datagram; returns its length, 0 when there is none (non-blocking), -1. */
static ssize_t receive(int handle, void *buffer, struct failure *failure)
{
  ssize_t length;

  do length = recv(handle, buffer, RECEIVE_BYTES, 0);
  while (length < 0 && errno == EINTR);
  if (length >= 0) return length;
  return failed(failure, "recv");
}

static int is_forgiven(const char *name, int error)
{
  return strncmp(name, "forget ", 7) == 0 && (error == ENOENT || error == ESRCH || error == ENODEV || error == EADDRNOTAVAIL);
}

int netlink_send(int handle, struct batch *batch, struct failure *failure)
{
  static uint8_t buffer[RECEIVE_BYTES] __attribute__((aligned(8)));
  uint32_t base, answered = 0;
  int result = 0;

  if (batch->overflow) return failed_with(failure, "netlink batch", EMSGSIZE);
  if (batch->messages == 0) return 0;
  message_at(batch)->nlmsg_flags |= NLM_F_ACK;
  base = sequence;
  sequence += batch->messages;
  for (uint32_t at = 0; at < batch->length;) {
    struct nlmsghdr *header = (struct nlmsghdr *)(void *)(batch->bytes + at);

    header->nlmsg_seq += base;
    at += aligned(header->nlmsg_len);
  }
  if (transmit(handle, batch->bytes, batch->length, failure)) return -1;

  while (answered < batch->messages) {
    ssize_t length = receive(handle, buffer, failure);

    if (length < 0) return -1;
    for (struct nlmsghdr *header = (struct nlmsghdr *)(void *)buffer; NLMSG_OK(header, length); header = NLMSG_NEXT(header, length)) {
      uint32_t number = header->nlmsg_seq - base;
      const struct nlmsgerr *answer = NLMSG_DATA(header);

      if (header->nlmsg_type != NLMSG_ERROR || number == 0 || number > batch->messages) continue;
      if (number > answered) answered = number;
      if (answer->error && !is_forgiven(batch->names[number], -answer->error) && result == 0)
        result = failed_with(failure, batch->names[number], -answer->error);
    }
  }
  return result;
}

static void copy_name(char name[LINK_NAME_BYTES], const struct rtattr *attribute)
{
  size_t length = RTA_PAYLOAD(attribute);

  if (length > LINK_NAME_BYTES - 1) length = LINK_NAME_BYTES - 1;
  memcpy(name, RTA_DATA(attribute), length);
  name[length] = 0;
}

static void take_kind(struct link *link, const struct rtattr *info)
{
  int length = (int)RTA_PAYLOAD(info);

  for (const struct rtattr *inner = RTA_DATA(info); RTA_OK(inner, length); inner = RTA_NEXT(inner, length))
    if ((inner->rta_type & NLA_TYPE_MASK) == IFLA_INFO_KIND) copy_name(link->kind, inner);
}

/* Returns 0 when the message is none about a link (or about its bridge port only). */
static int take_link(struct link *link, const struct nlmsghdr *header)
{
  const struct ifinfomsg *info = NLMSG_DATA(header);
  int length = (int)header->nlmsg_len - (int)NLMSG_LENGTH(sizeof *info);

  if ((header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_DELLINK) || length < 0 || info->ifi_family != AF_UNSPEC) return 0;
  memset(link, 0, sizeof *link);
  link->index = info->ifi_index;
  link->gone = header->nlmsg_type == RTM_DELLINK;
  link->up = (info->ifi_flags & IFF_UP) != 0;
  for (const struct rtattr *attribute = IFLA_RTA(info); RTA_OK(attribute, length); attribute = RTA_NEXT(attribute, length)) {
    switch (attribute->rta_type & NLA_TYPE_MASK) {
    case IFLA_IFNAME:
      copy_name(link->name, attribute);
      break;
    case IFLA_MASTER:
      if (RTA_PAYLOAD(attribute) >= sizeof link->master) memcpy(&link->master, RTA_DATA(attribute), sizeof link->master);
      break;
    case IFLA_LINKINFO:
      take_kind(link, attribute);
      break;
    case IFLA_ADDRESS:
      if (RTA_PAYLOAD(attribute) == sizeof link->mac) memcpy(link->mac, RTA_DATA(attribute), sizeof link->mac);
      break;
    default:
      break;
    }
  }
  return 1;
}

static int take_neighbour(struct neighbour *entry, const struct nlmsghdr *header)
{
  const struct ndmsg *info = NLMSG_DATA(header);
  int length = (int)header->nlmsg_len - (int)NLMSG_LENGTH(sizeof *info);
  int has_address = 0, has_mac = 0;

  if (header->nlmsg_type != RTM_NEWNEIGH || length < 0 || info->ndm_family != AF_INET) return 0;
  memset(entry, 0, sizeof *entry);
  entry->index = info->ndm_ifindex;
  entry->permanent = (info->ndm_state & NUD_PERMANENT) != 0;
  for (const struct rtattr *attribute = (const struct rtattr *)(const void *)((const uint8_t *)info + NLMSG_ALIGN(sizeof *info));
       RTA_OK(attribute, length); attribute = RTA_NEXT(attribute, length)) {
    if (attribute->rta_type == NDA_DST && RTA_PAYLOAD(attribute) == 4) {
      memcpy(entry->ipv4, RTA_DATA(attribute), 4);
      has_address = 1;
    } else if (attribute->rta_type == NDA_LLADDR && RTA_PAYLOAD(attribute) == 6) {
      memcpy(entry->mac, RTA_DATA(attribute), 6);
      has_mac = 1;
    }
  }
  return has_address && has_mac;
}

/* What a dump or the news hand on: a link or a neighbour. */
struct consumer {
  int (*link)(void *context, const struct link *link);
  int (*neighbour)(void *context, const struct neighbour *entry);
  void *context;
};

static void consume(const struct consumer *consumer, const struct nlmsghdr *header)
{
  struct neighbour entry;
  struct link link;

  if (consumer->link && take_link(&link, header)) consumer->link(consumer->context, &link);
  if (consumer->neighbour && take_neighbour(&entry, header)) consumer->neighbour(consumer->context, &entry);
}

static int dump(int handle, const char *name, uint16_t type, const void *fixed, size_t fixed_bytes, const struct consumer *consumer,
                struct failure *failure)
{
  static uint8_t buffer[RECEIVE_BYTES] __attribute__((aligned(8)));
  static struct batch batch;

  batch_reset(&batch);
  batch_message(&batch, name, type, NLM_F_DUMP, fixed, fixed_bytes);
  message_at(&batch)->nlmsg_seq = ++sequence;
  if (transmit(handle, batch.bytes, batch.length, failure)) return -1;
  for (;;) {
    ssize_t length = receive(handle, buffer, failure);

    if (length < 0) return -1;
    for (struct nlmsghdr *header = (struct nlmsghdr *)(void *)buffer; NLMSG_OK(header, length); header = NLMSG_NEXT(header, length)) {
      if (header->nlmsg_seq != sequence) continue;
      if (header->nlmsg_type == NLMSG_DONE) return 0;
      if (header->nlmsg_type == NLMSG_ERROR) return failed_with(failure, name, -((struct nlmsgerr *)NLMSG_DATA(header))->error);
      consume(consumer, header);
    }
  }
}

int netlink_links(int handle, int (*each)(void *context, const struct link *link), void *context, struct failure *failure)
{
  struct ifinfomsg fixed = { .ifi_family = AF_UNSPEC };
  struct consumer consumer = { .link = each, .context = context };

  return dump(handle, "list links", RTM_GETLINK, &fixed, sizeof fixed, &consumer, failure);
}

int netlink_neighbours(int handle, int (*each)(void *context, const struct neighbour *entry), void *context, struct failure *failure)
{
  struct ndmsg fixed = { .ndm_family = AF_INET };
  struct consumer consumer = { .neighbour = each, .context = context };

  return dump(handle, "list neighbours", RTM_GETNEIGH, &fixed, sizeof fixed, &consumer, failure);
}

int netlink_watch_links(struct failure *failure)
{
  struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
  int bytes = NEWS_BUFFER_BYTES;
  int handle = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

  if (handle < 0) return failed(failure, "socket");
  /* FORCE passes net.core.rmem_max, for which root suffices; a thousand vifs going away at once are about 3 MB of news. */
  if (setsockopt(handle, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes)) setsockopt(handle, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  if (bind(handle, (struct sockaddr *)&address, sizeof address)) {
    failed(failure, "bind");
    close(handle);
    return -1;
  }
  return handle;
}

int netlink_read_links(int handle, int (*each)(void *context, const struct link *link), void *context, struct failure *failure)
{
  static uint8_t buffer[RECEIVE_BYTES] __attribute__((aligned(8)));
  struct consumer consumer = { .link = each, .context = context };

  for (;;) {
    ssize_t length = receive(handle, buffer, failure);

    if (length < 0) return failure->error == EAGAIN || failure->error == EWOULDBLOCK ? 0 : -1;
    for (struct nlmsghdr *header = (struct nlmsghdr *)(void *)buffer; NLMSG_OK(header, length); header = NLMSG_NEXT(header, length))
      consume(&consumer, header);
  }
}
