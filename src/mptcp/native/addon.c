/*
 * The addon: thin Node-API functions over sockets.h, without policy. A netlink socket is an external value that is closed by close(), or with its value;
 * news wake JavaScript through the event loop's own poll. Stream sockets are plain descriptors: Node's net takes them over.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "sockets.h"
#include "values.h"

struct netlink {
  napi_env env;
  int fd;
  uv_poll_t *poll;
  napi_ref listener;
  napi_async_context context;
};

/* Marks our externals: any other one given as a socket is a TypeError, not a crash. */
static const napi_type_tag tag = {0x2f8a6d4c1b0e4d93ULL, 0xb7c41f5e92ad0836ULL};

static void poll_closed(uv_handle_t *handle) { free(handle); }

static void stop(struct netlink *netlink)
{
  if (netlink->poll) {
    uv_poll_stop(netlink->poll);
    uv_close((uv_handle_t *)netlink->poll, poll_closed);
    netlink->poll = NULL;
  }
  if (netlink->listener) napi_delete_reference(netlink->env, netlink->listener);
  if (netlink->context) napi_async_destroy(netlink->env, netlink->context);
  netlink->listener = NULL;
  netlink->context = NULL;
  if (netlink->fd >= 0) close(netlink->fd);
  netlink->fd = -1;
}

static void at_exit(void *data) { stop(data); }

static void forget(napi_env env, void *data, void *hint)
{
  struct netlink *netlink = data;

  (void)hint;
  napi_remove_env_cleanup_hook(env, at_exit, netlink);
  stop(netlink);
  free(netlink);
}

static struct netlink *take_netlink(const struct call *call, size_t index)
{
  bool ours = false, pending = false;
  void *data = NULL;

  if (napi_check_object_type_tag(call->env, call->values[index], &tag, &ours) != napi_ok || !ours ||
      napi_unwrap(call->env, call->values[index], &data) != napi_ok || !data) {
    napi_is_exception_pending(call->env, &pending);
    if (!pending) napi_throw_type_error(call->env, NULL, "socket: one of open() is wanted");
    return NULL;
  }
  if (((struct netlink *)data)->fd < 0) {
    napi_throw_error(call->env, NULL, "socket: it is closed");
    return NULL;
  }
  return data;
}

/* open(protocol): a netlink socket. */
static napi_value js_open(napi_env env, napi_callback_info info)
{
  struct netlink *netlink;
  struct failure failure;
  struct call call;
  uint64_t protocol;
  napi_value value;

  if (!take_call(&call, env, info, 1) || !take_u64(&call, 0, "protocol", 0, 31, &protocol)) return NULL;
  netlink = calloc(1, sizeof *netlink);
  if (!netlink) return NULL;
  netlink->env = env;
  netlink->fd = netlink_socket((int)protocol, &failure);
  if (netlink->fd < 0) {
    free(netlink);
    return throw_failure(env, &failure);
  }
  napi_add_env_cleanup_hook(env, at_exit, netlink);
  value = object_value(env);
  if (napi_wrap(env, value, netlink, forget, NULL, NULL) != napi_ok) {
    forget(env, netlink, NULL);
    return NULL;
  }
  napi_type_tag_object(env, value, &tag);
  return value;
}

/* close(socket) */
static napi_value js_close(napi_env env, napi_callback_info info)
{
  struct netlink *netlink;
  struct call call;

  if (take_call(&call, env, info, 1) && (netlink = take_netlink(&call, 0))) stop(netlink);
  return NULL;
}

