/* See memory_hold.h. */
#include "memory_hold.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memory_stream.h"

/* The guest may write more pages before it suspends itself. */
#define MORE_BYTES PIECE_BYTES_MAX
/* Between two looks: the guest may wait for this very processor. */
#define LOOK_NS 50000

struct memory_hold {
  uint8_t *bytes; /* pieces, each behind its length (size_t) */
  size_t room, length, at;
  uint8_t *state; /* NULL: it is not full */
  size_t state_length;
};

static int make_room(struct memory_hold *hold, size_t room, struct failure *failure)
{
  uint8_t *grown;

  if (room <= hold->room) return 0;
  grown = realloc(hold->bytes, room);
  if (!grown) return failed(failure, "malloc");
  memset(grown + hold->room, 0, room - hold->room);
  hold->bytes = grown;
  hold->room = room;
  return 0;
}

/* A pass of the reader. */
static int copy_all(struct memory_hold *hold, struct memory_reader *reader, struct failure *failure)
{
  size_t length;

  hold->length = hold->at = 0;
  do {
    if (make_room(hold, hold->length + sizeof length + PIECE_BYTES_MAX, failure)) return -1;
    length = memory_reader_piece(reader, hold->bytes + hold->length + sizeof length);
    memcpy(hold->bytes + hold->length, &length, sizeof length);
    hold->length += sizeof length + length;
  } while (length > 0);
  return 0;
}

struct memory_hold *memory_hold_new(struct memory_reader *reader, struct failure *failure)
{
  struct memory_hold *hold = calloc(1, sizeof *hold);

  if (!hold) {
    failed(failure, "calloc");
    return NULL;
  }
  if (!copy_all(hold, reader, failure) && !make_room(hold, hold->room + MORE_BYTES, failure)) return hold;
  memory_hold_free(hold);
  return NULL;
}

void memory_hold_free(struct memory_hold *hold)
{
  if (!hold) return;
  free(hold->bytes);
  free(hold->state);
  free(hold);
}

static uint64_t now_us(void)
{
  struct timespec t;

  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* 1: it suspended itself. */
static int wait_for(struct control *control, uint16_t domid, unsigned wait_us, struct failure *failure)
{
  const struct timespec pause = { .tv_nsec = LOOK_NS };
  uint64_t until = now_us() + wait_us;

  for (;;) {
    struct domain_facts facts;
    int status = control_domain(control, domid, &facts, failure);

    if (status) return status < 0 ? -1 : failed_with(failure, "memory", ESRCH);
    if (facts.flags & DOMAIN_SHUTDOWN) return facts.shutdown_reason == SHUTDOWN_REASON_SUSPEND;
    if (now_us() >= until) return 0;
    nanosleep(&pause, NULL);
  }
}

int memory_hold_take(struct memory_hold *hold, struct memory_reader *reader, struct control *control, uint16_t domid, unsigned wait_us, struct failure *failure)
{
  struct failure then;
  int status = wait_for(control, domid, wait_us, failure);

  if (status <= 0) return status;
  status = memory_reader_again(reader, failure) || copy_all(hold, reader, failure) ? -1 : 0;
  if (!status) {
    free(hold->state);
    hold->state = memory_reader_state(reader, &hold->state_length, failure);
    if (!hold->state) status = -1;
  }
  if (control_resume(control, domid, &then)) {
    if (!status) *failure = then;
    status = -1;
  }
  return status ? -1 : 1;
}

int memory_hold_is_full(const struct memory_hold *hold) { return hold && hold->state; }

size_t memory_hold_piece(struct memory_hold *hold, const uint8_t **piece)
{
  size_t length;

  memcpy(&length, hold->bytes + hold->at, sizeof length);
  *piece = hold->bytes + hold->at + sizeof length;
  if (length > 0) hold->at += sizeof length + length;
  return length;
}

const uint8_t *memory_hold_state(const struct memory_hold *hold, size_t *length)
{
  *length = hold->state_length;
  return hold->state;
}
