/* The access log: a ring of the latest answers, taken out by the admin port. What nobody takes out gives way. */
#ifndef MINICACHE_LOG_H
#define MINICACHE_LOG_H

#include "text.h"
#include "viewer.h"

void log_add(const struct viewer *viewer);
/* Takes out the oldest lines, as many as fit. */
void log_drain(struct text *text);

#endif
