/*
 * Domains for JavaScript. Building and destroying a large domain takes long, so both can run on another thread: called with `apart` true they
 * return a promise, else they block for the milliseconds that a small domain takes, which is cheaper than a change of threads.
 */
#include "addon.h"

#include <stdlib.h>
#include <string.h>

#include "values.h"

#define MOST_IMAGE_BYTES (1ull << 30)
#define MOST_MEMORY_PAGES (1ull << 28)
#define MOST_WAIT_US 10000

int take_domid(const struct call *call, size_t index, uint16_t *domid)
{
  uint64_t value;

  if (!take_u64(call, index, "domid", 1, LARGEST_DOMID, &value)) return 0;
  *domid = (uint16_t)value;
  return 1;
}

/* create(handle: 16 bytes, memoryPages, maxEventPort, maxGrantFrames, wiredVifs): domid. */
static napi_value js_create(napi_env env, napi_callback_info info)
{
  struct addon *addon;
  uint64_t pages, ports, frames, vifs;
  struct domain_limits limits;
  struct failure failure;
  const uint8_t *handle;
  struct call call;
  uint16_t domid;
  size_t length;

  if (!take_call(&call, env, info, 5) || !take_bytes(&call, 0, "handle", 16, 16, &handle, &length) ||
      !take_u64(&call, 1, "memoryPages", 1, MOST_MEMORY_PAGES, &pages) || !take_u64(&call, 2, "maxEventPort", 3, 1u << 17, &ports) ||
      !take_u64(&call, 3, "maxGrantFrames", 1, 1u << 10, &frames) || !take_u64(&call, 4, "wiredVifs", 0, WIRING_VIFS, &vifs) ||
      !(addon = opened_addon(env)))
    return NULL;
  limits = (struct domain_limits){
    .memory_pages = pages, .max_event_port = (uint32_t)ports, .max_grant_frames = (uint32_t)frames, .wired_vifs = (unsigned)vifs
  };
  if (control_create(addon->control, handle, &limits, &domid, &failure)) return throw_failure(env, &failure);
  return number_value(env, domid);
}

struct job {
  struct addon *addon;
  struct build_request request; /* image NULL: destroy */
  struct build_result result;
  struct failure failure;
  uint8_t *copy; /* of the image, when run on another thread */
  int status;
  napi_async_work work;
  napi_deferred deferred;
};

static void run_job(napi_env env, void *data)
{
  struct job *job = data;

  (void)env;
  job->status = job->request.image ? builder_build(job->addon->builder, &job->request, &job->result, &job->failure)
                                   : control_destroy(job->addon->control, job->request.domid, &job->failure);
}

napi_value built_value(napi_env env, const struct build_result *built, unsigned vif_count)
{
  napi_value result = object_value(env), vifs;

  set_property(env, result, "storeMfn", number_value(env, (double)built->store_mfn));
  set_property(env, result, "consoleMfn", number_value(env, (double)built->console_mfn));
  set_property(env, result, "startInfoMfn", number_value(env, (double)built->start_info_mfn));
  napi_create_array(env, &vifs);
  for (unsigned i = 0; i < vif_count; i++) {
    napi_value vif = object_value(env);

    set_property(env, vif, "port", number_value(env, FIRST_VIF_PORT + i));
    set_property(env, vif, "txMfn", number_value(env, (double)built->vifs[i].tx_mfn));
    set_property(env, vif, "rxMfn", number_value(env, (double)built->vifs[i].rx_mfn));
    napi_set_element(env, vifs, i, vif);
  }
  set_property(env, result, "vifs", vifs);
  return result;
}

static napi_value job_value(napi_env env, const struct job *job)
{
  return job->request.image ? built_value(env, &job->result, job->request.vif_count) : object_value(env);
}

static void finish_job(napi_env env, napi_status status, void *data)
{
  struct job *job = data;

  job->addon->jobs--;
  if (status == napi_ok && job->status == 0) {
    napi_resolve_deferred(env, job->deferred, job_value(env, job));
  } else {
    if (status != napi_ok) failed_with(&job->failure, "napi_async_work", ECANCELED);
    napi_reject_deferred(env, job->deferred, failure_value(env, &job->failure));
  }
  napi_delete_async_work(env, job->work);
  free(job->copy);
  free(job);
}

/* Takes over `job`, which lives on the heap. */
static napi_value start_job(napi_env env, struct job *job, int apart)
{
  napi_value result = NULL, name = text_value(env, "shoal-domain");

  if (!apart) {
    run_job(env, job);
    result = job->status ? throw_failure(env, &job->failure) : job_value(env, job);
    free(job);
    return result;
  }
  if (job->request.image) {
    job->copy = malloc(job->request.image_bytes + 1);
    if (job->copy) {
      memcpy(job->copy, job->request.image, job->request.image_bytes);
      job->request.image = job->copy;
    }
  }
  if ((job->request.image && !job->copy) || napi_create_promise(env, &job->deferred, &result) != napi_ok ||
      napi_create_async_work(env, NULL, name, run_job, finish_job, job, &job->work) != napi_ok) {
    napi_throw_error(env, NULL, "no memory for a job on another thread");
    free(job->copy);
    free(job);
    return NULL;
  }
  job->addon->jobs++;
  napi_queue_async_work(env, job->work);
  return result;
}

