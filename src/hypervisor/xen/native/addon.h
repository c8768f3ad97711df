/*
 * What the parts of the addon share: the one set of handles of the process, opened by open() and closed by close().
 */
#ifndef SHOAL_ADDON_H
#define SHOAL_ADDON_H

#include <node_api.h>

#include "builder.h"
#include "console.h"
#include "control.h"

struct snapshot_entry {
  uint16_t domid;
  uint8_t flags;
  uint8_t handle[16];
};

struct addon {
  struct control *control; /* NULL while closed */
  struct builder *builder;
  struct consoles *consoles;
  struct snapshot_entry *snapshot; /* domains as changedDomains saw them last, by domid */
  size_t snapshot_count;
  int netlink; /* socket for requests; -1 while closed */
  struct link_watch *watch;
  unsigned jobs; /* under way on other threads; handles stay open until they are done */
};

/* NULL with an exception pending when open() was not called. */
struct addon *opened_addon(napi_env env);
struct addon *any_addon(napi_env env);

void define_function(napi_env env, napi_value exports, const char *name, napi_callback function);
void define_domain_functions(napi_env env, napi_value exports);
void define_network_functions(napi_env env, napi_value exports);
void stop_link_watch(struct addon *addon);

#endif
