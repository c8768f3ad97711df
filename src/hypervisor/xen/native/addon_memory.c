/*
 * Guests' memory for JavaScript: readers and writers as handles. A handle that was closed, or is of the other kind, is refused; one that was
 * forgotten is closed when JavaScript's collector finds it.
 */
#include "addon.h"

#include <stdlib.h>

#include "memory_read.h"
#include "memory_stream.h"
#include "memory_write.h"
#include "values.h"

#define MOST_MEMORY_PAGES (1ull << 28)
#define MOST_STATE_BYTES (1u << 16)
#define FEATURE_WORDS 64

struct handle {
  const char *kind;
  struct memory_reader *reader; /* one of both, until it is closed */
  struct memory_writer *writer;
  uint8_t *piece; /* of a reader */
};

static const char reading[] = "reader", writing[] = "writer";

static void close_handle(struct handle *handle)
{
  memory_reader_free(handle->reader);
  memory_writer_free(handle->writer);
  free(handle->piece);
  handle->reader = NULL;
  handle->writer = NULL;
  handle->piece = NULL;
}

static void forget_handle(napi_env env, void *data, void *hint)
{
  struct addon *addon = any_addon(env);

  (void)hint;
  /* Without the addon's handles the pages are unmapped with the process. */
  if (addon && addon->control) close_handle(data);
  free(data);
}

static struct handle *take_handle(const struct call *call, const char *kind)
{
  napi_valuetype type;
  void *data = NULL;

  if (napi_typeof(call->env, call->values[0], &type) == napi_ok && type == napi_external &&
      napi_get_value_external(call->env, call->values[0], &data) == napi_ok && data) {
    struct handle *handle = data;

    if (handle->kind == kind && (handle->reader || handle->writer)) return handle;
  }
  napi_throw_type_error(call->env, NULL, kind == reading ? "reader: an open reader is wanted" : "writer: an open writer is wanted");
  return NULL;
}

static napi_value handle_value(napi_env env, struct handle handle)
{
  struct handle *kept = malloc(sizeof *kept);
  napi_value result;

  if (kept) {
    *kept = handle;
    if (napi_create_external(env, kept, forget_handle, NULL, &result) == napi_ok) return result;
  }
  close_handle(&handle);
  free(kept);
  napi_throw_error(env, NULL, "out of memory");
  return NULL;
}

/* readMemory(domid, virtBase, template: domid or 0, passes): reader. */
static napi_value js_read_memory(napi_env env, napi_callback_info info)
{
  const struct template *template = NULL;
  uint64_t virt_base, owner;
  struct failure failure;
  struct handle handle = { .kind = reading };
  struct addon *addon;
  struct call call;
  uint16_t domid;
  int passes;

  if (!take_call(&call, env, info, 4) || !take_domid(&call, 0, &domid) || !take_big(&call, 1, "virtBase", &virt_base) ||
      !take_u64(&call, 2, "template", 0, LARGEST_DOMID, &owner) || !take_flag(&call, 3, "passes", &passes) || !(addon = opened_addon(env)) ||
      (owner > 0 && !(template = known_template(env, addon, (uint16_t)owner))))
    return NULL;
  handle.piece = malloc(PIECE_BYTES_MAX);
  if (!handle.piece) {
    napi_throw_error(env, NULL, "out of memory");
    return NULL;
  }
  handle.reader = memory_reader_open(addon->builder, domid, virt_base, template, passes, &failure);
  if (handle.reader) return handle_value(env, handle);
  free(handle.piece);
  return throw_failure(env, &failure);
}

/* readAgain(reader): its domain suspended itself again. */
static napi_value js_read_again(napi_env env, napi_callback_info info)
{
  struct failure failure;
  struct handle *handle;
  struct call call;

  if (!take_call(&call, env, info, 1) || !opened_addon(env) || !(handle = take_handle(&call, reading))) return NULL;
  return memory_reader_again(handle->reader, &failure) ? throw_failure(env, &failure) : NULL;
}

/* readPiece(reader): bytes; none at the end of a pass. */
static napi_value js_read_piece(napi_env env, napi_callback_info info)
{
  struct handle *handle;
  struct call call;

  if (!take_call(&call, env, info, 1) || !opened_addon(env) || !(handle = take_handle(&call, reading))) return NULL;
  return bytes_value(env, handle->piece, memory_reader_piece(handle->reader, handle->piece));
}

/* readState(reader): bytes. */
static napi_value js_read_state(napi_env env, napi_callback_info info)
{
  struct failure failure;
  struct handle *handle;
  struct call call;
  napi_value result;
  uint8_t *bytes;
  size_t length;

  if (!take_call(&call, env, info, 1) || !opened_addon(env) || !(handle = take_handle(&call, reading))) return NULL;
  bytes = memory_reader_state(handle->reader, &length, &failure);
  if (!bytes) return throw_failure(env, &failure);
  result = bytes_value(env, bytes, length);
  free(bytes);
  return result;
}

