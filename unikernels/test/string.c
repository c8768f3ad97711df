/* What the guest has of <string.h>, at every length around those where it changes its way, every alignment, every overlap. Compared byte by byte, for the
 * compiler must not take the same functions for the check. */
#define memcpy own_memcpy
#define memmove own_memmove
#define memset own_memset
#define memcmp own_memcmp
#define strlen own_strlen
#define strcmp own_strcmp
#define strncmp own_strncmp
#include "../platform/xen/string.c"
#include "check.h"
#include <stdbool.h>
#include <stdlib.h>

enum { LONGEST = SHORT_BYTES + 40, SHIFTS = 8, ROOM = LONGEST + 4 * SHIFTS };

static uint8_t before[ROOM], after[ROOM], expected[ROOM];

static void fill(void) {
  for (size_t i = 0; i < ROOM; i++) before[i] = (uint8_t)rand(), after[i] = expected[i] = (uint8_t)rand();
}

/* Also that nothing beside was touched. */
static bool as_expected(void) {
  for (size_t i = 0; i < ROOM; i++) {
    if (after[i] != expected[i]) return false;
  }
  return true;
}

static void copies(size_t count, size_t from, size_t to) {
  fill();
  for (size_t i = 0; i < count; i++) expected[to + i] = before[from + i];
  CHECK(own_memcpy(after + to, before + from, count) == after + to && as_expected());
  fill();
  for (size_t i = 0; i < count; i++) expected[to + i] = 0xa5;
  CHECK(own_memset(after + to, 0x7a5, count) == after + to && as_expected());
}

static void overlaps(size_t count, size_t from, size_t to) {
  fill();
  for (size_t i = 0; i < ROOM; i++) after[i] = expected[i] = before[i];
  for (size_t i = 0; i < count; i++) expected[to + i] = before[from + i];
  CHECK(own_memmove(after + to, after + from, count) == after + to && as_expected());
}

static void compares(size_t count) {
  fill();
  for (size_t i = 0; i < count; i++) after[i] = before[i];
  CHECK(own_memcmp(before, after, count) == 0);
  for (size_t i = 0; i < count; i += 1 + count / 5) {
    uint8_t was = after[i];
    after[i] = (uint8_t)(was + 1);
    CHECK((own_memcmp(before, after, count) < 0) == (was < after[i]) && own_memcmp(before, after, count) != 0);
    after[i] = was;
  }
}

int main(void) {
  for (size_t count = 0; count <= LONGEST; count++) {
    for (size_t from = 0; from < SHIFTS; from += 3) {
      for (size_t to = 0; to < SHIFTS; to++) copies(count, from, to);
    }
    for (size_t to = 0; to < 2 * SHIFTS; to++) overlaps(count, SHIFTS, to);
    compares(count);
  }
  CHECK(own_strlen("") == 0 && own_strlen("shoal") == 5);
  CHECK(own_strcmp("a", "a") == 0 && own_strcmp("a", "b") < 0 && own_strcmp("ab", "a") > 0 && own_strcmp("", "\xff") < 0);
  CHECK(own_strncmp("abc", "abd", 2) == 0 && own_strncmp("abc", "abd", 3) < 0 && own_strncmp("", "", 4) == 0);
  CHECK_END();
}
