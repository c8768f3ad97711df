/* See slice.h. */
#include "slice.h"

bool slice_next(struct slice *list, struct slice *element) {
  while (list->length > 0) {
    size_t end = 0;
    bool quoted = false;
    for (; end < list->length && (quoted || list->at[end] != ','); end++) {
      if (list->at[end] == '"') quoted = !quoted;
      else if (list->at[end] == '\\' && quoted && end + 1 < list->length) end++;
    }
    *element = slice_trim((struct slice){list->at, end});
    *list = slice_from(*list, end + 1);
    if (element->length > 0) return true;
  }
  return false;
}

bool slice_list_has(struct slice list, struct slice token) {
  struct slice element;
  while (slice_next(&list, &element)) {
    if (slice_same(element, token)) return true;
  }
  return false;
}
