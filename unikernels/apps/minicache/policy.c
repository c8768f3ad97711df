/* See policy.h. Numbers in brackets are sections of RFC 9111. */
#include "policy.h"
#include "date.h"

struct cache_control policy_request(const struct http_head *request) {
  struct cache_control control = {0};
  for (int i = -1; (i = http_next(request, FIELD_CACHE_CONTROL, i)) >= 0;) cache_control_read(&control, http_value(request, (unsigned)i));
  if (!http_has(request, FIELD_CACHE_CONTROL) && slice_list_has(http_field(request, FIELD_PRAGMA), SLICE("no-cache"))) control.set |= CC_NO_CACHE;
  return control;
}

/* A targeted field, if it is there and sound (RFC 9213 2.2), takes the place of Cache-Control and Expires. */
static bool read_targeted(const struct http_head *response, enum http_field field, struct cache_control *control) {
  struct cache_control read = {0};
  int seen = 0;
  for (int i = -1; (i = http_next(response, field, i)) >= 0; seen++) {
    if (!cache_control_read_targeted(&read, http_value(response, (unsigned)i), field == FIELD_SURROGATE_CONTROL)) return false;
  }
  if (seen == 0 || http_field(response, field).length == 0 || (read.set == 0 && field == FIELD_SURROGATE_CONTROL)) return false;
  *control = read;
  return true;
}

static bool heuristic_allowed(uint16_t status) {
  switch (status) {
    case 200: case 203: case 204: case 300: case 301: case 308: case 404: case 405: case 410: case 414: case 501: return true;
    default: return false;
  }
}

/* Statuses whose rules of caching are obeyed here (5.2.2.3). */
static bool understood(uint16_t status) {
  switch (status) {
    case 200: case 203: case 204: case 300: case 301: case 302: case 303: case 307: case 308: case 404: case 405: case 410: case 414: case 501: return true;
    default: return false;
  }
}

static bool read_date(const struct http_head *head, enum http_field field, int64_t *seconds) {
  return http_has(head, field) && date_read(http_field(head, field), seconds);
}

/* 4.2.1; false: nothing says it. */
static bool explicit_lifetime(const struct http_head *response, const struct cache_control *control, bool targeted, int64_t date, uint32_t *lifetime) {
  int64_t expires;
  *lifetime = 0;
  if (control->set & CC_S_MAXAGE) {
    *lifetime = control->s_maxage;
  } else if (control->set & CC_MAX_AGE) {
    *lifetime = control->max_age;
  } else if (!targeted && http_has(response, FIELD_EXPIRES)) {
    bool single = http_next(response, FIELD_EXPIRES, response->first[FIELD_EXPIRES] - 1) < 0;
    if (single && read_date(response, FIELD_EXPIRES, &expires) && expires > date) {
      *lifetime = expires - date > (int64_t)CC_MOST_SECONDS ? CC_MOST_SECONDS : (uint32_t)(expires - date);
    }
  } else {
    return false;
  }
  return true;
}

static uint32_t heuristic_lifetime(const struct policy_settings *settings, const struct http_head *response, int64_t date) {
  int64_t modified;
  if (read_date(response, FIELD_LAST_MODIFIED, &modified) && modified < date) {
    int64_t tenth = (date - modified) / 10;
    return tenth > settings->heuristic_most_seconds ? settings->heuristic_most_seconds : (uint32_t)tenth;
  }
  return response->status == 404 || response->status == 410 ? settings->negative_seconds : 0;
}

/* The Age field; one that is no single number says that something before us is wrong, and counts as the oldest there is. */
static uint64_t given_age(const struct http_head *response) {
  uint64_t given;
  if (!http_has(response, FIELD_AGE)) return 0;
  bool single = http_next(response, FIELD_AGE, response->first[FIELD_AGE] - 1) < 0;
  return single && slice_number(http_field(response, FIELD_AGE), CC_MOST_SECONDS, &given) ? given : CC_MOST_SECONDS;
}

/* 4.2.3 */
static uint32_t initial_age(const struct http_head *response, int64_t date, int64_t sent, int64_t now) {
  int64_t apparent = now > date ? now - date : 0, corrected = (int64_t)given_age(response) + (now > sent ? now - sent : 0);
  int64_t age = apparent > corrected ? apparent : corrected;
  return age > (int64_t)CC_MOST_SECONDS ? CC_MOST_SECONDS : (uint32_t)age;
}

