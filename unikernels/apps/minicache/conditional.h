/* Conditions of requests against what is kept (RFC 9110 13). Pure. */
#ifndef MINICACHE_CONDITIONAL_H
#define MINICACHE_CONDITIONAL_H

#include "http1.h"

struct validators {
  struct slice etag; /* at == NULL: none */
  int64_t modified;  /* INT64_MIN: none */
  int64_t date;      /* when it was made or came, for If-Modified-Since where there is no Last-Modified */
};

/* In the order of 13.2.2, Range left out: 0 (go on), 304 or 412. */
int conditional_judge(const struct http_head *request, const struct validators *have);

/* True when Range counts: there is no If-Range, or it fits. */
bool conditional_range_counts(const struct http_head *request, const struct validators *have);

#endif
