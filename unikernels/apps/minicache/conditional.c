/* See conditional.h. */
#include "conditional.h"
#include "date.h"

static bool is_weak(struct slice etag) { return etag.length >= 2 && etag.at[0] == 'W' && etag.at[1] == '/'; }
static struct slice opaque(struct slice etag) { return is_weak(etag) ? slice_from(etag, 2) : etag; }

static bool strong_match(struct slice a, struct slice b) { return !is_weak(a) && !is_weak(b) && slice_equal(a, b); }

/* Any line of the field lists the tag, or "*". */
static bool any_match(const struct http_head *request, enum http_field field, struct slice etag, bool strong) {
  for (int i = -1; (i = http_next(request, field, i)) >= 0;) {
    struct slice list = http_value(request, (unsigned)i), element;
    while (slice_next(&list, &element)) {
      if (slice_equal(element, SLICE("*"))) return true;
      if (etag.at == NULL) continue;
      if (strong ? strong_match(element, etag) : slice_equal(opaque(element), opaque(etag))) return true;
    }
  }
  return false;
}

int conditional_judge(const struct http_head *request, const struct validators *have) {
  int64_t given;
  if (http_has(request, FIELD_IF_MATCH)) {
    if (!any_match(request, FIELD_IF_MATCH, have->etag, true)) return 412;
  } else if (http_has(request, FIELD_IF_UNMODIFIED_SINCE) && have->modified != INT64_MIN &&
             date_read(http_field(request, FIELD_IF_UNMODIFIED_SINCE), &given) && have->modified > given) {
    return 412;
  }
  if (http_has(request, FIELD_IF_NONE_MATCH)) return any_match(request, FIELD_IF_NONE_MATCH, have->etag, false) ? 304 : 0;
  if (http_has(request, FIELD_IF_MODIFIED_SINCE) && date_read(http_field(request, FIELD_IF_MODIFIED_SINCE), &given)) {
    int64_t since = have->modified != INT64_MIN ? have->modified : have->date;
    return since <= given ? 304 : 0;
  }
  return 0;
}

bool conditional_range_counts(const struct http_head *request, const struct validators *have) {
  struct slice value = http_field(request, FIELD_IF_RANGE);
  int64_t given;
  if (value.at == NULL) return true;
  if (value.length > 0 && (value.at[0] == '"' || is_weak(value))) return have->etag.at != NULL && strong_match(value, have->etag);
  /* A date fits when it is exactly that of Last-Modified, a minute old at least (RFC 9110 13.1.5: a strong validator). */
  return date_read(value, &given) && have->modified == given && have->date - given >= 60;
}
