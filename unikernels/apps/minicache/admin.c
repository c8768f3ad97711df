/* See admin.h. */
#include "admin.h"
#include "allowance.h"
#include "counters.h"
#include "log.h"
#include "meta.h"
#include "playout.h"
#include "query.h"
#include "respond.h"
#include "store_disk.h"
#include "text.h"

#define PAGE_BYTES 32768u
static char page[PAGE_BYTES];

static bool may(const struct viewer *viewer) {
  struct slice given = http_field(&viewer->request, FIELD_AUTHORIZATION), secret = cache.settings.secret;
  if (secret.length == 0 || given.at == NULL || given.length != secret.length + 7 || !slice_same((struct slice){given.at, 7}, SLICE("bearer "))) return false;
  uint8_t difference = 0;
  for (size_t i = 0; i < secret.length; i++) difference |= (uint8_t)(given.at[7 + i] ^ secret.at[i]);
  return difference == 0;
}

/* ---- purge ---- */

struct purge {
  struct slice url, tag;
  bool soft, again;
  uint64_t count;
};

static bool has_tag(struct slice tags, struct slice tag) {
  while (tags.length > 0) {
    while (tags.length > 0 && (tags.at[0] == ' ' || tags.at[0] == ',')) tags = slice_from(tags, 1);
    size_t end = 0;
    while (end < tags.length && tags.at[end] != ' ' && tags.at[end] != ',') end++;
    if (end > 0 && slice_equal((struct slice){tags.at, end}, tag)) return true;
    tags = slice_from(tags, end);
  }
  return false;
}

static int purge_one(void *arg, struct object *object) {
  struct purge *purge = arg;
  struct kept kept;
  size_t length;
  const void *bytes = object_meta(object, &length);
  if (!meta_read(&kept, bytes, length)) return 0;
  bool prefix = purge->url.length > 0 && purge->url.at[purge->url.length - 1] == '*';
  bool meant = purge->url.length > 0 && (prefix ? slice_starts(kept.url, (struct slice){purge->url.at, purge->url.length - 1}) : slice_equal(kept.url, purge->url));
  if (purge->tag.length > 0 && has_tag(kept.tags, purge->tag)) meant = true;
  if (!meant) return 0;
  if (purge->soft) {
    static uint8_t changed[STORE_META_BYTES];
    struct fitness fitness = kept.meta.fitness;
    if (fitness.invalid || (kept.meta.flags & META_MARKER)) return 0;
    fitness.invalid = 1;
    length = meta_write_fitness(changed, &kept, &fitness);
    if (length > 0 && object_set_meta(object, changed, length) == 0) purge->count++;
    return 0;
  }
  if (!(kept.meta.flags & META_MARKER)) purge->count++;
  store_remove(cache.store, object);
  purge->again = true; /* the walk begins anew after a removal */
  return 1;
}

static void purge_all(struct viewer *viewer, struct slice query) {
  static char url[2048], tag[256];
  struct slice soft;
  char flag[4];
  struct purge purge = {.url = SLICE(""), .tag = SLICE("")};
  bool by_url = query_find(query, SLICE("url"), url, sizeof url, &purge.url), by_tag = query_find(query, SLICE("key"), tag, sizeof tag, &purge.tag);
  purge.soft = query_find(query, SLICE("soft"), flag, sizeof flag, &soft) && slice_equal(soft, SLICE("1"));
  if (!by_url && !by_tag) {
    respond_status(viewer, 400, SLICE(""));
    return;
  }
  do {
    purge.again = false;
    store_each(cache.store, purge_one, &purge);
  } while (purge.again);
  cache.metrics.purged += purge.count;
  struct text text = {page, 0, sizeof page, false};
  text_literal(&text, "{\"purged\":");
  text_number(&text, purge.count);
  text_literal(&text, "}\n");
  respond_body(viewer, 200, SLICE("application/json"), SLICE("Cache-Control: no-store\r\n"), (struct slice){page, text.length});
}

/* ---- metrics ---- */

static void add_metric(struct text *text, struct slice name, struct slice kind, uint64_t value) {
  text_literal(text, "# TYPE minicache_");
  text_slice(text, name);
  text_literal(text, " ");
  text_slice(text, kind);
  text_literal(text, "\nminicache_");
  text_slice(text, name);
  text_slice(text, slice_equal(kind, SLICE("counter")) ? SLICE("_total ") : SLICE(" "));
  text_number(text, value);
  text_literal(text, "\n");
}

