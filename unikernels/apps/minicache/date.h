/* HTTP dates (RFC 9110 5.6.7) to and from seconds since 1970. Pure. */
#ifndef MINICACHE_DATE_H
#define MINICACHE_DATE_H

#include "slice.h"

#define DATE_BYTES 29u

/* False when it is none of the three forms. */
bool date_read(struct slice text, int64_t *seconds);

/* "Sun, 06 Nov 1994 08:49:37 GMT": 29 bytes, no terminator. */
void date_write(char text[DATE_BYTES], int64_t seconds);

#endif
