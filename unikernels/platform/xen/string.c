/* The compiler's own calls and the few of <string.h> the guest uses. Eight bytes at a time by string instructions: no vector
 * registers, whose state the kernel does not keep. */
#include <string.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
  void *at = to;
  size_t words = count / 8, rest = count % 8;
  __asm__ volatile("rep movsq; mov %[rest], %%rcx; rep movsb"
                   : "+D"(at), "+S"(from), "+c"(words)
                   : [rest] "r"(rest)
                   : "memory");
  return to;
}

void *memmove(void *to, const void *from, size_t count) {
  if ((uintptr_t)to - (uintptr_t)from >= count) return memcpy(to, from, count);
  uint8_t *last_to = (uint8_t *)to + count - 1;
  const uint8_t *last_from = (const uint8_t *)from + count - 1;
  __asm__ volatile("std; rep movsb; cld" : "+D"(last_to), "+S"(last_from), "+c"(count) : : "memory", "cc");
  return to;
}

void *memset(void *to, int value, size_t count) {
  void *at = to;
  size_t words = count / 8, rest = count % 8;
  __asm__ volatile("rep stosq; mov %[rest], %%rcx; rep stosb"
                   : "+D"(at), "+c"(words)
                   : "a"(0x0101010101010101ull * (uint8_t)value), [rest] "r"(rest)
                   : "memory");
  return to;
}

int memcmp(const void *left, const void *right, size_t count) {
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
