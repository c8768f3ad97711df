/*
 * RFC 9111 as functions: may this response be stored, for how long is it fresh, may it be used for this request. Pure: times come as
 * arguments, in seconds of one clock that does not jump.
 */
#ifndef MINICACHE_POLICY_H
#define MINICACHE_POLICY_H

#include "cache_control.h"
#include "http1.h"

/* A response's fitness, as it is kept with it. */
struct fitness {
  int64_t response_time;  /* when it came */
  uint32_t initial_age;   /* its age then (4.2.3) */
  uint32_t lifetime;      /* of freshness, from its age 0 on (4.2.1) */
  uint32_t stale_while_revalidate, stale_if_error; /* 0: not allowed */
  uint8_t validate_always; /* no-cache */
  uint8_t never_stale;     /* must-revalidate and what implies it */
  uint8_t invalid;         /* purged softly: stale from now on */
  uint8_t reserved;
};

struct policy_settings {
  uint32_t negative_seconds; /* of 404 and 410 without anything that says how long */
  uint32_t heuristic_most_seconds;
};

struct judged {
  bool storable;
  struct fitness fitness;
};

/* `asked`: the request's Cache-Control. `authorized`: the request had Authorization. `now`, `sent`: when the response came, when it was
 * asked for. */
struct judged policy_judge(const struct policy_settings *settings, const struct http_head *response, const struct cache_control *asked,
                           bool authorized, int64_t sent, int64_t now);

/* The request's own directives: Cache-Control, else Pragma (5.4). */
struct cache_control policy_request(const struct http_head *request);

enum usable { USABLE_FRESH, USABLE_STALE_REVALIDATE, /* use, and validate behind */ USABLE_AFTER_VALIDATION };
enum usable policy_usable(const struct fitness *fitness, const struct cache_control *asked, int64_t now);

/* May it stand in while the origin fails? `disconnected`: it gave no answer at all, otherwise it said 5xx. */
bool policy_usable_on_error(const struct fitness *fitness, const struct cache_control *asked, int64_t now, bool disconnected);

uint32_t policy_age(const struct fitness *fitness, int64_t now);

#endif
