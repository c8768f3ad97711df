/* Loop devices for JavaScript. Needs no Xen. */
#include "addon.h"

#include "loop.h"
#include "values.h"

/* attachLoop(path, readonly): {fd, major, minor}. The descriptor is the caller's to close. */
static napi_value js_attach_loop(napi_env env, napi_callback_info info)
{
  struct loop_device device;
  struct failure failure;
  struct call call;
  char path[4096];
  int readonly;
  napi_value result;

  if (!take_call(&call, env, info, 2) || !take_text(&call, 0, "path", path, sizeof path) || !take_flag(&call, 1, "readonly", &readonly)) return NULL;
  if (loop_attach(path, readonly, &device, &failure)) return throw_failure(env, &failure);
  result = object_value(env);
  set_property(env, result, "fd", number_value(env, device.fd));
  set_property(env, result, "major", number_value(env, device.major));
  set_property(env, result, "minor", number_value(env, device.minor));
  return result;
}

void define_disk_functions(napi_env env, napi_value exports)
{
  define_function(env, exports, "attachLoop", js_attach_loop);
}
