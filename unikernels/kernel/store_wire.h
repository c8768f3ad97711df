/*
 * The xenstore wire protocol (xen/io/xs_wire.h), without rings or policy: a parser that takes the bytes of the daemon in any
 * portions and yields whole messages. Pure, so that it can be fuzzed: whatever the bytes, it stays within its buffer and says
 * when the stream makes no sense any more.
 */
#ifndef KERNEL_STORE_WIRE_H
#define KERNEL_STORE_WIRE_H

#include "shoal.h"
#include <xen/xen.h>
#include <xen/io/xs_wire.h>

_Static_assert(sizeof(struct xsd_sockmsg) == 16, "the header on the wire");

/* Values we read are paths, states and addresses; a longer reply is skipped and reported as truncated. */
#define STORE_REPLY_BYTES 512u

struct store_message {
  struct xsd_sockmsg header;
  const char *payload; /* followed by a NUL that is not counted */
  size_t length;
  bool truncated;
};

struct store_parser {
  struct xsd_sockmsg header;
  uint32_t have; /* bytes of header and payload seen */
  char payload[STORE_REPLY_BYTES + 1];
};

enum store_parse { STORE_MORE, STORE_MESSAGE, STORE_BROKEN };

/* Takes bytes off the front of *bytes, *size until a message is whole or they are used up. The message is valid until the next
 * call. After STORE_BROKEN (a length over XENSTORE_PAYLOAD_MAX) the stream cannot be read on. */
enum store_parse store_parse(struct store_parser *parser, const char **bytes, size_t *size, struct store_message *message);

/* The two strings of a watch event; false when the payload is not that. */
bool store_parse_event(const struct store_message *message, const char **path, const char **token);

/* The errno (Xen's numbers are Linux's) that an XS_ERROR payload names; EIO when unknown. */
int store_parse_error(const struct store_message *message);

#define STORE_ENOENT 2
#define STORE_EIO 5
#define STORE_EACCES 13
#define STORE_EOVERFLOW 75
#define STORE_EPROTO 71

#endif
