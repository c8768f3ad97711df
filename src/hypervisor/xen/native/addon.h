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

struct known_template;

struct addon {
  struct control *control; /* NULL while closed */
  struct builder *builder;
  struct consoles *consoles;
  struct known_template *templates;
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
void define_guest_functions(napi_env env, napi_value exports);
void define_memory_functions(napi_env env, napi_value exports);
void define_network_functions(napi_env env, napi_value exports);
void define_disk_functions(napi_env env, napi_value exports);

struct call;
enum { LARGEST_DOMID = 0x7fef };
/* 1 when good; 0 with an exception pending. */
int take_domid(const struct call *call, size_t index, uint16_t *domid);
napi_value built_value(napi_env env, const struct build_result *built, unsigned vif_count);
/* NULL with an exception pending. Valid until close(). */
const struct template *known_template(napi_env env, struct addon *addon, uint16_t domid);
void forget_templates(struct addon *addon);
void stop_link_watch(struct addon *addon);

#endif
