/* Included by lwIP's sources; declares what they mention, of which nothing is linked into a guest. */
#ifndef LIBC_STDLIB_H
#define LIBC_STDLIB_H

#include <stddef.h>

int atoi(const char *text);

#endif
