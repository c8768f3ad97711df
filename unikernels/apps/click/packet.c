/*
 * Buffers of packets: taken from the guest's memory 16 at a time as they are needed, never given back, so that a packet costs a few
 * instructions. Under AddressSanitizer what lies outside of a packet's bytes is poisoned, so that an element that reads beyond shows.
 */
#include "packet.h"

#if defined(__SANITIZE_ADDRESS__)
#define CLICK_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CLICK_POISON 1
#endif
#endif

#ifdef CLICK_POISON
#include <sanitizer/asan_interface.h>
#define POISON(at, bytes) __asan_poison_memory_region(at, bytes)
#define UNPOISON(at, bytes) __asan_unpoison_memory_region(at, bytes)
#else
#define POISON(at, bytes) ((void)(at), (void)(bytes))
#define UNPOISON(at, bytes) ((void)(at), (void)(bytes))
#endif

#define CHUNK_BUFFERS 16u

static struct packet *free_list;
static uint32_t buffers, in_use, limit = UINT32_MAX;
static uint64_t made, refused;

/* Only the packet's own bytes can be touched. Shadow memory knows groups of 8 bytes, of each the first ones: what lies before the data is left
 * open up to 7 bytes. */
static void fence(struct packet *packet) {
  uint8_t *room = packet_room(packet), *start = packet->data - ((uintptr_t)packet->data & 7), *end = packet_end(packet);
  UNPOISON(room, PACKET_ROOM);
  if (start > room) POISON(room, (size_t)(start - room));
  POISON(end, (size_t)(room + PACKET_ROOM - end));
}

static void more(void) {
  uint8_t *chunk = buffers >= limit ? NULL : shoal_alloc(CHUNK_BUFFERS * PACKET_BUFFER_BYTES);
  for (unsigned i = 0; chunk != NULL && i < CHUNK_BUFFERS; i++) {
    struct packet *packet = (struct packet *)(chunk + i * PACKET_BUFFER_BYTES);
    packet->next = free_list;
    free_list = packet;
    buffers++;
  }
}

struct packet *packet_new(uint32_t headroom, uint32_t length) {
  if (headroom > PACKET_ROOM || length > PACKET_ROOM - headroom) return NULL;
  if (free_list == NULL && in_use < limit) more();
  struct packet *packet = in_use < limit ? free_list : NULL;
  if (packet == NULL) {
    refused++;
    return NULL;
  }
  free_list = packet->next;
  in_use++;
  made++;
  memset(packet, 0, sizeof *packet);
  packet->data = packet_room(packet) + headroom;
  packet->length = length;
  fence(packet);
  return packet;
}

void packet_free(struct packet *packet) {
  if (packet == NULL) return;
  if (in_use == 0) shoal_panic("click: a packet was freed twice");
  UNPOISON(packet_room(packet), PACKET_ROOM);
  POISON(packet_room(packet), PACKET_ROOM);
  packet->next = free_list;
  free_list = packet;
  in_use--;
}

/* The same place in another buffer. */
static uint8_t *moved(const struct packet *from, struct packet *to, const uint8_t *mark) {
  return mark == NULL ? NULL : to->data + (mark - from->data);
}

struct packet *packet_copy(const struct packet *packet) {
  struct packet *copy = packet_new(packet_headroom(packet), packet->length);
  if (copy == NULL) return NULL;
  uint8_t *data = copy->data;
  *copy = *packet;
  copy->next = NULL;
  copy->data = data;
  copy->network = moved(packet, copy, packet->network);
  copy->transport = moved(packet, copy, packet->transport);
  memcpy(data, packet->data, packet->length);
  return copy;
}

/* The bytes lie `by` further on. */
static void slide(struct packet *packet, ptrdiff_t by) {
  UNPOISON(packet_room(packet), PACKET_ROOM);
  memmove(packet->data + by, packet->data, packet->length);
  packet->data += by;
  /* A mark that pointed before the data could leave the buffer. */
  packet->network = packet->network == NULL || packet->network < packet->data - by ? NULL : packet->network + by;
  packet->transport = packet->transport == NULL || packet->transport < packet->data - by ? NULL : packet->transport + by;
}

bool packet_push(struct packet *packet, uint32_t bytes) {
  uint32_t head = packet_headroom(packet);
  if (bytes > head) {
    uint32_t tail = packet_tailroom(packet);
    if (bytes > head + tail) return false;
    slide(packet, bytes - head);
  }
  packet->data -= bytes;
  packet->length += bytes;
  fence(packet);
  return true;
}

bool packet_put(struct packet *packet, uint32_t bytes) {
  if (bytes > packet_tailroom(packet)) return false;
  packet->length += bytes;
  fence(packet);
  return true;
}

bool packet_pull(struct packet *packet, uint32_t bytes) {
  if (bytes > packet->length) return false;
  packet->data += bytes;
  packet->length -= bytes;
  fence(packet);
  return true;
}

bool packet_take(struct packet *packet, uint32_t bytes) {
  if (bytes > packet->length) return false;
  packet->length -= bytes;
  fence(packet);
  return true;
}

struct packet_counts packet_counts(void) { return (struct packet_counts){.in_use = in_use, .limit = limit, .made = made, .refused = refused}; }

void packet_set_limit(uint32_t most) { limit = most; }

uint32_t checksum_add(const uint8_t *bytes, size_t length, uint32_t sum) {
  /* Eight bytes at a time in the machine's order: the sum of swapped words is the swapped sum (RFC 1071, 2). */
  uint64_t wide = 0;
  size_t i = 0;
  for (; i + 8 <= length; i += 8) {
    uint64_t word;
    memcpy(&word, bytes + i, 8);
    wide += word;
    wide += wide < word;
  }
  wide = (wide & 0xffffffff) + (wide >> 32);
  wide = (wide & 0xffff) + (wide >> 16 & 0xffff) + (wide >> 32);
  wide = (wide & 0xffff) + (wide >> 16);
  wide = (wide & 0xffff) + (wide >> 16);
  uint32_t total = __builtin_bswap16((uint16_t)wide) + (sum & 0xffff) + (sum >> 16);
  for (; i + 1 < length; i += 2) total += get16(bytes + i);
  if (i < length) total += (uint32_t)bytes[i] << 8;
  total = (total & 0xffff) + (total >> 16);
  return (total & 0xffff) + (total >> 16);
}

void batch_move(struct batch *to, struct batch *from, uint32_t count) {
  if (count >= from->count) {
    batch_join(to, from);
    return;
  }
  for (; count > 0; count--) batch_add(to, batch_take(from));
}

void batch_free(struct batch *batch) {
  struct packet *packet = batch->first;
  while (packet != NULL) {
    struct packet *next = packet->next;
    packet_free(packet);
    packet = next;
  }
  *batch = BATCH_EMPTY;
}
