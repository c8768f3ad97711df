/*
 * JavaScript values in and out. Every argument is checked for type and range before C sees it: a wrong call throws a TypeError or RangeError
 * that names the argument and never brings the process down. A failed system call or hypercall is an Error with the properties `call`
 * (its name) and `errno` (its symbol, "ENOMEM").
 */
#ifndef SHOAL_VALUES_H
#define SHOAL_VALUES_H

#include <node_api.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

enum { MOST_ARGUMENTS = 12 };

struct call {
  napi_env env;
  size_t count;
  napi_value values[MOST_ARGUMENTS];
};

/* All return 1 when good; 0 when an exception is pending, upon which the caller returns NULL. */
int take_call(struct call *call, napi_env env, napi_callback_info info, size_t expected);
int take_u64(const struct call *call, size_t index, const char *name, uint64_t least, uint64_t most, uint64_t *value); /* a Number */
int take_big(const struct call *call, size_t index, const char *name, uint64_t *value);                              /* a BigInt */
int take_flag(const struct call *call, size_t index, const char *name, int *value);
int take_bytes(const struct call *call, size_t index, const char *name, size_t least, size_t most, const uint8_t **bytes, size_t *length);
int take_text(const struct call *call, size_t index, const char *name, char *buffer, size_t room);
int is_undefined(const struct call *call, size_t index);

napi_value failure_value(napi_env env, const struct failure *failure);
napi_value throw_failure(napi_env env, const struct failure *failure);

napi_value number_value(napi_env env, double number);
napi_value big_value(napi_env env, uint64_t number);
napi_value bytes_value(napi_env env, const void *bytes, size_t length);
napi_value text_value(napi_env env, const char *text);
napi_value object_value(napi_env env);
void set_property(napi_env env, napi_value object, const char *name, napi_value value);

#endif
