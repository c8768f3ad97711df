/* The command line as words, and the forms of addresses that the kernel itself reads. Pure: bytes in, values out. */
#ifndef KERNEL_CONFIG_H
#define KERNEL_CONFIG_H

#include "shoal.h"

/* Longest command line, its terminator included (Xen's MAX_GUEST_CMDLINE). What is beyond is cut off. */
#define CONFIG_LINE_BYTES 1024u
#define CONFIG_WORDS 64u

/* Takes at most `size` bytes up to the first NUL. Called again, it forgets what it took before. */
void config_init(const char *line, size_t size);

/* What config_init took last says the same. */
bool config_is(const char *line, size_t size);

/* "A.B.C.D", four decimal numbers without leading zeros, to host byte order. */
bool config_parse_ipv4(const char *text, uint32_t *address);

/* "A.B.C.D/LEN" of a host: LEN 1 to 32, an address that a host can have in that network. */
bool config_parse_host(const char *text, uint32_t *address, uint32_t *mask);

/* "xx:xx:xx:xx:xx:xx" of one station (no group address). */
bool config_parse_mac(const char *text, uint8_t mac[6]);

/* The host changes the addresses of device 0 while the guest runs: `change` gets them in network order, and says whether they were taken. */
void config_listen(bool (*change)(const uint32_t *addresses, size_t count));

/* Passes them on; false where nobody listens. */
bool config_readdress(const uint32_t *addresses, size_t count);

#endif