static struct job *new_job(napi_env env)
{
  struct job *job = calloc(1, sizeof *job);

  if (!job) {
    napi_throw_error(env, NULL, "out of memory");
    return NULL;
  }
  return job;
}

/* Handles of wired vifs, a byte each; undefined for a domain that is not wired. */
static int take_wiring(const struct call *call, size_t index, struct build_request *request)
{
  const uint8_t *handles;
  size_t count;

  request->wired = !is_undefined(call, index);
  if (!request->wired) return 1;
  if (!take_bytes(call, index, "wiredVifs", 0, WIRING_VIFS, &handles, &count)) return 0;
  request->vif_count = (unsigned)count;
  for (size_t i = 0; i < count; i++) request->vif_handles[i] = handles[i];
  return 1;
}

/*
 * build(domid, memoryPages, image, imageMemoryBytes, virtBase, entry, hypercallPage | undefined, wiredVifs | undefined, template: domid or 0,
 * apart): {storeMfn, consoleMfn, startInfoMfn, vifs: [{port, txMfn, rxMfn}]}.
 */
static napi_value js_build(napi_env env, napi_callback_info info)
{
  struct build_request *request;
  uint64_t template;
  struct call call;
  struct job *job;
  int apart;

  if (!take_call(&call, env, info, 10) || !(job = new_job(env))) return NULL;
  request = &job->request;
  request->has_hypercall_page = !is_undefined(&call, 6);
  if (!take_domid(&call, 0, &request->domid) || !take_u64(&call, 1, "memoryPages", 1, MOST_MEMORY_PAGES, &request->memory_pages) ||
      !take_bytes(&call, 2, "image", 1, MOST_IMAGE_BYTES, &request->image, &request->image_bytes) ||
      !take_u64(&call, 3, "imageMemoryBytes", 1, MOST_MEMORY_PAGES * 4096, &request->image_memory_bytes) ||
      !take_big(&call, 4, "virtBase", &request->virt_base) || !take_big(&call, 5, "entry", &request->entry) ||
      (request->has_hypercall_page && !take_big(&call, 6, "hypercallPage", &request->hypercall_page)) || !take_wiring(&call, 7, request) ||
      !take_u64(&call, 8, "template", 0, LARGEST_DOMID, &template) || !take_flag(&call, 9, "apart", &apart) ||
      !(job->addon = opened_addon(env)) || (template > 0 && !(request->template = known_template(env, job->addon, (uint16_t)template)))) {
    free(job);
    return NULL;
  }
  return start_job(env, job, apart);
}

/* destroy(domid, apart): {}; ESRCH when there is no such domain. */
static napi_value js_destroy(napi_env env, napi_callback_info info)
{
  struct addon *addon;
  struct call call;
  struct job *job;
  uint16_t domid;
  int apart;

  if (!take_call(&call, env, info, 2) || !take_domid(&call, 0, &domid) || !take_flag(&call, 1, "apart", &apart) ||
      !(addon = opened_addon(env)) || !(job = new_job(env)))
    return NULL;
  job->addon = addon;
  job->request.domid = domid;
  return start_job(env, job, apart);
}

static napi_value simple_call(napi_env env, napi_callback_info info,
                              int (*function)(struct control *control, uint16_t domid, struct failure *failure))
{
  struct addon *addon;
  struct failure failure;
  struct call call;
  uint16_t domid;

  if (!take_call(&call, env, info, 1) || !take_domid(&call, 0, &domid) || !(addon = opened_addon(env))) return NULL;
  return function(addon->control, domid, &failure) ? throw_failure(env, &failure) : NULL;
}

/* pause(domid), unpause(domid). */
static napi_value js_pause(napi_env env, napi_callback_info info) { return simple_call(env, info, control_pause); }
static napi_value js_unpause(napi_env env, napi_callback_info info) { return simple_call(env, info, control_unpause); }

static napi_value domain_value(napi_env env, const struct domain_facts *facts)
{
  napi_value result = object_value(env);

  set_property(env, result, "domid", number_value(env, facts->domid));
  set_property(env, result, "handle", bytes_value(env, facts->handle, sizeof facts->handle));
  set_property(env, result, "flags", number_value(env, facts->flags));
  set_property(env, result, "shutdownReason", number_value(env, facts->shutdown_reason));
  set_property(env, result, "totalPages", number_value(env, (double)facts->total_pages));
  set_property(env, result, "cpuTimeNs", big_value(env, facts->cpu_time_ns));
  return result;
}

/* domain(domid): facts, or undefined when there is none. */
static napi_value js_domain(napi_env env, napi_callback_info info)
{
  struct addon *addon;
  struct domain_facts facts;
  struct failure failure;
  struct call call;
  uint16_t domid;
  int status;

  if (!take_call(&call, env, info, 1) || !take_domid(&call, 0, &domid) || !(addon = opened_addon(env))) return NULL;
  status = control_domain(addon->control, domid, &facts, &failure);
  if (status < 0) return throw_failure(env, &failure);
  return status ? NULL : domain_value(env, &facts);
}

