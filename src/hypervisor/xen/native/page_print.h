/* What a page looked like when it was sent, in 128 bits. Whoever makes two pages with the same ones loses a change in a guest of his own. */
#ifndef SHOAL_PAGE_PRINT_H
#define SHOAL_PAGE_PRINT_H

#include <stdint.h>

/* Never {0, 0}, which may stand for a page of zeroes. */
struct print {
  uint64_t a, b;
};

struct print print_of(const uint8_t *page);

#endif
