/*
 * Links for JavaScript: lists, the news about vifs, and the batches of bridge.h. None of it needs Xen, only the right to change networks.
 */
#include "addon.h"

#include <linux/netlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "bridge.h"
#include "values.h"

#define LARGEST_INDEX 0x7fffffffu

struct link_watch {
  uv_poll_t poll;
  napi_env env;
  napi_ref listener;
  napi_async_context context;
  int socket;
  /* While one wake-up is handled: */
  napi_value batch;
  uint32_t count;
};

static int request_socket(struct addon *addon, struct failure *failure)
{
  if (addon->netlink < 0) addon->netlink = netlink_open(failure);
  return addon->netlink;
}

static int take_index(const struct call *call, size_t position, const char *name, uint64_t least, int32_t *index)
{
  uint64_t value;

  if (!take_u64(call, position, name, least, LARGEST_INDEX, &value)) return 0;
  *index = (int32_t)value;
  return 1;
}

static napi_value mac_value(napi_env env, const uint8_t mac[6])
{
  char text[18];

  snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
  return text_value(env, text);
}

static napi_value link_value(napi_env env, const struct link *link)
{
  napi_value result = object_value(env);

  set_property(env, result, "index", number_value(env, link->index));
  set_property(env, result, "name", text_value(env, link->name));
  set_property(env, result, "master", number_value(env, link->master));
  set_property(env, result, "kind", text_value(env, link->kind));
  set_property(env, result, "gone", number_value(env, link->gone));
  return result;
}

struct list {
  napi_env env;
  napi_value array;
  uint32_t count;
};

static int add_link(void *context, const struct link *link)
{
  struct list *list = context;

  napi_set_element(list->env, list->array, list->count++, link_value(list->env, link));
  return 0;
}

/* links(): {index, name, master, kind, gone}[]. */
static napi_value js_links(napi_env env, napi_callback_info info)
{
  struct list list = { .env = env };
  struct failure failure;

  (void)info;
  napi_create_array(env, &list.array);
  if (request_socket(any_addon(env), &failure) < 0 || netlink_links(any_addon(env)->netlink, add_link, &list, &failure))
    return throw_failure(env, &failure);
  return list.array;
}

static int add_neighbour(void *context, const struct neighbour *entry)
{
  struct list *list = context;
  napi_value result;
  char text[16];

  if (!entry->permanent) return 0;
  result = object_value(list->env);
  snprintf(text, sizeof text, "%u.%u.%u.%u", entry->ipv4[0], entry->ipv4[1], entry->ipv4[2], entry->ipv4[3]);
  set_property(list->env, result, "index", number_value(list->env, entry->index));
  set_property(list->env, result, "ipv4", text_value(list->env, text));
  set_property(list->env, result, "mac", mac_value(list->env, entry->mac));
  napi_set_element(list->env, list->array, list->count++, result);
  return 0;
}

/* neighbours(): {index, ipv4, mac}[], the permanent IPv4 ones. */
static napi_value js_neighbours(napi_env env, napi_callback_info info)
{
  struct list list = { .env = env };
  struct failure failure;

  (void)info;
  napi_create_array(env, &list.array);
  if (request_socket(any_addon(env), &failure) < 0 || netlink_neighbours(any_addon(env)->netlink, add_neighbour, &list, &failure))
    return throw_failure(env, &failure);
  return list.array;
}

static napi_value send_batch(napi_env env, struct batch *batch)
{
  struct failure failure;

  if (request_socket(any_addon(env), &failure) < 0 || netlink_send(any_addon(env)->netlink, batch, &failure)) throw_failure(env, &failure);
  return NULL;
}