/* writeMemory(domid, memoryPages, template: domid or 0): writer. */
static napi_value js_write_memory(napi_env env, napi_callback_info info)
{
  const struct template *template = NULL;
  struct handle handle = { .kind = writing };
  struct failure failure;
  struct addon *addon;
  uint64_t pages, owner;
  struct call call;
  uint16_t domid;

  if (!take_call(&call, env, info, 3) || !take_domid(&call, 0, &domid) || !take_u64(&call, 1, "memoryPages", 1, MOST_MEMORY_PAGES, &pages) ||
      !take_u64(&call, 2, "template", 0, LARGEST_DOMID, &owner) || !(addon = opened_addon(env)) ||
      (owner > 0 && !(template = known_template(env, addon, (uint16_t)owner))))
    return NULL;
  handle.writer = memory_writer_open(addon->builder, domid, pages, template, &failure);
  return handle.writer ? handle_value(env, handle) : throw_failure(env, &failure);
}

/* writePiece(writer, bytes). */
static napi_value js_write_piece(napi_env env, napi_callback_info info)
{
  struct failure failure;
  const uint8_t *bytes;
  struct handle *handle;
  struct call call;
  size_t length;

  if (!take_call(&call, env, info, 2) || !take_bytes(&call, 1, "piece", 0, PIECE_BYTES_MAX, &bytes, &length) || !opened_addon(env) ||
      !(handle = take_handle(&call, writing)))
    return NULL;
  return memory_writer_piece(handle->writer, bytes, length, &failure) ? throw_failure(env, &failure) : NULL;
}

/* writeEnd(writer, state, vifCount, commandLine or undefined, macs or undefined): as build() returns; the writer is closed. */
static napi_value js_write_end(napi_env env, napi_callback_info info)
{
  char command_line[COMMAND_LINE_BYTES];
  struct build_result result;
  struct naming naming = { 0 };
  const uint8_t *bytes, *macs;
  size_t length, macs_length;
  struct failure failure;
  struct handle *handle;
  uint64_t vif_count;
  struct call call;
  int status;

  if (!take_call(&call, env, info, 5) || !take_bytes(&call, 1, "state", 0, MOST_STATE_BYTES, &bytes, &length) ||
      !take_u64(&call, 2, "vifCount", 0, WIRING_VIFS, &vif_count))
    return NULL;
  if (!is_undefined(&call, 3)) {
    if (!take_text(&call, 3, "commandLine", command_line, sizeof command_line) || !take_bytes(&call, 4, "macs", 0, 6 * WIRING_VIFS, &macs, &macs_length)) return NULL;
    naming = (struct naming){ command_line, (const uint8_t (*)[6])(const void *)macs, (unsigned)(macs_length / 6) };
  }
  if (!opened_addon(env) || !(handle = take_handle(&call, writing))) return NULL;
  status = memory_writer_finish(handle->writer, bytes, length, (unsigned)vif_count, naming.command_line ? &naming : NULL, &result, &failure);
  close_handle(handle);
  return status ? throw_failure(env, &failure) : built_value(env, &result, (unsigned)vif_count);
}

/* closeMemory(reader or writer): may have been closed before. */
static napi_value js_close_memory(napi_env env, napi_callback_info info)
{
  napi_valuetype type;
  struct call call;
  void *data = NULL;

  if (!take_call(&call, env, info, 1) || !opened_addon(env)) return NULL;
  if (napi_typeof(env, call.values[0], &type) != napi_ok || type != napi_external ||
      napi_get_value_external(env, call.values[0], &data) != napi_ok) {
    napi_throw_type_error(env, NULL, "a reader or a writer is wanted");
    return NULL;
  }
  close_handle(data);
  return NULL;
}

/* cpuFeatures(): the words of the feature set of PV guests, 4 bytes each, little endian. */
static napi_value js_cpu_features(napi_env env, napi_callback_info info)
{
  struct addon *addon = opened_addon(env);
  uint32_t words[FEATURE_WORDS];
  struct failure failure;
  int count;

  (void)info;
  if (!addon) return NULL;
  count = control_cpu_features(addon->control, words, FEATURE_WORDS, &failure);
  return count < 0 ? throw_failure(env, &failure) : bytes_value(env, words, (size_t)count * sizeof *words);
}

void define_memory_functions(napi_env env, napi_value exports)
{
  define_function(env, exports, "readMemory", js_read_memory);
  define_function(env, exports, "readAgain", js_read_again);
  define_function(env, exports, "readPiece", js_read_piece);
  define_function(env, exports, "readState", js_read_state);
  define_function(env, exports, "writeMemory", js_write_memory);
  define_function(env, exports, "writePiece", js_write_piece);
  define_function(env, exports, "writeEnd", js_write_end);
  define_function(env, exports, "closeMemory", js_close_memory);
  define_function(env, exports, "cpuFeatures", js_cpu_features);
}
