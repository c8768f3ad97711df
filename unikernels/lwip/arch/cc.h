/* What lwIP asks of the compiler and the platform. */
#ifndef LWIP_ARCH_CC_H
#define LWIP_ARCH_CC_H

#include <stddef.h>
#include <stdint.h>

#define LWIP_NO_INTTYPES_H 1
#define LWIP_NO_UNISTD_H 1
#define LWIP_NO_CTYPE_H 1
#define X8_F "x"
#define U16_F "u"
#define S16_F "d"
#define X16_F "x"
#define U32_F "u"
#define S32_F "d"
#define X32_F "x"
#define SZT_F "zu"
/* The guest has no <limits.h> and no ssize_t of its own; the Linux build takes the system's. */
#if __STDC_HOSTED__
#include <limits.h>
#include <sys/types.h>
#else
#define LWIP_NO_LIMITS_H 1
#define SSIZE_MAX INT64_MAX
#define INT_MAX __INT_MAX__
typedef int64_t ssize_t;
#endif

#ifndef BYTE_ORDER
#define LITTLE_ENDIAN 1234
#define BIG_ENDIAN 4321
#define BYTE_ORDER LITTLE_ENDIAN
#endif

void shoal_print(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void shoal_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint32_t ip_random(void);

#define LWIP_PLATFORM_DIAG(message) do { shoal_print message; } while (0)
#define LWIP_PLATFORM_ASSERT(message) shoal_panic("lwip: %s", message)
#define LWIP_RAND() ip_random()

#endif