/* awaitShutdown(domid, microseconds): facts as domain() gives them, once it has shut down or the time is over. */
static napi_value js_await_shutdown(napi_env env, napi_callback_info info)
{
  struct addon *addon;
  struct domain_facts facts;
  struct failure failure;
  uint64_t most_us;
  struct call call;
  uint16_t domid;
  int status;

  if (!take_call(&call, env, info, 2) || !take_domid(&call, 0, &domid) || !take_u64(&call, 1, "microseconds", 0, MOST_WAIT_US, &most_us) ||
      !(addon = opened_addon(env)))
    return NULL;
  status = control_await_shutdown(addon->control, domid, (unsigned)most_us, &facts, &failure);
  if (status < 0) return throw_failure(env, &failure);
  return status ? NULL : domain_value(env, &facts);
}

/* Every domain but dom0 on the heap; -1 on failure. */
static long all_domains(struct control *control, struct domain_facts **domains, struct failure *failure)
{
  struct domain_facts *list = NULL, *grown;
  size_t count = 0;
  uint16_t next = 1;
  int given;

  do {
    grown = realloc(list, (count + DOMAIN_BATCH) * sizeof *list);
    if (!grown) {
      free(list);
      return failed(failure, "realloc");
    }
    list = grown;
    given = control_domains(control, next, DOMAIN_BATCH, list + count, failure);
    if (given < 0) {
      free(list);
      return -1;
    }
    count += (size_t)given;
    if (given > 0) next = (uint16_t)(list[count - 1].domid + 1);
  } while (given == DOMAIN_BATCH);
  *domains = list;
  return (long)count;
}

/* domains(): facts of every domain but dom0. */
static napi_value js_domains(napi_env env, napi_callback_info info)
{
  struct addon *addon;
  struct domain_facts *domains;
  struct failure failure;
  napi_value result;
  long count;

  (void)info;
  if (!(addon = opened_addon(env))) return NULL;
  count = all_domains(addon->control, &domains, &failure);
  if (count < 0) return throw_failure(env, &failure);
  napi_create_array_with_length(env, (size_t)count, &result);
  for (long i = 0; i < count; i++) napi_set_element(env, result, (uint32_t)i, domain_value(env, &domains[i]));
  free(domains);
  return result;
}

/*
 * changedDomains(): domids that appeared, vanished, began to die or shut down since the last call. Two sorted lists are merged, so a call
 * costs what Xen needs to list its domains and nothing per domain in JavaScript.
 */
static napi_value js_changed_domains(napi_env env, napi_callback_info info)
{
  struct addon *addon;
  struct snapshot_entry *now;
  struct domain_facts *domains;
  struct failure failure;
  size_t old = 0, kept = 0;
  uint32_t changes = 0;
  napi_value result;
  long count;

  (void)info;
  if (!(addon = opened_addon(env))) return NULL;
  count = all_domains(addon->control, &domains, &failure);
  if (count < 0) return throw_failure(env, &failure);
  now = malloc(((size_t)count + 1) * sizeof *now);
  if (!now) {
    free(domains);
    failed(&failure, "malloc");
    return throw_failure(env, &failure);
  }
  napi_create_array(env, &result);
  for (; kept < (size_t)count; kept++) {
    struct snapshot_entry *entry = &now[kept];

    entry->domid = domains[kept].domid;
    entry->flags = domains[kept].flags & (DOMAIN_DYING | DOMAIN_SHUTDOWN);
    memcpy(entry->handle, domains[kept].handle, sizeof entry->handle);
    while (old < addon->snapshot_count && addon->snapshot[old].domid < entry->domid)
      napi_set_element(env, result, changes++, number_value(env, addon->snapshot[old++].domid));
    if (old < addon->snapshot_count && addon->snapshot[old].domid == entry->domid) {
      const struct snapshot_entry *before = &addon->snapshot[old++];

      if (before->flags == entry->flags && memcmp(before->handle, entry->handle, sizeof entry->handle) == 0) continue;
    }
    napi_set_element(env, result, changes++, number_value(env, entry->domid));
  }
  while (old < addon->snapshot_count) napi_set_element(env, result, changes++, number_value(env, addon->snapshot[old++].domid));
  free(domains);
  free(addon->snapshot);
  addon->snapshot = now;
  addon->snapshot_count = kept;
  return result;
}

void define_domain_functions(napi_env env, napi_value exports)
{
  define_function(env, exports, "create", js_create);
  define_function(env, exports, "build", js_build);
  define_function(env, exports, "destroy", js_destroy);
  define_function(env, exports, "pause", js_pause);
  define_function(env, exports, "unpause", js_unpause);
  define_function(env, exports, "domain", js_domain);
  define_function(env, exports, "awaitShutdown", js_await_shutdown);
  define_function(env, exports, "domains", js_domains);
  define_function(env, exports, "changedDomains", js_changed_domains);
}
