/* See query.h. */
#include "query.h"

bool query_find(struct slice query, struct slice name, char *out, size_t capacity, struct slice *value) {
  while (query.length > 0) {
    size_t end = slice_find(query, '&');
    struct slice pair = {query.at, end};
    query = slice_from(query, end + 1);
    size_t equals = slice_find(pair, '=');
    if (!slice_equal((struct slice){pair.at, equals}, name)) continue;
    struct slice raw = slice_from(pair, equals + 1);
    size_t length = 0;
    for (size_t i = 0; i < raw.length; i++) {
      char c = raw.at[i];
      if (length == capacity) return false;
      if (c == '%' && i + 2 < raw.length + 0u) {
        unsigned number = 0;
        for (unsigned j = 1; j <= 2; j++) {
          char digit = slice_lower(raw.at[i + j]);
          if (!slice_is_digit(digit) && (digit < 'a' || digit > 'f')) return false;
          number = number * 16 + (unsigned)(slice_is_digit(digit) ? digit - '0' : digit - 'a' + 10);
        }
        c = (char)number;
        i += 2;
      }
      out[length++] = c;
    }
    *value = (struct slice){out, length};
    return true;
  }
  return false;
}
