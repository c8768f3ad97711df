/*
 * How C says what went wrong: the call that failed and its errno. Every function that can fail returns 0 or -1 and fills one of these, so
 * that the error an operator sees names the hypercall or system call itself and not the layer that happened to make it.
 */
#ifndef SHOAL_FAILURE_H
#define SHOAL_FAILURE_H

#include <errno.h>

struct failure {
  const char *call; /* a string constant */
  int error;        /* errno, positive */
};

static inline int failed_with(struct failure *failure, const char *call, int error)
{
  failure->call = call;
  failure->error = error;
  return -1;
}

static inline int failed(struct failure *failure, const char *call)
{
  return failed_with(failure, call, errno);
}

#endif
