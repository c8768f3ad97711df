/* The page allocator and the heap over it, on memory of the test's own: layout, reuse, exhaustion, and that misuse is noticed. */
#include "check.h"
#include <setjmp.h>
#include <stdlib.h>
#include "pages.h"

#define PAGES 64u

static jmp_buf panicked;

void shoal_panic(const char *format, ...) {
  (void)format;
  longjmp(panicked, 1);
}

static uint8_t *memory;
static uint8_t bitmap[PAGES / 8];

static void test_pages(void) {
  pages_init(memory, PAGES, bitmap);
  CHECK(pages_free_count() == 0 && pages_alloc(1) == NULL);
  pages_mark_free(0, PAGES);
  pages_mark_free(0, PAGES);
  pages_mark_taken(3, 1);
  CHECK(pages_free_count() == PAGES - 1);
  CHECK(pages_alloc(1) == memory);
  void *run = pages_alloc(4); /* does not fit before the taken page */
  CHECK(run == memory + 4 * PAGE_BYTES);
  CHECK(pages_alloc(2) == memory + PAGE_BYTES);
  memset(memory, 0xee, PAGES * PAGE_BYTES);
  pages_clear_free();
  CHECK(memory[0] == 0xee && memory[3 * PAGE_BYTES] == 0xee); /* taken */
  CHECK(memory[(PAGES - 1) * PAGE_BYTES] == 0 && memory[PAGES * PAGE_BYTES - 1] == 0);
  CHECK(pages_alloc(0) == NULL && pages_alloc(PAGES) == NULL);
  pages_free(run, 4);
  CHECK(pages_alloc(3) == run);
  if (setjmp(panicked) == 0) {
    pages_free(memory + 20 * PAGE_BYTES, 1);
    CHECK(!"a page that was free was freed");
  }
  if (setjmp(panicked) == 0) {
    pages_free(memory + 1, 1);
    CHECK(!"half a page was freed");
  }
}

static void test_heap(void) {
  enum { COUNT = 300 };
  static uint8_t *objects[COUNT];
  static size_t sizes[COUNT];
  pages_init(memory, PAGES, bitmap);
  pages_mark_free(0, PAGES);
  CHECK(shoal_alloc(PAGES * PAGE_BYTES) == NULL && shoal_alloc(SIZE_MAX) == NULL);
  shoal_free(NULL);
  srand(1);
  for (int turn = 0; turn < 20000; turn++) {
    int i = rand() % COUNT;
    if (objects[i] != NULL) {
      for (size_t at = 0; at < sizes[i]; at++) {
        if (objects[i][at] != (uint8_t)i) {
          CHECK(!"an object kept its bytes");
          return;
        }
      }
      shoal_free(objects[i]);
      objects[i] = NULL;
    } else {
      sizes[i] = (size_t)(rand() % 3 == 0 ? rand() % 6000 : rand() % 300);
      objects[i] = shoal_alloc(sizes[i]);
      if (objects[i] == NULL) continue;
      if ((uintptr_t)objects[i] % 16 != 0) CHECK(!"aligned");
      memset(objects[i], i, sizes[i]);
    }
  }
  for (int i = 0; i < COUNT; i++) {
    shoal_free(objects[i]);
    objects[i] = NULL;
  }
  /* One empty slab a size class may stay. */
  CHECK(pages_free_count() >= PAGES - 10);
  uint8_t *object = shoal_alloc(100), *keep = shoal_alloc(100);
  shoal_free(object);
  if (setjmp(panicked) == 0) {
    shoal_free(keep + 1);
    CHECK(!"half an object was freed");
  }
  size_t count = 0;
  while (shoal_alloc(2000) != NULL) count++;
  CHECK(count >= (PAGES - 12) * 2 && pages_free_count() == 0);
}

int main(void) {
  memory = aligned_alloc(PAGE_BYTES, PAGES * PAGE_BYTES);
  test_pages();
  test_heap();
  free(memory);
  CHECK_END();
}
