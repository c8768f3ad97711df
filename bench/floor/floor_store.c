/* See floor.h. Blocking, one connection, no error handling beyond giving up: this measures, it does not manage. */
#include "floor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <xen/io/xs_wire.h>

static char out[16384];
static size_t out_bytes;
static unsigned queued, changes;

static void give_up(const char *what)
{
  fprintf(stderr, "floor: store: %s: %s\n", what, strerror(errno));
  exit(1);
}

int store_connect(void)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/xenstored/socket" };
  int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (handle < 0 || connect(handle, (struct sockaddr *)&address, sizeof address)) give_up(address.sun_path);
  return handle;
}

static void queue(unsigned type, unsigned transaction, const void *body, size_t length)
{
  struct xsd_sockmsg header = { .type = type, .req_id = queued, .tx_id = transaction, .len = (uint32_t)length };

  if (out_bytes + sizeof header + length > sizeof out) {
    errno = EMSGSIZE;
    give_up("batch");
  }
  memcpy(out + out_bytes, &header, sizeof header);
  memcpy(out + out_bytes + sizeof header, body, length);
  out_bytes += sizeof header + length;
  queued++;
  if (type == XS_WRITE || type == XS_SET_PERMS || type == XS_RM) changes++;
}

static void read_all(int handle, void *buffer, size_t length)
{
  for (size_t have = 0; have < length;) {
    ssize_t got = read(handle, (char *)buffer + have, length - have);

    if (got <= 0) give_up("read");
    have += (size_t)got;
  }
}

/* Sends what is queued and reads every answer; the last answer's body stays in `answer`. Returns the errno name of the first refusal, or NULL. */
static const char *flush(int handle, char answer[XENSTORE_PAYLOAD_MAX + 1])
{
  static char refusal[64];
  const char *refused = NULL;

  for (size_t sent = 0; sent < out_bytes;) {
    ssize_t done = write(handle, out + sent, out_bytes - sent);

    if (done <= 0) give_up("write");
    sent += (size_t)done;
  }
  for (; queued > 0; queued--) {
    struct xsd_sockmsg header;

    read_all(handle, &header, sizeof header);
    if (header.len > XENSTORE_PAYLOAD_MAX) give_up("answer");
    read_all(handle, answer, header.len);
    answer[header.len] = 0;
    if (header.type == XS_ERROR && !refused) {
      snprintf(refusal, sizeof refusal, "%s", answer);
      refused = refusal;
    }
  }
  out_bytes = 0;
  return refused;
}

static void write_node(unsigned transaction, const char *folder, const char *name, const char *value)
{
  char body[2048];
  int length = snprintf(body, sizeof body, "%s/%s", folder, name);

  memcpy(body + length + 1, value, strlen(value));
  queue(XS_WRITE, transaction, body, (size_t)length + 1 + strlen(value));
}

static void set_permissions(unsigned transaction, const char *path, const char *first, const char *second)
{
  char body[512];
  size_t length = 0;
  const char *parts[] = { path, first, second };

  for (unsigned i = 0; i < 3; i++) {
    memcpy(body + length, parts[i], strlen(parts[i]) + 1);
    length += strlen(parts[i]) + 1;
  }
  queue(XS_SET_PERMS, transaction, body, length);
}

static void queue_domain(unsigned transaction, unsigned domid, const char *name, const struct store_vif *vif)
{
  char home[64], frontend[96], backend[96], reader[16], owner[16], number[16];

  snprintf(home, sizeof home, "/local/domain/%u", domid);
  snprintf(frontend, sizeof frontend, "%s/device/vif/0", home);
  snprintf(backend, sizeof backend, "/local/domain/0/backend/vif/%u/0", domid);
  snprintf(reader, sizeof reader, "r%u", domid);
  snprintf(owner, sizeof owner, "n%u", domid);
  snprintf(number, sizeof number, "%u", domid);
  write_node(transaction, home, "shoal", "");
  set_permissions(transaction, home, "n0", reader);
  write_node(transaction, home, "name", name);
  if (vif) {
    write_node(transaction, frontend, "backend", backend);
    write_node(transaction, frontend, "backend-id", "0");
    set_permissions(transaction, frontend, owner, "r0");
    write_node(transaction, frontend, "mac", vif->mac);
    write_node(transaction, frontend, "state", "1");
    write_node(transaction, backend, "frontend", frontend);
    set_permissions(transaction, backend, "n0", reader);
    write_node(transaction, backend, "frontend-id", number);
    write_node(transaction, backend, "handle", "0");
    write_node(transaction, backend, "mac", vif->mac);
    write_node(transaction, backend, "online", "1");
    write_node(transaction, backend, "script", "shoal");
    write_node(transaction, backend, "state", "1");
  }
}

unsigned store_register(int handle, unsigned domid, const char *name, const struct store_vif *vif, uint64_t store_mfn, unsigned port)
{
  static char answer[XENSTORE_PAYLOAD_MAX + 1];
  const char *refused;
  char body[64];
  int length;

  changes = 0;
  do {
    queue(XS_TRANSACTION_START, 0, "", 1);
    if ((refused = flush(handle, answer))) break;
    unsigned transaction = (unsigned)strtoul(answer, NULL, 10);
    queue_domain(transaction, domid, name, vif);
    queue(XS_TRANSACTION_END, transaction, "T", 2);
    length = snprintf(body, sizeof body, "%u%c%llu%c%u", domid, 0, (unsigned long long)store_mfn, 0, port);
    queue(XS_INTRODUCE, 0, body, (size_t)length + 1);
    refused = flush(handle, answer);
  } while (refused && strcmp(refused, "EAGAIN") == 0);
  if (refused) {
    fprintf(stderr, "floor: store: %s\n", refused);
    exit(1);
  }
  return changes;
}

void store_seal(int handle, unsigned domid, const char *record)
{
  static char answer[XENSTORE_PAYLOAD_MAX + 1];
  char home[64];

  snprintf(home, sizeof home, "/local/domain/%u", domid);
  write_node(0, home, "shoal", record);
  flush(handle, answer);
}

void store_remove(int handle, unsigned domid)
{
  static char answer[XENSTORE_PAYLOAD_MAX + 1];
  char path[96];

  snprintf(path, sizeof path, "/local/domain/0/backend/vif/%u", domid);
  queue(XS_RM, 0, path, strlen(path) + 1);
  snprintf(path, sizeof path, "/local/domain/%u", domid);
  queue(XS_RM, 0, path, strlen(path) + 1);
  flush(handle, answer);
}

unsigned store_name(int handle, unsigned domid, const char *name, const char *record)
{
  static char answer[XENSTORE_PAYLOAD_MAX + 1];
  char home[64];

  changes = 0;
  snprintf(home, sizeof home, "/local/domain/%u", domid);
  write_node(0, home, "name", name);
  write_node(0, home, "shoal", record);
  flush(handle, answer);
  return changes;
}
