/* Formatting into any sink; what it understands is told at shoal_print in shoal.h. */
#ifndef KERNEL_FORMAT_H
#define KERNEL_FORMAT_H

#include "shoal.h"

/* Calls `put` with pieces of the text; returns the length of all. */
size_t format_to(void (*put)(void *context, const char *text, size_t length), void *context, const char *format,
                 va_list arguments);

#endif
