/* Checks for the kernel's own tests: say what failed and where, count, go on. */
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <stdio.h>

static unsigned check_failures, check_count;

#define CHECK(condition)                                                        \
  do {                                                                          \
    check_count++;                                                              \
    if (!(condition)) {                                                         \
      check_failures++;                                                         \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);   \
    }                                                                           \
  } while (0)

/* The end of main. */
#define CHECK_END()                                                             \
  do {                                                                          \
    printf("%u checks, %u failed\n", check_count, check_failures);              \
    return check_failures == 0 ? 0 : 1;                                         \
  } while (0)

#endif