/* (vif, bridge, root, wayToShard, mac: 6 bytes, addresses: 4 bytes each, multicast): for attachVif and detachVif. */
static int take_port(struct call *call, napi_env env, napi_callback_info info, struct port *port)
{
  const uint8_t *mac, *addresses;
  size_t length;

  memset(port, 0, sizeof *port);
  if (!take_call(call, env, info, 7) || !take_index(call, 0, "vif", 0, &port->vif) || !take_index(call, 1, "bridge", 0, &port->bridge) ||
      !take_index(call, 2, "root", 1, &port->root) || !take_index(call, 3, "wayToShard", 0, &port->way_to_shard) ||
      !take_bytes(call, 4, "mac", 6, 6, &mac, &length))
    return 0;
  memcpy(port->mac, mac, 6);
  if (!take_bytes(call, 5, "addresses", 0, sizeof port->addresses, &addresses, &length)) return 0;
  memcpy(port->addresses, addresses, length);
  port->address_count = (unsigned)(length / 4);
  return take_flag(call, 6, "multicast", &port->multicast);
}

static napi_value js_attach_vif(napi_env env, napi_callback_info info)
{
  struct batch batch;
  struct call call;
  struct port port;

  if (!take_port(&call, env, info, &port)) return NULL;
  batch_reset(&batch);
  bridge_attach(&batch, &port);
  return send_batch(env, &batch);
}

static napi_value js_detach_vif(napi_env env, napi_callback_info info)
{
  struct batch batch;
  struct call call;
  struct port port;

  if (!take_port(&call, env, info, &port)) return NULL;
  batch_reset(&batch);
  bridge_detach(&batch, &port);
  return send_batch(env, &batch);
}

/* createBridge(name): index. EEXIST is a failure. */
static napi_value js_create_bridge(napi_env env, napi_callback_info info)
{
  char name[IFNAMSIZ];
  struct batch batch;
  struct call call;

  if (!take_call(&call, env, info, 1) || !take_text(&call, 0, "name", name, sizeof name)) return NULL;
  batch_reset(&batch);
  bridge_create(&batch, name);
  send_batch(env, &batch);
  return number_value(env, if_nametoindex(name));
}

/* createPair(rootSide, shardSide): [index, index]. */
static napi_value js_create_pair(napi_env env, napi_callback_info info)
{
  char root_side[IFNAMSIZ], shard_side[IFNAMSIZ];
  struct batch batch;
  struct call call;
  napi_value result;

  if (!take_call(&call, env, info, 2) || !take_text(&call, 0, "rootSide", root_side, sizeof root_side) ||
      !take_text(&call, 1, "shardSide", shard_side, sizeof shard_side))
    return NULL;
  batch_reset(&batch);
  bridge_create_pair(&batch, root_side, shard_side);
  send_batch(env, &batch);
  napi_create_array_with_length(env, 2, &result);
  napi_set_element(env, result, 0, number_value(env, if_nametoindex(root_side)));
  napi_set_element(env, result, 1, number_value(env, if_nametoindex(shard_side)));
  return result;
}

/* joinShard(root, rootSide, shard, shardSide): link indices. */
static napi_value js_join_shard(napi_env env, napi_callback_info info)
{
  int32_t root, root_side, shard, shard_side;
  struct batch batch;
  struct call call;

  if (!take_call(&call, env, info, 4) || !take_index(&call, 0, "root", 1, &root) || !take_index(&call, 1, "rootSide", 1, &root_side) ||
      !take_index(&call, 2, "shard", 1, &shard) || !take_index(&call, 3, "shardSide", 1, &shard_side))
    return NULL;
  batch_reset(&batch);
  bridge_join(&batch, root, root_side, shard, shard_side);
  return send_batch(env, &batch);
}

/* deleteLink(index). One that is gone is no failure. */
static napi_value js_delete_link(napi_env env, napi_callback_info info)
{
  struct batch batch;
  struct call call;
  int32_t index;

  if (!take_call(&call, env, info, 1) || !take_index(&call, 0, "index", 1, &index)) return NULL;
  batch_reset(&batch);
  bridge_delete(&batch, index);
  return send_batch(env, &batch);
}

