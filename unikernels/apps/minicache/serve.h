/* A request becomes an answer: which one, and from where. */
#ifndef MINICACHE_SERVE_H
#define MINICACHE_SERVE_H

#include "viewer.h"

/* The head is whole, or refused with `status`. */
void serve_request(struct viewer *viewer, int status);
/* Once more, after what it waited for was no help. */
void serve_again(struct viewer *viewer);
/* The answer is over: counts and logs it. */
void serve_count(struct viewer *viewer);

#endif
