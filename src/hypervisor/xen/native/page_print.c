/* See page_print.h. */
#include "page_print.h"

#include "layout.h"

static uint64_t turn(uint64_t sum, uint64_t word)
{
  sum = (sum ^ word) * 0x9e3779b97f4a7c15ull;
  return sum ^ sum >> 29;
}

struct print print_of(const uint8_t *page)
{
  const uint64_t *words = (const uint64_t *)(const void *)page;
  uint64_t sums[4] = { 1, 2, 3, 4 };

  for (unsigned i = 0; i < PAGE_BYTES / sizeof *words; i += 4)
    for (unsigned lane = 0; lane < 4; lane++) sums[lane] = turn(sums[lane], words[i + lane]);
  return (struct print){ turn(turn(sums[0], sums[1]), sums[2]) | 1, turn(turn(sums[3], sums[0]), sums[2]) };
}