/* request(socket, bytes, timeoutMs): all messages of the answer. Blocks: the kernel answers at once. */
static napi_value js_request(napi_env env, napi_callback_info info)
{
  struct netlink *netlink;
  const uint8_t *bytes;
  struct failure failure;
  size_t length, answer_length;
  uint64_t timeout_ms;
  uint8_t *answer;
  napi_value value;
  struct call call;

  if (!take_call(&call, env, info, 3) || !(netlink = take_netlink(&call, 0)) || !take_bytes(&call, 1, "bytes", 16, 8192, &bytes, &length) ||
      !take_u64(&call, 2, "timeoutMs", 0, 60000, &timeout_ms))
    return NULL;
  if (netlink_request(netlink->fd, bytes, length, (int)timeout_ms, &answer, &answer_length, &failure)) return throw_failure(env, &failure);
  value = bytes_value(env, answer, answer_length);
  free(answer);
  return value;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
  struct netlink *netlink = poll->data;
  napi_handle_scope scope;
  napi_value listener, global;

  (void)status, (void)events;
  if (!netlink->listener || napi_open_handle_scope(netlink->env, &scope) != napi_ok) return;
  if (napi_get_reference_value(netlink->env, netlink->listener, &listener) == napi_ok && listener && napi_get_global(netlink->env, &global) == napi_ok &&
      napi_make_callback(netlink->env, netlink->context, global, listener, 0, NULL, NULL) == napi_pending_exception) {
    napi_value thrown;

    if (napi_get_and_clear_last_exception(netlink->env, &thrown) == napi_ok) napi_fatal_exception(netlink->env, thrown);
  }
  napi_close_handle_scope(netlink->env, scope);
}

/* watch(socket, group, listener): listener() is called when there are news to read. Once a socket. */
static napi_value js_watch(napi_env env, napi_callback_info info)
{
  struct netlink *netlink;
  napi_valuetype type;
  struct failure failure;
  struct call call;
  uv_loop_t *loop;
  uint64_t group;

  if (!take_call(&call, env, info, 3) || !(netlink = take_netlink(&call, 0)) || !take_u64(&call, 1, "group", 1, UINT32_MAX, &group)) return NULL;
  if (napi_typeof(env, call.values[2], &type) != napi_ok || type != napi_function) {
    napi_throw_type_error(env, NULL, "listener: a function is wanted");
    return NULL;
  }
  if (netlink->poll) {
    napi_throw_error(env, NULL, "socket: it is watched already");
    return NULL;
  }
  if (netlink_join(netlink->fd, (uint32_t)group, &failure)) return throw_failure(env, &failure);
  if (napi_get_uv_event_loop(env, &loop) != napi_ok || !(netlink->poll = malloc(sizeof *netlink->poll))) return NULL;
  if (uv_poll_init(loop, netlink->poll, netlink->fd)) {
    free(netlink->poll);
    netlink->poll = NULL;
    napi_throw_error(env, NULL, "socket: the event loop refuses it");
    return NULL;
  }
  netlink->poll->data = netlink;
  napi_create_reference(env, call.values[2], 1, &netlink->listener);
  napi_async_init(env, NULL, text_value(env, "mptcp"), &netlink->context);
  uv_poll_start(netlink->poll, UV_READABLE, on_readable);
  return NULL;
}

/* news(socket): one datagram, or undefined when there is none. */
static napi_value js_news(napi_env env, napi_callback_info info)
{
  static uint8_t buffer[64 * 1024];
  struct netlink *netlink;
  struct failure failure;
  struct call call;
  ssize_t got;

  if (!take_call(&call, env, info, 1) || !(netlink = take_netlink(&call, 0))) return NULL;
  got = netlink_news(netlink->fd, buffer, sizeof buffer, &failure);
  if (got < 0) return throw_failure(env, &failure);
  return got == 0 ? NULL : bytes_value(env, buffer, (size_t)got);
}

/* known(): whether the kernel has MPTCP. */
static napi_value js_known(napi_env env, napi_callback_info info)
{
  napi_value value = NULL;

  (void)info;
  napi_get_boolean(env, mptcp_known() != 0, &value);
  return value;
}

enum { ADDRESS_ROOM = 64 };

