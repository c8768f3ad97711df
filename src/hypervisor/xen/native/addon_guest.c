/*
 * What JavaScript does with a domain that is built: gives it its name, reads and types into its console, sends it orders. And the templates
 * that guests share pages with: the addon keeps their lists of frames, JavaScript their domids.
 */
#include "addon.h"

#include <stdlib.h>
#include <string.h>

#include "template.h"
#include "wiring.h"
#include "values.h"

struct known_template {
  struct template template;
  struct known_template *next;
};

const struct template *known_template(napi_env env, struct addon *addon, uint16_t domid)
{
  for (struct known_template *known = addon->templates; known; known = known->next)
    if (known->template.domid == domid) return &known->template;
  napi_throw_range_error(env, NULL, "template: not known");
  return NULL;
}

void forget_templates(struct addon *addon)
{
  while (addon->templates) {
    struct known_template *known = addon->templates;

    addon->templates = known->next;
    free(known);
  }
}

static int remember(napi_env env, struct addon *addon, const struct template *template)
{
  struct known_template *known = malloc(sizeof *known);

  if (!known) {
    napi_throw_error(env, NULL, "out of memory");
    return 0;
  }
  known->template = *template;
  known->next = addon->templates;
  addon->templates = known;
  return 1;
}

/* makeTemplate(handle: 16 bytes, digest: 32 bytes, pages: whole pages of the image): domid. */
static napi_value js_make_template(napi_env env, napi_callback_info info)
{
  const uint8_t *handle, *digest, *pages;
  struct template template;
  struct failure failure;
  struct addon *addon;
  struct call call;
  size_t length;

  if (!take_call(&call, env, info, 3) || !take_bytes(&call, 0, "handle", 16, 16, &handle, &length) ||
      !take_bytes(&call, 1, "digest", TEMPLATE_DIGEST_BYTES, TEMPLATE_DIGEST_BYTES, &digest, &length) ||
      !take_bytes(&call, 2, "pages", 4096, TEMPLATE_PAGES_MAX * 4096, &pages, &length) || !(addon = opened_addon(env)))
    return NULL;
  if (template_make(addon->builder, handle, digest, pages, length / 4096, &template, &failure)) return throw_failure(env, &failure);
  return remember(env, addon, &template) ? number_value(env, template.domid) : NULL;
}

/* findTemplate(domid, digest: 32 bytes): its number of pages, 0 when the domain is no template of that digest. */
static napi_value js_find_template(napi_env env, napi_callback_info info)
{
  struct template template;
  struct failure failure;
  const uint8_t *digest;
  struct addon *addon;
  struct call call;
  uint16_t domid;
  size_t length;
  int status;

  if (!take_call(&call, env, info, 2) || !take_domid(&call, 0, &domid) ||
      !take_bytes(&call, 1, "digest", TEMPLATE_DIGEST_BYTES, TEMPLATE_DIGEST_BYTES, &digest, &length) || !(addon = opened_addon(env)))
    return NULL;
  status = template_find(addon->builder, domid, digest, &template, &failure);
  if (status < 0) return throw_failure(env, &failure);
  if (status > 0) return number_value(env, 0);
  return remember(env, addon, &template) ? number_value(env, (double)template.pages) : NULL;
}

/* name(domid, handle: 16 bytes, startInfoMfn, commandLine, macs: 6 bytes a wired vif). */
static napi_value js_name(napi_env env, napi_callback_info info)
{
  char command_line[COMMAND_LINE_BYTES];
  const uint8_t *handle, *macs;
  struct failure failure;
  struct naming naming;
  struct addon *addon;
  struct call call;
  uint16_t domid;
  uint64_t mfn;
  size_t length;

  if (!take_call(&call, env, info, 5) || !take_domid(&call, 0, &domid) || !take_bytes(&call, 1, "handle", 16, 16, &handle, &length) ||
      !take_u64(&call, 2, "startInfoMfn", 1, 1ull << 40, &mfn) || !take_text(&call, 3, "commandLine", command_line, sizeof command_line) ||
      !take_bytes(&call, 4, "macs", 0, 6 * WIRING_VIFS, &macs, &length) || !(addon = opened_addon(env)))
    return NULL;
  naming = (struct naming){ command_line, (const uint8_t (*)[6])(const void *)macs, (unsigned)(length / 6) };
  if (control_set_handle(addon->control, domid, handle, &failure) || builder_name(addon->builder, domid, mfn, &naming, &failure))
    return throw_failure(env, &failure);
  return NULL;
}

/* setHandle(domid, handle: 16 bytes). */
static napi_value js_set_handle(napi_env env, napi_callback_info info)
{
  struct failure failure;
  const uint8_t *handle;
  struct addon *addon;
  struct call call;
  uint16_t domid;
  size_t length;

  if (!take_call(&call, env, info, 2) || !take_domid(&call, 0, &domid) || !take_bytes(&call, 1, "handle", 16, 16, &handle, &length) || !(addon = opened_addon(env)))
    return NULL;
  return control_set_handle(addon->control, domid, handle, &failure) ? throw_failure(env, &failure) : NULL;
}

