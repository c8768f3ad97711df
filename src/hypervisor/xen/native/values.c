/* See values.h. */
#define _GNU_SOURCE
#include "values.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int throw_argument(napi_env env, int of_range, const char *name, const char *wanted)
{
  char message[160];
  bool pending = false;

  napi_is_exception_pending(env, &pending);
  if (pending) return 0;
  snprintf(message, sizeof message, "%s: %s", name, wanted);
  if (of_range) {
    napi_throw_range_error(env, NULL, message);
  } else {
    napi_throw_type_error(env, NULL, message);
  }
  return 0;
}

int take_call(struct call *call, napi_env env, napi_callback_info info, size_t expected)
{
  call->env = env;
  call->count = MOST_ARGUMENTS;
  if (napi_get_cb_info(env, info, &call->count, call->values, NULL, NULL) != napi_ok || call->count < expected)
    return throw_argument(env, 0, "arguments", "too few");
  return 1;
}

int take_u64(const struct call *call, size_t index, const char *name, uint64_t least, uint64_t most, uint64_t *value)
{
  double number;

  if (napi_get_value_double(call->env, call->values[index], &number) != napi_ok) return throw_argument(call->env, 0, name, "a number is wanted");
  if (!(number >= (double)least && number <= (double)most) || number != floor(number) || number > 9007199254740991.0)
    return throw_argument(call->env, 1, name, "out of range");
  *value = (uint64_t)number;
  return 1;
}

int take_big(const struct call *call, size_t index, const char *name, uint64_t *value)
{
  bool lossless = false;

  if (napi_get_value_bigint_uint64(call->env, call->values[index], value, &lossless) != napi_ok)
    return throw_argument(call->env, 0, name, "a bigint is wanted");
  return lossless ? 1 : throw_argument(call->env, 1, name, "64 bits without sign are wanted");
}

int take_flag(const struct call *call, size_t index, const char *name, int *value)
{
  bool flag;

  if (napi_get_value_bool(call->env, call->values[index], &flag) != napi_ok) return throw_argument(call->env, 0, name, "a boolean is wanted");
  *value = flag;
  return 1;
}

int take_bytes(const struct call *call, size_t index, const char *name, size_t least, size_t most, const uint8_t **bytes, size_t *length)
{
  napi_typedarray_type type;
  bool is_array = false;
  void *data = NULL;

  if (napi_is_typedarray(call->env, call->values[index], &is_array) != napi_ok || !is_array ||
      napi_get_typedarray_info(call->env, call->values[index], &type, length, &data, NULL, NULL) != napi_ok || type != napi_uint8_array)
    return throw_argument(call->env, 0, name, "a Uint8Array is wanted");
  if (*length < least || *length > most || (*length > 0 && !data)) return throw_argument(call->env, 1, name, "wrong length");
  *bytes = data;
  return 1;
}

int take_text(const struct call *call, size_t index, const char *name, char *buffer, size_t room)
{
  size_t length = 0;

  if (napi_get_value_string_utf8(call->env, call->values[index], NULL, 0, &length) != napi_ok)
    return throw_argument(call->env, 0, name, "a string is wanted");
  if (length >= room) return throw_argument(call->env, 1, name, "too long");
  if (napi_get_value_string_utf8(call->env, call->values[index], buffer, room, &length) != napi_ok)
    return throw_argument(call->env, 0, name, "a string is wanted");
  return strlen(buffer) == length ? 1 : throw_argument(call->env, 1, name, "no NUL allowed");
}

int is_undefined(const struct call *call, size_t index)
{
  napi_valuetype type;

  return napi_typeof(call->env, call->values[index], &type) == napi_ok && type == napi_undefined;
}

napi_value failure_value(napi_env env, const struct failure *failure)
{
  const char *symbol = strerrorname_np(failure->error);
  napi_value error, message;
  char text[200];

  snprintf(text, sizeof text, "%s: %s", failure->call, strerror(failure->error));
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
  napi_create_error(env, NULL, message, &error);
  set_property(env, error, "call", text_value(env, failure->call));
  set_property(env, error, "errno", text_value(env, symbol ? symbol : "EUNKNOWN"));
  return error;
}

napi_value throw_failure(napi_env env, const struct failure *failure)
{
  napi_throw(env, failure_value(env, failure));
  return NULL;
}

napi_value number_value(napi_env env, double number)
{
  napi_value value = NULL;

  napi_create_double(env, number, &value);
  return value;
}

napi_value big_value(napi_env env, uint64_t number)
{
  napi_value value = NULL;

  napi_create_bigint_uint64(env, number, &value);
  return value;
}

napi_value bytes_value(napi_env env, const void *bytes, size_t length)
{
  napi_value value = NULL;
  void *copy = NULL;

  napi_create_buffer_copy(env, length, bytes, &copy, &value);
  return value;
}

napi_value text_value(napi_env env, const char *text)
{
  napi_value value = NULL;

  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value);
  return value;
}

napi_value object_value(napi_env env)
{
  napi_value value = NULL;

  napi_create_object(env, &value);
  return value;
}

void set_property(napi_env env, napi_value object, const char *name, napi_value value)
{
  if (value) napi_set_named_property(env, object, name, value);
}
