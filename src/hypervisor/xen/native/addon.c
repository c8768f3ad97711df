/*
 * The addon: thin Node-API functions over control.h, builder.h, console.h and bridge.h, without policy. Here what belongs to the process:
 * opening, closing, facts about the machine. addon_domain.c has the domains, addon_network.c the links.
 *
 * Bound to one JavaScript thread (the addon keeps its state per environment).
 */
#include "addon.h"

#include <stdlib.h>
#include <string.h>

#include "values.h"

struct addon *any_addon(napi_env env)
{
  void *data = NULL;

  napi_get_instance_data(env, &data);
  return data;
}

struct addon *opened_addon(napi_env env)
{
  struct addon *addon = any_addon(env);

  if (addon && addon->control) return addon;
  napi_throw_error(env, NULL, "open() was not called");
  return NULL;
}

void define_function(napi_env env, napi_value exports, const char *name, napi_callback function)
{
  napi_value value;

  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, function, NULL, &value) == napi_ok) set_property(env, exports, name, value);
}

static void close_handles(struct addon *addon)
{
  forget_templates(addon);
  consoles_close(addon->consoles);
  builder_close(addon->builder);
  control_close(addon->control);
  free(addon->snapshot);
  addon->consoles = NULL;
  addon->builder = NULL;
  addon->control = NULL;
  addon->snapshot = NULL;
  addon->snapshot_count = 0;
}

/* open(): connects to the hypervisor. Fails outside dom0. */
static napi_value js_open(napi_env env, napi_callback_info info)
{
  struct addon *addon = any_addon(env);
  const uint8_t *cpus;
  struct failure failure;
  struct call call;
  size_t length;

  if (!take_call(&call, env, info, 1) || !take_bytes(&call, 0, "guestCpus", 0, 512, &cpus, &length)) return NULL;
  if (addon->control) return NULL;
  addon->control = control_open(cpus, length, &failure);
  if (!addon->control) return throw_failure(env, &failure);
  addon->builder = builder_open(addon->control, &failure);
  if (addon->builder) addon->consoles = consoles_open(&failure);
  if (addon->consoles) return NULL;
  close_handles(addon);
  return throw_failure(env, &failure);
}

/* close(): also ends the watch on links. Not while a build or destroy is under way on another thread. */
static napi_value js_close(napi_env env, napi_callback_info info)
{
  struct addon *addon = any_addon(env);

  (void)info;
  if (addon->jobs > 0) {
    napi_throw_error(env, NULL, "close() while a domain is being built or destroyed");
    return NULL;
  }
  stop_link_watch(addon);
  close_handles(addon);
  return NULL;
}

/* machine(): {major, minor, extra, totalKib, freeKib, cpus}. */
static napi_value js_machine(napi_env env, napi_callback_info info)
{
  struct addon *addon = opened_addon(env);
  struct machine_facts facts;
  struct failure failure;
  napi_value result;

  (void)info;
  if (!addon) return NULL;
  if (control_machine(addon->control, &facts, &failure)) return throw_failure(env, &failure);
  result = object_value(env);
  set_property(env, result, "major", number_value(env, facts.major));
  set_property(env, result, "minor", number_value(env, facts.minor));
  set_property(env, result, "extra", text_value(env, facts.extra));
  set_property(env, result, "totalKib", number_value(env, (double)facts.total_kib));
  set_property(env, result, "freeKib", number_value(env, (double)facts.free_kib));
  set_property(env, result, "cpus", number_value(env, facts.cpus));
  return result;
}

static void forget(napi_env env, void *data, void *hint)
{
  struct addon *addon = data;

  (void)env, (void)hint;
  if (addon->jobs == 0) {
    stop_link_watch(addon);
    close_handles(addon);
  }
  free(addon);
}

NAPI_MODULE_INIT()
{
  struct addon *addon = calloc(1, sizeof *addon);

  if (!addon) return NULL;
  addon->netlink = -1;
  napi_set_instance_data(env, addon, forget, NULL);
  define_function(env, exports, "open", js_open);
  define_function(env, exports, "close", js_close);
  define_function(env, exports, "machine", js_machine);
  define_domain_functions(env, exports);
  define_guest_functions(env, exports);
  define_memory_functions(env, exports);
  define_network_functions(env, exports);
  define_disk_functions(env, exports);
  return exports;
}