/* listen(address, port, backlog, mptcp): a descriptor, for net.Server.listen({fd}). */
static napi_value js_listen(napi_env env, napi_callback_info info)
{
  char address[ADDRESS_ROOM];
  uint64_t port, backlog;
  struct failure failure;
  struct call call;
  int mptcp, fd;

  if (!take_call(&call, env, info, 4) || !take_text(&call, 0, "address", address, sizeof address) || !take_u64(&call, 1, "port", 0, 65535, &port) ||
      !take_u64(&call, 2, "backlog", 1, 65535, &backlog) || !take_flag(&call, 3, "mptcp", &mptcp))
    return NULL;
  fd = stream_listen(address, (uint16_t)port, (int)backlog, mptcp, &failure);
  return fd < 0 ? throw_failure(env, &failure) : number_value(env, fd);
}

struct dial {
  napi_async_work work;
  napi_deferred deferred;
  struct failure failure;
  char address[ADDRESS_ROOM], local[ADDRESS_ROOM];
  uint16_t port;
  int mptcp, timeout_ms, fd;
};

static void dial_execute(napi_env env, void *data)
{
  struct dial *dial = data;

  (void)env;
  dial->fd = stream_connect(dial->address, dial->port, dial->local, dial->mptcp, dial->timeout_ms, &dial->failure);
}

static void dial_complete(napi_env env, napi_status status, void *data)
{
  struct dial *dial = data;

  if (status == napi_ok && dial->fd >= 0) {
    napi_resolve_deferred(env, dial->deferred, number_value(env, dial->fd));
  } else {
    if (status != napi_ok) dial->failure = (struct failure){.call = "connect", .error = ECANCELED};
    napi_reject_deferred(env, dial->deferred, failure_value(env, &dial->failure));
  }
  napi_delete_async_work(env, dial->work);
  free(dial);
}

/* connect(address, port, local, mptcp, timeoutMs): a promise of a descriptor. Takes a thread of libuv's pool meanwhile. */
static napi_value js_connect(napi_env env, napi_callback_info info)
{
  uint64_t port, timeout_ms;
  napi_value promise;
  struct dial *dial;
  struct call call;

  dial = calloc(1, sizeof *dial);
  if (!dial) return NULL;
  if (!take_call(&call, env, info, 5) || !take_text(&call, 0, "address", dial->address, sizeof dial->address) ||
      !take_u64(&call, 1, "port", 1, 65535, &port) || !take_text(&call, 2, "local", dial->local, sizeof dial->local) ||
      !take_flag(&call, 3, "mptcp", &dial->mptcp) || !take_u64(&call, 4, "timeoutMs", 0, 120000, &timeout_ms)) {
    free(dial);
    return NULL;
  }
  dial->port = (uint16_t)port;
  dial->timeout_ms = (int)timeout_ms;
  if (napi_create_promise(env, &dial->deferred, &promise) != napi_ok ||
      napi_create_async_work(env, NULL, text_value(env, "mptcp"), dial_execute, dial_complete, dial, &dial->work) != napi_ok ||
      napi_queue_async_work(env, dial->work) != napi_ok) {
    free(dial);
    return NULL;
  }
  return promise;
}

/* info(fd): the kernel's struct mptcp_info, or undefined of a connection that is plain TCP. */
static napi_value js_info(napi_env env, napi_callback_info info)
{
  uint8_t buffer[256];
  struct failure failure;
  struct call call;
  uint64_t fd;
  ssize_t got;

  if (!take_call(&call, env, info, 1) || !take_u64(&call, 0, "fd", 0, INT32_MAX, &fd)) return NULL;
  got = mptcp_describe((int)fd, buffer, sizeof buffer, &failure);
  if (got >= 0) return bytes_value(env, buffer, (size_t)got);
  return failure.error == EOPNOTSUPP || failure.error == ENOPROTOOPT ? NULL : throw_failure(env, &failure);
}

NAPI_MODULE_INIT()
{
  static const struct {
    const char *name;
    napi_callback function;
  } functions[] = {{"open", js_open},   {"close", js_close},   {"request", js_request}, {"watch", js_watch}, {"news", js_news},
                   {"known", js_known}, {"listen", js_listen}, {"connect", js_connect}, {"info", js_info}};

  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    napi_value value;

    if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].function, NULL, &value) == napi_ok)
      set_property(env, exports, functions[i].name, value);
  }
  return exports;
}