static void write_metrics(struct text *text) {
  const struct metrics *m = &cache.metrics;
  struct store_counts store;
  store_count(cache.store, &store);
  const struct {
    struct slice name;
    uint64_t value;
    bool gauge;
  } all[] = {{SLICE("requests"), m->requests, false}, {SLICE("hits"), m->hits, false}, {SLICE("misses"), m->misses, false},
             {SLICE("collapsed"), m->collapsed, false}, {SLICE("revalidated"), m->revalidated, false}, {SLICE("stale_served"), m->stale_served, false},
             {SLICE("passed"), m->passed, false}, {SLICE("errors"), m->errors, false}, {SLICE("sent_bytes"), m->sent_bytes, false},
             {SLICE("fetched_bytes"), m->fetched_bytes, false}, {SLICE("connections_accepted"), m->accepted, false},
             {SLICE("connections_refused"), m->refused, false}, {SLICE("timeouts"), m->timeouts, false}, {SLICE("fetches"), m->fetches, false},
             {SLICE("fetch_errors"), m->fetch_errors, false}, {SLICE("prefetched"), m->prefetched, false}, {SLICE("purged"), m->purged, false},
             {SLICE("evicted"), store.evicted, false}, {SLICE("store_torn"), store.torn, false}, {SLICE("store_io_errors"), store.io_errors, false},
             {SLICE("device_reads"), store.device_reads, false}, {SLICE("device_writes"), store.device_writes, false},
             {SLICE("objects"), store.objects, true}, {SLICE("store_bytes"), store.bytes, true}, {SLICE("store_capacity_bytes"), store.capacity, true},
             {SLICE("store_settled"), !cache.settings.on_disk || store_settled(cache.store) != 0, true}, {SLICE("connections"), cache.viewers, true},
             {SLICE("memory_free_bytes"), shoal_memory().free_bytes, true}, {SLICE("queued_bytes"), allowance_used(), true}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) add_metric(text, all[i].name, all[i].gauge ? SLICE("gauge") : SLICE("counter"), all[i].value);
  text_literal(text, "# TYPE minicache_responses counter\n");
  for (unsigned i = 1; i < 6; i++) {
    text_literal(text, "minicache_responses_total{class=\"");
    text_number(text, i);
    text_literal(text, "xx\"} ");
    text_number(text, m->by_class[i]);
    text_literal(text, "\n");
  }
  text_literal(text, "# EOF\n");
}

/* ---- streams ---- */

static void streams(struct viewer *viewer, struct slice query) {
  struct text text = {page, 0, sizeof page, false};
  struct slice extra = SLICE("Cache-Control: no-store\r\n"), given;
  uint8_t method = viewer->request.method;
  char digits[12];
  uint32_t id;
  uint64_t number;
  if (method == METHOD_POST) {
    uint16_t status = playout_begin(query, &id);
    if (status != 0) {
      respond_status(viewer, status, extra);
      return;
    }
    text_literal(&text, "{\"stream\":");
    text_number(&text, id);
    text_literal(&text, "}\n");
  } else if (method == METHOD_DELETE) {
    bool known = query_find(query, SLICE("id"), digits, sizeof digits, &given) && slice_number(given, UINT32_MAX, &number) && playout_end((uint32_t)number);
    respond_status(viewer, known ? 204 : 404, extra);
    return;
  } else if (method == METHOD_GET) {
    text_literal(&text, "{\"streams\":");
    playout_list(&text);
    text_literal(&text, "}\n");
  } else {
    respond_status(viewer, 405, SLICE("Allow: GET, POST, DELETE\r\n"));
    return;
  }
  respond_body(viewer, 200, SLICE("application/json"), extra, (struct slice){page, text.length});
}

void admin_request(struct viewer *viewer) {
  struct slice path = {viewer->target.at, slice_find(viewer->target, '?')}, query = slice_from(viewer->target, path.length + 1);
  struct text text = {page, 0, sizeof page, false};
  struct slice plain = SLICE("text/plain; charset=utf-8"), quiet = SLICE("Cache-Control: no-store\r\n");
  uint8_t method = viewer->request.method;
  viewer->outcome = OUTCOME_ADMIN;
  if (slice_equal(path, SLICE("/health"))) {
    respond_body(viewer, 200, plain, quiet, SLICE("ok\n"));
  } else if (!may(viewer)) {
    respond_status(viewer, 401, SLICE("WWW-Authenticate: Bearer\r\n"));
  } else if (slice_equal(path, SLICE("/purge"))) {
    if (method == METHOD_POST || method == METHOD_PURGE) purge_all(viewer, query);
    else respond_status(viewer, 405, SLICE("Allow: POST\r\n"));
  } else if (slice_equal(path, SLICE("/streams")) && method != METHOD_HEAD) {
    streams(viewer, query);
  } else if (method != METHOD_GET && method != METHOD_HEAD) {
    respond_status(viewer, 405, SLICE("Allow: GET, HEAD\r\n"));
  } else if (slice_equal(path, SLICE("/metrics"))) {
    write_metrics(&text);
    respond_body(viewer, 200, SLICE("application/openmetrics-text; version=1.0.0; charset=utf-8"), quiet, (struct slice){page, text.length});
  } else if (slice_equal(path, SLICE("/objects"))) {
    char digits[12];
    struct slice given;
    uint64_t from = 0;
    if (query_find(query, SLICE("from"), digits, sizeof digits, &given)) slice_number(given, UINT32_MAX, &from);
    text_literal(&text, "{\"objects\":[");
    uint32_t next = counters_write(&text, (uint32_t)from);
    text_literal(&text, "],\"next\":");
    text_number(&text, next);
    text_literal(&text, "}\n");
    respond_body(viewer, 200, SLICE("application/json"), quiet, (struct slice){page, text.length});
  } else if (slice_equal(path, SLICE("/log"))) {
    log_drain(&text);
    respond_body(viewer, 200, plain, quiet, (struct slice){page, text.length});
  } else {
    respond_status(viewer, 404, SLICE(""));
  }
}
