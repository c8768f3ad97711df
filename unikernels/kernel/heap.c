/*
 * shoal_alloc over pages. Small sizes come from slabs (one page cut into equal objects), larger ones are whole pages. Every page
 * starts with a header, so an object finds its slab by its address and a stray pointer is noticed. Constant time but for the page
 * scan; an empty slab goes back to the pages unless it is the last of its class, so that a lone object does not make pages flap.
 */
#include "pages.h"

#define CLASSES (sizeof class_bytes / sizeof *class_bytes)
#define SLAB_MAGIC 0x51ab51abu
#define RUN_MAGIC 0x9a6e9a6eu

/* Chosen for what lwIP asks: control blocks (100 to 250 bytes), small segments, full frames (two a page). */
static const uint16_t class_bytes[] = {32, 64, 96, 128, 192, 256, 384, 576, 992, 2016};

struct page_header {
  uint32_t magic;
  uint16_t class; /* of a slab */
  uint16_t used;  /* objects of a slab */
  union {
    void *free;   /* of a slab: objects linked by their first word */
    size_t pages; /* of a run */
  };
  struct page_header *next, *previous; /* slabs of one class with room */
};
_Static_assert(sizeof(struct page_header) == 32, "objects start 16-byte aligned");

static struct page_header *with_room[CLASSES];

static void link_slab(struct page_header *slab) {
  slab->previous = NULL;
  slab->next = with_room[slab->class];
  if (slab->next != NULL) slab->next->previous = slab;
  with_room[slab->class] = slab;
}

static void unlink_slab(struct page_header *slab) {
  if (slab->previous != NULL) slab->previous->next = slab->next;
  else with_room[slab->class] = slab->next;
  if (slab->next != NULL) slab->next->previous = slab->previous;
}

static struct page_header *new_slab(size_t class) {
  struct page_header *slab = pages_alloc(1);
  if (slab == NULL) return NULL;
  slab->magic = SLAB_MAGIC;
  slab->class = (uint16_t)class;
  slab->used = 0;
  slab->free = NULL;
  size_t size = class_bytes[class];
  for (size_t at = sizeof *slab + (PAGE_BYTES - sizeof *slab) / size * size; at > sizeof *slab;) {
    at -= size;
    void **object = (void **)((uint8_t *)slab + at);
    *object = slab->free;
    slab->free = object;
  }
  link_slab(slab);
  return slab;
}

static void *alloc_run(size_t size) {
  size_t count = (size + sizeof(struct page_header) + PAGE_BYTES - 1) / PAGE_BYTES;
  struct page_header *run = pages_alloc(count);
  if (run == NULL) return NULL;
  run->magic = RUN_MAGIC;
  run->pages = count;
  return run + 1;
}

void *shoal_alloc(size_t size) {
  if (size > SIZE_MAX / 2) return NULL;
  size_t class = 0;
  while (class < CLASSES && class_bytes[class] < size) class++;
  if (class == CLASSES) return alloc_run(size);
  struct page_header *slab = with_room[class];
  if (slab == NULL) slab = new_slab(class);
  if (slab == NULL) return NULL;
  void **object = slab->free;
  slab->free = *object;
  slab->used++;
  if (slab->free == NULL) unlink_slab(slab);
  return object;
}

void shoal_free(void *memory) {
  if (memory == NULL) return;
  struct page_header *header = (struct page_header *)((uintptr_t)memory & ~(PAGE_BYTES - 1));
  size_t offset = (uintptr_t)memory % PAGE_BYTES;
  if (header->magic == RUN_MAGIC && offset == sizeof *header) {
    header->magic = 0;
    pages_free(header, header->pages);
    return;
  }
  if (header->magic != SLAB_MAGIC || offset < sizeof *header || (offset - sizeof *header) % class_bytes[header->class] != 0 ||
      header->used == 0) {
    shoal_panic("heap: %p is not an allocation", memory);
  }
  bool was_full = header->free == NULL;
  *(void **)memory = header->free;
  header->free = memory;
  header->used--;
  if (was_full) link_slab(header);
  if (header->used == 0 && (header->next != NULL || header->previous != NULL)) {
    unlink_slab(header);
    header->magic = 0;
    pages_free(header, 1);
  }
}

struct shoal_memory shoal_memory(void) {
  return (struct shoal_memory){pages_total_count() * PAGE_BYTES, pages_free_count() * PAGE_BYTES};
}
