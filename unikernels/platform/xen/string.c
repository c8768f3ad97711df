/* The compiler's own calls and the few of <string.h> the guest uses. Eight bytes at a time, a frame's worth of them by plain moves, for string
 * instructions take long to begin; no vector registers, whose state the kernel does not keep. Names in parentheses are no macros (string.h). */
#include <string.h>
#include <stdint.h>

/* Up to here by plain moves. */
#define SHORT_BYTES 256u
/* Or the compiler finds that these loops are what they are the bodies of. */
#define AS_WRITTEN __attribute__((optimize("no-tree-loop-distribute-patterns")))

typedef uint64_t __attribute__((may_alias, aligned(1))) word;
typedef uint32_t __attribute__((may_alias, aligned(1))) half;

static void *copy_forward(void *to, const void *from, size_t count) {
  void *at = to;
  size_t words = count / 8, rest = count % 8;
  __asm__ volatile("rep movsq; mov %[rest], %%rcx; rep movsb"
                   : "+D"(at), "+S"(from), "+c"(words)
                   : [rest] "r"(rest)
                   : "memory");
  return to;
}

AS_WRITTEN void *(memcpy)(void *restrict to, const void *restrict from, size_t count) {
  uint8_t *at = to;
  const uint8_t *source = from;
  if (count > SHORT_BYTES) return copy_forward(to, from, count);
  if (count >= 8) {
    for (size_t i = 0; i + 8 < count; i += 8) *(word *)(at + i) = *(const word *)(source + i);
    *(word *)(at + count - 8) = *(const word *)(source + count - 8);
  } else if (count >= 4) {
    half first = *(const half *)source, last = *(const half *)(source + count - 4);
    *(half *)at = first;
    *(half *)(at + count - 4) = last;
  } else {
    for (size_t i = 0; i < count; i++) at[i] = source[i];
  }
  return to;
}

void *memmove(void *to, const void *from, size_t count) {
  if ((uintptr_t)to - (uintptr_t)from >= count) return copy_forward(to, from, count);
  uint8_t *last_to = (uint8_t *)to + count - 1;
  const uint8_t *last_from = (const uint8_t *)from + count - 1;
  __asm__ volatile("std; rep movsb; cld" : "+D"(last_to), "+S"(last_from), "+c"(count) : : "memory", "cc");
  return to;
}

AS_WRITTEN void *(memset)(void *to, int value, size_t count) {
  const uint64_t all = 0x0101010101010101ull * (uint8_t)value;
  uint8_t *at = to;
  if (count <= SHORT_BYTES) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) *(word *)(at + i) = all;
    for (; i < count; i++) at[i] = (uint8_t)value;
    return to;
  }
  void *end = to;
  size_t words = count / 8, rest = count % 8;
  __asm__ volatile("rep stosq; mov %[rest], %%rcx; rep stosb"
                   : "+D"(end), "+c"(words)
                   : "a"(all), [rest] "r"(rest)
                   : "memory");
  return to;
}

int (memcmp)(const void *left, const void *right, size_t count) {
  const uint8_t *a = left, *b = right;
  for (size_t i = 0; i < count; i++) {
    if (a[i] != b[i]) return a[i] - b[i];
  }
  return 0;
}

size_t strlen(const char *text) {
  const char *end = text;
  while (*end != '\0') end++;
  return (size_t)(end - text);
}

int strcmp(const char *left, const char *right) {
  while (*left != '\0' && *left == *right) left++, right++;
  return (unsigned char)*left - (unsigned char)*right;
}

int strncmp(const char *left, const char *right, size_t count) {
  for (; count > 0 && *left != '\0' && *left == *right; count--) left++, right++;
  return count == 0 ? 0 : (unsigned char)*left - (unsigned char)*right;
}