/* resume(domid): a domain that suspended itself goes on. */
static napi_value js_resume(napi_env env, napi_callback_info info)
{
  struct failure failure;
  struct addon *addon;
  struct call call;
  uint16_t domid;

  if (!take_call(&call, env, info, 1) || !take_domid(&call, 0, &domid) || !(addon = opened_addon(env))) return NULL;
  return control_resume(addon->control, domid, &failure) ? throw_failure(env, &failure) : NULL;
}

/* order(domid, word): of a wired domain; see wiring.h. */
static napi_value js_order(napi_env env, napi_callback_info info)
{
  struct failure failure;
  struct addon *addon;
  struct call call;
  uint16_t domid;
  uint64_t word;

  if (!take_call(&call, env, info, 2) || !take_domid(&call, 0, &domid) || !take_u64(&call, 1, "word", 0, UINT32_MAX, &word) ||
      !(addon = opened_addon(env)))
    return NULL;
  return console_order(addon->consoles, domid, (uint32_t)word, &failure) ? throw_failure(env, &failure) : NULL;
}

/* readdress(domid, addresses of 4 bytes each, whether to order it): the number of the list. */
static napi_value js_readdress(napi_env env, napi_callback_info info)
{
  uint32_t list[WIRING_ADDRESSES], number;
  struct failure failure;
  const uint8_t *bytes;
  struct addon *addon;
  struct call call;
  uint16_t domid;
  size_t length;
  int ring;

  if (!take_call(&call, env, info, 3) || !take_domid(&call, 0, &domid) || !take_bytes(&call, 1, "addresses", 0, sizeof list, &bytes, &length) ||
      !take_flag(&call, 2, "ring", &ring) || !(addon = opened_addon(env)))
    return NULL;
  memcpy(list, bytes, length);
  if (console_readdress(addon->consoles, domid, list, (uint32_t)(length / 4), ring, &number, &failure)) return throw_failure(env, &failure);
  return number_value(env, number);
}

/* readdressed(domid): the number of the list that the guest took last. */
static napi_value js_readdressed(napi_env env, napi_callback_info info)
{
  struct failure failure;
  struct addon *addon;
  struct call call;
  uint16_t domid;
  uint32_t number;

  if (!take_call(&call, env, info, 1) || !take_domid(&call, 0, &domid) || !(addon = opened_addon(env))) return NULL;
  if (console_readdressed(addon->consoles, domid, &number, &failure)) return throw_failure(env, &failure);
  return number_value(env, number);
}

/* readConsole(domid, mfn or 0, cursor): {text, cursor}. */
static napi_value js_read_console(napi_env env, napi_callback_info info)
{
  struct addon *addon;
  uint8_t text[CONSOLE_OUT_BYTES];
  uint64_t mfn, position;
  struct failure failure;
  struct call call;
  napi_value result;
  uint32_t cursor;
  uint16_t domid;
  size_t length;

  if (!take_call(&call, env, info, 3) || !take_domid(&call, 0, &domid) || !take_u64(&call, 1, "mfn", 0, 1ull << 40, &mfn) ||
      !take_u64(&call, 2, "cursor", 0, UINT32_MAX, &position) || !(addon = opened_addon(env)))
    return NULL;
  cursor = (uint32_t)position;
  if (console_read(addon->consoles, domid, mfn, &cursor, text, &length, &failure)) return throw_failure(env, &failure);
  result = object_value(env);
  set_property(env, result, "text", bytes_value(env, text, length));
  set_property(env, result, "cursor", number_value(env, cursor));
  return result;
}

/* writeConsole(domid, mfn or 0, text): bytes taken. */
static napi_value js_write_console(napi_env env, napi_callback_info info)
{
  struct addon *addon;
  struct failure failure;
  const uint8_t *text;
  size_t length, taken;
  struct call call;
  uint16_t domid;
  uint64_t mfn;

  if (!take_call(&call, env, info, 3) || !take_domid(&call, 0, &domid) || !take_u64(&call, 1, "mfn", 0, 1ull << 40, &mfn) ||
      !take_bytes(&call, 2, "text", 0, 1 << 20, &text, &length) || !(addon = opened_addon(env)))
    return NULL;
  if (console_write(addon->consoles, domid, mfn, CONSOLE_PORT, text, length, &taken, &failure)) return throw_failure(env, &failure);
  return number_value(env, (double)taken);
}

void define_guest_functions(napi_env env, napi_value exports)
{
  define_function(env, exports, "makeTemplate", js_make_template);
  define_function(env, exports, "findTemplate", js_find_template);
  define_function(env, exports, "name", js_name);
  define_function(env, exports, "setHandle", js_set_handle);
  define_function(env, exports, "resume", js_resume);
  define_function(env, exports, "order", js_order);
  define_function(env, exports, "readdress", js_readdress);
  define_function(env, exports, "readdressed", js_readdressed);
  define_function(env, exports, "readConsole", js_read_console);
  define_function(env, exports, "writeConsole", js_write_console);
}
