/* Tests in TAP of a checkpoint in one stroke, over a reader and a hypervisor of its own. Run by native.test.ts under sanitizers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory_hold.h"
#include "memory_stream.h"

static int number, failures;

static void ok(int good, const char *what)
{
  printf("%sok %d - %s\n", good ? "" : "not ", ++number, what);
  if (!good) failures++;
}

/* ---- a guest: its pieces are of one letter each ---- */

struct memory_reader { const char *letters; size_t at, length; };

static struct memory_reader reader;
static int looks_left, reason, fails_again, fails_resume, gone, resumed;
static char trail[64];

static void did(const char *what) { strncat(trail, what, sizeof trail - strlen(trail) - 1); }

size_t memory_reader_piece(struct memory_reader *r, uint8_t *piece)
{
  if (!r->letters[r->at]) {
    r->at = 0;
    return 0;
  }
  memset(piece, r->letters[r->at++], r->length);
  return r->length;
}

int memory_reader_again(struct memory_reader *r, struct failure *failure)
{
  did("again ");
  r->at = 0;
  return fails_again ? failed_with(failure, "memory", EINVAL) : 0;
}

uint8_t *memory_reader_state(const struct memory_reader *r, size_t *length, struct failure *failure)
{
  uint8_t *state = malloc(2);

  (void)r, (void)failure;
  did("state ");
  memcpy(state, "s", 2);
  *length = 2;
  return state;
}

int control_domain(struct control *control, uint16_t domid, struct domain_facts *facts, struct failure *failure)
{
  (void)control, (void)failure;
  memset(facts, 0, sizeof *facts);
  if (gone) return 1;
  if (looks_left > 0) {
    looks_left--;
    return domid != 7;
  }
  facts->flags = DOMAIN_SHUTDOWN;
  facts->shutdown_reason = (uint8_t)reason;
  return domid != 7;
}

int control_resume(struct control *control, uint16_t domid, struct failure *failure)
{
  (void)control;
  did("resume");
  resumed = domid;
  return fails_resume ? failed_with(failure, "XEN_DOMCTL_resumedomain", EPERM) : 0;
}

static struct memory_hold *fresh(const char *letters, size_t length)
{
  struct failure failure;

  reader = (struct memory_reader){ .letters = letters, .length = length };
  looks_left = fails_again = fails_resume = gone = resumed = 0;
  reason = SHUTDOWN_REASON_SUSPEND;
  trail[0] = 0;
  return memory_hold_new(&reader, &failure);
}

static int has(struct memory_hold *hold, const char *letters, size_t length)
{
  const uint8_t *piece;
  size_t got;

  for (; *letters; letters++) {
    got = memory_hold_piece(hold, &piece);
    if (got != length || piece[0] != (uint8_t)*letters || piece[length - 1] != (uint8_t)*letters) return 0;
  }
  return memory_hold_piece(hold, &piece) == 0 && memory_hold_piece(hold, &piece) == 0;
}

int main(void)
{
  struct failure failure = { 0 };
  struct memory_hold *hold = fresh("abc", 1000);
  size_t length;

  looks_left = 5;
  ok(hold && !memory_hold_is_full(hold), "there is room, and nothing is held yet");
  reader.letters = "xyz";
  ok(memory_hold_take(hold, &reader, NULL, 7, 1000000, &failure) == 1 && !strcmp(trail, "again state resume") && resumed == 7, "waited for, read, and let go on");
  ok(memory_hold_is_full(hold) && has(hold, "xyz", 1000), "what it was as it stood still is held, not what it was before");
  ok(!strcmp((const char *)memory_hold_state(hold, &length), "s") && length == 2, "with its state");
  memory_hold_free(hold);

  hold = fresh("a", 10);
  reader.letters = "bcdefghijk";
  reader.length = PIECE_BYTES_MAX;
  ok(memory_hold_take(hold, &reader, NULL, 7, 0, &failure) == 1 && has(hold, "bcdefghijk", PIECE_BYTES_MAX), "one that grew much since has room");
  memory_hold_free(hold);

  hold = fresh("a", 10);
  looks_left = 1 << 30;
  ok(memory_hold_take(hold, &reader, NULL, 7, 2000, &failure) == 0 && !strcmp(trail, ""), "one that runs on is not touched");
  looks_left = 0;
  ok(memory_hold_take(hold, &reader, NULL, 7, 0, &failure) == 1, "and may be asked about again");
  memory_hold_free(hold);

  hold = fresh("a", 10);
  reason = SHUTDOWN_REASON_SUSPEND + 1;
  ok(memory_hold_take(hold, &reader, NULL, 7, 1000000, &failure) == 0 && !resumed && !memory_hold_is_full(hold), "one that crashed is not let go on");
  gone = 1;
  ok(memory_hold_take(hold, &reader, NULL, 7, 0, &failure) == -1 && failure.error == ESRCH && !resumed, "nor one that is gone");
  memory_hold_free(hold);

  hold = fresh("a", 10);
  fails_again = 1;
  ok(memory_hold_take(hold, &reader, NULL, 7, 0, &failure) == -1 && failure.error == EINVAL && resumed == 7 && !memory_hold_is_full(hold), "one that cannot be read goes on");
  fails_resume = 1;
  ok(memory_hold_take(hold, &reader, NULL, 7, 0, &failure) == -1 && failure.error == EINVAL, "and what is told is why it could not be read");
  fails_again = 0;
  ok(memory_hold_take(hold, &reader, NULL, 7, 0, &failure) == -1 && failure.error == EPERM, "that it cannot go on is told");
  memory_hold_free(hold);
  memory_hold_free(NULL);
  printf("1..%d\n", number);
  return failures != 0;
}
