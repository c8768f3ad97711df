/*
 * A world for the kernel to live in while it is tested or fuzzed on Linux: everything the kernel asks of a platform, with the
 * clock, the memory and the other ends of grants and events in the harness's hands. A panic aborts, which is what a fuzzer looks
 * for.
 */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include "shoal.h"
#include <setjmp.h>
#include <xen/xen.h>
#include <xen/grant_table.h>

/* The clock; moves when the harness moves it. */
extern uint64_t world_now_ns;

/* Where the guest goes when it shuts down: to be set by harnesses in which it can. */
extern jmp_buf world_end;

/* Allocations that still succeed; negative: all. */
extern int world_allocations_left;

/* Text the kernel printed last, for tests. */
extern char world_console[4096];
extern size_t world_console_length;

/* Notifications sent since the last reset. */
extern unsigned world_notifications;

/* When set, every grant_end fails, as if the other end kept its mappings. */
extern bool world_grants_stuck;

/* The page behind a grant; NULL: none is in force. For backends of tests that look into it. */
const void *world_granted_page(uint32_t reference, bool *readonly);

/* Grants in force, listening ports open, pages taken. */
extern unsigned world_grants, world_ports, world_pages;

/* As at the beginning: clock, counters, console, grants, ports, and every page that was not given back. */
void world_reset(void);

/* As in a new domain: no grant, no open port, no handler; memory, clock and console stay. */
void world_new_domain(void);

/* Suspensions asked for. */
extern unsigned world_suspensions;

/* Runs the handler bound to `port`. */
void world_fire(uint32_t port);

/* A reader of fuzz input; past the end everything is 0. */
struct input {
  const uint8_t *at, *end;
};

static inline uint8_t input_byte(struct input *input) { return input->at < input->end ? *input->at++ : 0; }

static inline uint32_t input_word(struct input *input) {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++) value = value << 8 | input_byte(input);
  return value;
}

/* Up to `most` bytes, length first; returns how many. */
static inline size_t input_bytes(struct input *input, void *to, size_t most) {
  size_t want = (size_t)input_byte(input) << 8 | input_byte(input);
  size_t there = (size_t)(input->end - input->at);
  if (want > most) want = most;
  if (want > there) want = there;
  memcpy(to, input->at, want);
  input->at += want;
  return want;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
