/* What Click's tests stand on: configurations taken and refused, handlers asked and told, time that passes, frames into devices and out of them. */
#ifndef TEST_CLICK_RIG_H
#define TEST_CLICK_RIG_H

#include "check.h"
#include "world.h"
#include <stdlib.h>
#include "loop.h"
#include "lwip/netif.h"
#include "../apps/click/bucket.h"
#include "../apps/click/requests.h"
#include "../apps/click/router.h"

#define NETS 2u
#define SENT 8u
#define MS 1000000ull

#include "../fuzz/click_world.h"

static struct errors errors;

static inline bool install(const char *text) { return requests_install((struct slice){text, strlen(text)}, &errors); }

static inline void turns(unsigned count) {
  for (unsigned i = 0; i < count; i++) loop_turn();
}

/* Time passes, a millisecond at a time. */
static inline void pass(unsigned ms) {
  for (unsigned i = 0; i < ms; i++) {
    world_now_ns += MS;
    turns(2);
  }
}

static char answer[8192];
static inline const char *ask(const char *name) {
  struct output out = {answer, 0, sizeof answer - 1, false};
  if (!handlers_read(router_running(), (struct slice){name, strlen(name)}, &out)) return "(refused)";
  answer[out.length] = '\0';
  return answer;
}
static inline bool tell(const char *name, const char *value) {
  struct output out = {answer, 0, sizeof answer - 1, false};
  return handlers_write(router_running(), (struct slice){name, strlen(name)}, (struct slice){value, strlen(value)}, &out);
}
#define SAYS(name, value) CHECK(strcmp(ask(name), value) == 0)

/* Refused, the first mistake being at that place and containing that text; what ran before runs on. */
static inline void refuses(const char *text, unsigned line, unsigned column, const char *why) {
  const struct router *before = router_running();
  bool sound = install(text);
  bool same = !sound && errors.count > 0 && errors.kept[0].place.line == line && errors.kept[0].place.column == column && strstr(errors.kept[0].text, why) != NULL;
  if (!same) fprintf(stderr, "%s\n  gave %s %u:%u: %s\n", text, sound ? "no mistake" : "", errors.kept[0].place.line, errors.kept[0].place.column, errors.kept[0].text);
  CHECK(same);
  CHECK(router_running() == before);
}

static inline void takes(const char *text) {
  bool sound = install(text);
  if (!sound) fprintf(stderr, "%s\n  gave %u:%u: %s\n", text, errors.kept[0].place.line, errors.kept[0].place.column, errors.kept[0].text);
  CHECK(sound);
}

/* Without anything of what ran before. */
static inline void fresh(const char *text) {
  router_replace(NULL);
  takes(text);
}

static inline void up(void) {
  static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
  for (unsigned i = 0; i < NETS; i++) {
    if (nets[i].events != NULL) nets[i].events->up(nets[i].context, mac);
    nets[i].full = false;
    nets[i].count = 0;
  }
}

static inline void receive(unsigned net, const void *frame, size_t length, uint32_t flags) { nets[net].events->frame(nets[net].context, frame, length, flags); }

__attribute__((unused)) static const uint8_t request[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1};

#endif
