/* Names of fields to numbers: by length, then by comparison, so that a name costs one or two comparisons. */
#include "http1.h"

static const struct slice names[FIELD_COUNT] = {
    {"", 0}, SLICE("access-control-allow-origin"), SLICE("access-control-request-headers"), SLICE("access-control-request-method"), SLICE("age"),
    SLICE("authorization"), SLICE("cache-control"), SLICE("cdn-cache-control"), SLICE("connection"), SLICE("content-encoding"),
    SLICE("content-length"), SLICE("content-location"), SLICE("content-range"), SLICE("content-type"), SLICE("date"), SLICE("etag"),
    SLICE("expect"), SLICE("expires"), SLICE("host"), SLICE("if-match"), SLICE("if-modified-since"), SLICE("if-none-match"), SLICE("if-range"),
    SLICE("if-unmodified-since"), SLICE("keep-alive"), SLICE("last-modified"), SLICE("location"), SLICE("origin"), SLICE("pragma"),
    SLICE("proxy-authenticate"), SLICE("proxy-authentication-info"), SLICE("proxy-authorization"), SLICE("proxy-connection"), SLICE("range"),
    SLICE("surrogate-control"), SLICE("surrogate-key"), SLICE("te"), SLICE("trailer"), SLICE("transfer-encoding"), SLICE("upgrade"), SLICE("vary"),
    SLICE("via"), SLICE("xkey")};

#define LONGEST_NAME 30u
static uint8_t by_length[LONGEST_NAME + 1][12];
static bool sorted;

static void sort_names(void) {
  uint8_t counts[LONGEST_NAME + 1] = {0};
  for (unsigned i = 1; i < FIELD_COUNT; i++) by_length[names[i].length][counts[names[i].length]++] = (uint8_t)i;
  sorted = true;
}

enum http_field http_field_of(struct slice name) {
  if (!sorted) sort_names();
  if (name.length > LONGEST_NAME) return FIELD_OTHER;
  for (const uint8_t *at = by_length[name.length]; *at != 0; at++) {
    if (slice_lower(name.at[0]) == names[*at].at[0] && slice_same(name, names[*at])) return (enum http_field)*at;
  }
  return FIELD_OTHER;
}