struct judged policy_judge(const struct policy_settings *settings, const struct http_head *response, const struct cache_control *asked,
                           bool authorized, int64_t sent, int64_t now) {
  struct judged judged = {0};
  struct fitness *fitness = &judged.fitness;
  struct cache_control control = {0};
  bool targeted = read_targeted(response, FIELD_CDN_CACHE_CONTROL, &control) || read_targeted(response, FIELD_SURROGATE_CONTROL, &control);
  if (!targeted) {
    for (int i = -1; (i = http_next(response, FIELD_CACHE_CONTROL, i)) >= 0;) cache_control_read(&control, http_value(response, (unsigned)i));
  }
  int64_t date = now;
  if (!read_date(response, FIELD_DATE, &date)) date = now;
  fitness->response_time = now;
  fitness->initial_age = initial_age(response, date, sent, now);
  bool is_explicit = explicit_lifetime(response, &control, targeted, date, &fitness->lifetime);
  bool heuristic = !is_explicit && (heuristic_allowed(response->status) || (control.set & CC_PUBLIC));
  if (heuristic) fitness->lifetime = heuristic_lifetime(settings, response, date);
  fitness->validate_always = (control.set & CC_NO_CACHE) != 0;
  fitness->never_stale = (control.set & (CC_MUST_REVALIDATE | CC_PROXY_REVALIDATE | CC_S_MAXAGE)) != 0;
  if (!fitness->never_stale && !fitness->validate_always) {
    if (control.set & CC_STALE_WHILE_REVALIDATE) fitness->stale_while_revalidate = control.stale_while_revalidate;
    if (control.set & CC_STALE_IF_ERROR) fitness->stale_if_error = control.stale_if_error;
  }
  uint16_t status = response->status;
  if (status < 200 || status == 206 || status == 304) return judged;
  bool no_store = (control.set & CC_NO_STORE) && !((control.set & CC_MUST_UNDERSTAND) && understood(status));
  if ((control.set & CC_MUST_UNDERSTAND) && !understood(status)) return judged;
  if (no_store || (control.set & CC_PRIVATE) || (asked->set & CC_NO_STORE)) return judged;
  if (authorized && !(control.set & (CC_PUBLIC | CC_S_MAXAGE | CC_MUST_REVALIDATE))) return judged; /* 3.5 */
  for (int i = -1; (i = http_next(response, FIELD_VARY, i)) >= 0;) {
    if (slice_list_has(http_value(response, (unsigned)i), SLICE("*"))) return judged;
  }
  if (!is_explicit && !heuristic) return judged;
  bool validators = http_has(response, FIELD_ETAG) || http_has(response, FIELD_LAST_MODIFIED);
  bool fresh = !fitness->validate_always && fitness->lifetime > fitness->initial_age;
  /* What was fresh but for its way here is still for all who asked meanwhile: a playlist that the origin held back. */
  bool late = is_explicit && fitness->lifetime > 0 && !fitness->validate_always;
  judged.storable = fresh || late || validators || fitness->stale_while_revalidate > 0 || fitness->stale_if_error > 0;
  return judged;
}

uint32_t policy_age(const struct fitness *fitness, int64_t now) {
  int64_t age = (int64_t)fitness->initial_age + (now > fitness->response_time ? now - fitness->response_time : 0);
  return age > (int64_t)CC_MOST_SECONDS ? CC_MOST_SECONDS : (uint32_t)age;
}

enum usable policy_usable(const struct fitness *fitness, const struct cache_control *asked, int64_t now) {
  uint32_t age = policy_age(fitness, now);
  if (fitness->validate_always || (asked->set & CC_NO_CACHE)) return USABLE_AFTER_VALIDATION;
  if ((asked->set & CC_MAX_AGE) && age > asked->max_age) return USABLE_AFTER_VALIDATION;
  if (!fitness->invalid && fitness->lifetime > age) {
    bool lasts = !(asked->set & CC_MIN_FRESH) || fitness->lifetime - age >= asked->min_fresh;
    return lasts ? USABLE_FRESH : USABLE_AFTER_VALIDATION;
  }
  uint32_t over = fitness->lifetime > age ? 0 : age - fitness->lifetime;
  if (over < fitness->stale_while_revalidate) return USABLE_STALE_REVALIDATE;
  if (!fitness->invalid && !fitness->never_stale && (asked->set & CC_MAX_STALE) && over <= asked->max_stale) return USABLE_FRESH;
  return USABLE_AFTER_VALIDATION;
}

bool policy_usable_on_error(const struct fitness *fitness, const struct cache_control *asked, int64_t now, bool disconnected) {
  uint32_t age = policy_age(fitness, now), over = fitness->lifetime > age ? 0 : age - fitness->lifetime;
  if (fitness->never_stale || fitness->validate_always || (asked->set & CC_NO_CACHE)) return false;
  if (over < fitness->stale_if_error) return true;
  if ((asked->set & CC_STALE_IF_ERROR) && over < asked->stale_if_error) return true;
  return disconnected; /* 4.2.4 */
}
