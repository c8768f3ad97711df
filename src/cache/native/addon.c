/*
 * The addon: thin Node-API functions over udp.h, without policy. A socket is an external value; it is closed by close(), or with its value.
 * Sending never blocks; waiting for room is done on a thread of libuv's pool.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "udp.h"
#include "values.h"

static void forget(napi_env env, void *data, void *hint)
{
  (void)env, (void)hint;
  udp_close(data);
  free(data);
}

/* Marks our externals: any other one given as a socket is a TypeError, not a crash. */
static const napi_type_tag tag = {0x6b1f0b0a5c7d4e21ULL, 0x9a3cb4d5e6f70812ULL};

static struct udp *take_socket(const struct call *call, size_t index)
{
  bool ours = false;
  void *data = NULL;

  if (napi_check_object_type_tag(call->env, call->values[index], &tag, &ours) != napi_ok || !ours ||
      napi_unwrap(call->env, call->values[index], &data) != napi_ok || !data) {
    bool pending = false;

    napi_is_exception_pending(call->env, &pending);
    if (!pending) napi_throw_type_error(call->env, NULL, "socket: one of open() is wanted");
    return NULL;
  }
  if (((struct udp *)data)->fd < 0) {
    napi_throw_error(call->env, NULL, "socket: it is closed");
    return NULL;
  }
  return data;
}

static int take_address(const struct call *call, size_t index, const char *name, uint32_t *address)
{
  char text[INET_ADDRSTRLEN];

  if (!take_text(call, index, name, text, sizeof text)) return 0;
  if (text[0] == '\0') {
    *address = 0;
    return 1;
  }
  if (inet_pton(AF_INET, text, address) == 1) return 1;
  napi_throw_range_error(call->env, NULL, name);
  return 0;
}

/* open(to, port, local, interface, ttl, loop, sendBufferBytes): a socket. Addresses in dotted form, '' for any. */
static napi_value js_open(napi_env env, napi_callback_info info)
{
  struct udp_options options = {0};
  uint64_t port, ttl, buffer;
  struct failure failure;
  struct udp *udp;
  napi_value value;
  struct call call;

  if (!take_call(&call, env, info, 7) || !take_address(&call, 0, "to", &options.to) || !take_u64(&call, 1, "port", 1, 65535, &port) ||
      !take_address(&call, 2, "local", &options.local) || !take_address(&call, 3, "interface", &options.interface) ||
      !take_u64(&call, 4, "ttl", 0, 255, &ttl) || !take_flag(&call, 5, "loop", &options.loop) ||
      !take_u64(&call, 6, "sendBufferBytes", 0, 1 << 30, &buffer))
    return NULL;
  if (options.to == 0) {
    napi_throw_range_error(env, NULL, "to: an address is wanted");
    return NULL;
  }
  options.port = (uint16_t)port;
  options.ttl = (int)ttl;
  options.send_buffer = (int)buffer;
  udp = malloc(sizeof *udp);
  if (!udp) return NULL;
  if (udp_open(udp, &options, &failure)) {
    free(udp);
    return throw_failure(env, &failure);
  }
  value = object_value(env);
  if (napi_wrap(env, value, udp, forget, NULL, NULL) != napi_ok) {
    forget(env, udp, NULL);
    return NULL;
  }
  napi_type_tag_object(env, value, &tag);
  return value;
}

/* close(socket). A second time is no error to C, and one to JavaScript. */
static napi_value js_close(napi_env env, napi_callback_info info)
{
  struct udp *udp;
  struct call call;

  if (take_call(&call, env, info, 1) && (udp = take_socket(&call, 0))) udp_close(udp);
  return NULL;
}

/* send(socket, bytes, segmentBytes): how many bytes were taken. */
static napi_value js_send(napi_env env, napi_callback_info info)
{
  const uint8_t *bytes;
  struct failure failure;
  uint64_t segment;
  struct udp *udp;
  struct call call;
  size_t length;
  int64_t sent;

  if (!take_call(&call, env, info, 3) || !(udp = take_socket(&call, 0)) || !take_bytes(&call, 1, "bytes", 0, 1 << 30, &bytes, &length) ||
      !take_u64(&call, 2, "segmentBytes", 1, UDP_MOST_BYTES, &segment))
    return NULL;
  sent = udp_send(udp, bytes, length, (uint16_t)segment, &failure);
  return sent < 0 ? throw_failure(env, &failure) : number_value(env, (double)sent);
}

/* cuts(socket): whether the kernel cuts, and not this addon. */
static napi_value js_cuts(napi_env env, napi_callback_info info)
{
  napi_value value = NULL;
  struct udp *udp;
  struct call call;

  if (take_call(&call, env, info, 1) && (udp = take_socket(&call, 0))) napi_get_boolean(env, udp->segments, &value);
  return value;
}

struct wait {
  napi_async_work work;
  napi_deferred deferred;
  struct failure failure;
  int fd; /* a copy: the socket may be closed meanwhile */
  int timeout_ms;
  int ready;
};

static void wait_execute(napi_env env, void *data)
{
  struct wait *wait = data;

  (void)env;
  wait->ready = udp_wait(wait->fd, wait->timeout_ms, &wait->failure);
}

static void wait_complete(napi_env env, napi_status status, void *data)
{
  struct wait *wait = data;
  napi_value value;

  if (status == napi_ok && wait->ready >= 0) {
    napi_get_boolean(env, wait->ready > 0, &value);
    napi_resolve_deferred(env, wait->deferred, value);
  } else {
    if (status != napi_ok) wait->failure = (struct failure){.call = "poll", .error = ECANCELED};
    napi_reject_deferred(env, wait->deferred, failure_value(env, &wait->failure));
  }
  napi_delete_async_work(env, wait->work);
  close(wait->fd);
  free(wait);
}

/* writable(socket, timeoutMs): a promise of true, or of false when there was no room in time. */
static napi_value js_writable(napi_env env, napi_callback_info info)
{
  napi_value promise, name;
  uint64_t timeout_ms;
  struct wait *wait;
  struct udp *udp;
  struct call call;

  if (!take_call(&call, env, info, 2) || !(udp = take_socket(&call, 0)) || !take_u64(&call, 1, "timeoutMs", 0, 60000, &timeout_ms)) return NULL;
  wait = calloc(1, sizeof *wait);
  if (!wait) return NULL;
  wait->timeout_ms = (int)timeout_ms;
  wait->fd = fcntl(udp->fd, F_DUPFD_CLOEXEC, 3);
  if (wait->fd < 0) {
    struct failure failure = {.call = "fcntl", .error = errno};

    free(wait);
    return throw_failure(env, &failure);
  }
  name = text_value(env, "udp");
  if (napi_create_promise(env, &wait->deferred, &promise) != napi_ok ||
      napi_create_async_work(env, NULL, name, wait_execute, wait_complete, wait, &wait->work) != napi_ok ||
      napi_queue_async_work(env, wait->work) != napi_ok) {
    close(wait->fd);
    free(wait);
    return NULL;
  }
  return promise;
}

NAPI_MODULE_INIT()
{
  static const struct {
    const char *name;
    napi_callback function;
  } functions[] = {{"open", js_open}, {"close", js_close}, {"send", js_send}, {"cuts", js_cuts}, {"writable", js_writable}};

  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    napi_value value;

    if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].function, NULL, &value) == napi_ok)
      set_property(env, exports, functions[i].name, value);
  }
  return exports;
}