/* Only vifs are of interest: the rest of the host's links make no work in JavaScript. */
static int on_link(void *context, const struct link *link)
{
  struct link_watch *watch = context;

  if (strncmp(link->name, "vif", 3) == 0) napi_set_element(watch->env, watch->batch, watch->count++, link_value(watch->env, link));
  return 0;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
  struct link_watch *watch = poll->data;
  napi_value receiver, listener, argument, result, exception;
  napi_handle_scope scope;
  struct failure failure;

  (void)status, (void)events;
  if (napi_open_handle_scope(watch->env, &scope) != napi_ok) return;
  watch->count = 0;
  napi_create_array(watch->env, &watch->batch);
  argument = watch->batch;
  /* News were lost: undefined tells the listener to list all links. */
  if (netlink_read_links(watch->socket, on_link, watch, &failure)) napi_get_undefined(watch->env, &argument);
  if (argument != watch->batch || watch->count > 0) {
    napi_get_global(watch->env, &receiver);
    napi_get_reference_value(watch->env, watch->listener, &listener);
    if (napi_make_callback(watch->env, watch->context, receiver, listener, 1, &argument, &result) == napi_pending_exception &&
        napi_get_and_clear_last_exception(watch->env, &exception) == napi_ok)
      napi_fatal_exception(watch->env, exception);
  }
  napi_close_handle_scope(watch->env, scope);
}

static void free_watch(uv_handle_t *handle) { free(handle->data); }

void stop_link_watch(struct addon *addon)
{
  struct link_watch *watch = addon->watch;

  if (addon->netlink >= 0) close(addon->netlink);
  addon->netlink = -1;
  addon->watch = NULL;
  if (!watch) return;
  uv_poll_stop(&watch->poll);
  close(watch->socket);
  napi_async_destroy(watch->env, watch->context);
  napi_delete_reference(watch->env, watch->listener);
  uv_close((uv_handle_t *)&watch->poll, free_watch);
}

/*
 * watchLinks(listener): from now on listener(links) for news about links named vif…, listener(undefined) when some were lost. One watch at a
 * time; close() ends it. Does not keep the process alive.
 */
static napi_value js_watch_links(napi_env env, napi_callback_info info)
{
  struct addon *addon = any_addon(env);
  struct link_watch *watch;
  napi_valuetype type;
  struct failure failure;
  struct call call;
  uv_loop_t *loop;

  if (!take_call(&call, env, info, 1)) return NULL;
  if (napi_typeof(env, call.values[0], &type) != napi_ok || type != napi_function) {
    napi_throw_type_error(env, NULL, "listener: a function is wanted");
    return NULL;
  }
  if (addon->watch) {
    napi_throw_error(env, NULL, "links are being watched already");
    return NULL;
  }
  watch = calloc(1, sizeof *watch);
  if (!watch) {
    failed(&failure, "calloc");
    return throw_failure(env, &failure);
  }
  watch->env = env;
  watch->socket = netlink_watch_links(&failure);
  if (watch->socket < 0) {
    free(watch);
    return throw_failure(env, &failure);
  }
  if (napi_get_uv_event_loop(env, &loop) != napi_ok || uv_poll_init(loop, &watch->poll, watch->socket)) {
    close(watch->socket);
    free(watch);
    failed_with(&failure, "uv_poll_init", EINVAL);
    return throw_failure(env, &failure);
  }
  watch->poll.data = watch;
  napi_async_init(env, NULL, text_value(env, "shoal-links"), &watch->context);
  napi_create_reference(env, call.values[0], 1, &watch->listener);
  uv_poll_start(&watch->poll, UV_READABLE, on_readable);
  uv_unref((uv_handle_t *)&watch->poll);
  addon->watch = watch;
  return NULL;
}

void define_network_functions(napi_env env, napi_value exports)
{
  define_function(env, exports, "links", js_links);
  define_function(env, exports, "neighbours", js_neighbours);
  define_function(env, exports, "attachVif", js_attach_vif);
  define_function(env, exports, "detachVif", js_detach_vif);
  define_function(env, exports, "createBridge", js_create_bridge);
  define_function(env, exports, "createPair", js_create_pair);
  define_function(env, exports, "joinShard", js_join_shard);
  define_function(env, exports, "deleteLink", js_delete_link);
  define_function(env, exports, "watchLinks", js_watch_links);
}
