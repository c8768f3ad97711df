/*
 * A configuration of any bytes, then frames of any bytes through it: the text up to the first NUL is installed; if it is taken, what reads back flat
 * must be taken too, with the same elements; then the rest of the input is frames at its devices, time, handlers, another configuration in
 * its place, with memory short now and then. All packets must be back in the end.
 */
#include "world.h"
#include <stdio.h>
#include <stdlib.h>
#include "loop.h"
#include "lwip/netif.h"
#include "../apps/click/router.h"
#include "../apps/click/requests.h"

#define NETS 4u
#define SENT 1u
#define TEXT_BYTES 4096u

#include "click_world.h"

static void turns(void) {
  for (int i = 0; i < 8; i++) loop_turn();
}

static void check_flat(void) {
  struct errors errors = {.count = 0};
  size_t room = 1 << 20;
  struct output flat = {malloc(room), 0, room, false};
  if (!handlers_read(router_running(), SLICE("flatconfig"), &flat)) abort();
  struct router *again = flat.full || flat.length > 262144 ? NULL : router_build((struct slice){flat.at, flat.length}, &errors);
  if (again == NULL && !flat.full && flat.length <= 262144) {
    struct output told = {malloc(4096), 0, 4096, false};
    errors_write(&errors, &told);
    fprintf(stderr, "%.*s\n---\n%.*s\n", (int)flat.length, flat.at, (int)told.length, told.at);
    abort();
  }
  if (again != NULL && again->count != router_running()->count) abort();
  router_free(again);
  free(flat.at);
}

static void deliver(struct input *input) {
  uint8_t bytes[SHOAL_NET_FRAME_BYTES];
  uint8_t how = input_byte(input);
  struct shoal_net *net = &nets[how % NETS];
  size_t length = input_bytes(input, bytes, sizeof bytes);
  if (net->events == NULL || length == 0) return;
  /* On a heap block of its own, so that the sanitizer sees what reads beyond it. */
  uint8_t *copy = malloc(length);
  memcpy(copy, bytes, length);
  for (unsigned i = 0; i <= (how >> 4); i++) net->events->frame(net->context, copy, length, how & 8 ? SHOAL_NET_CSUM_BLANK | SHOAL_NET_CSUM_VALID : 0);
  free(copy);
}

static void use_handler(struct input *input) {
  char name[64], value[64], text[2048];
  struct output out = {text, 0, sizeof text, false};
  size_t length = input_bytes(input, value, sizeof value);
  uint8_t which = input_byte(input), what = input_byte(input);
  const struct router *router = router_running();
  if (router == NULL || router->count == 0) return;
  const struct element *element = router->elements[which % router->count];
  unsigned count = 0;
  while (element->class->handlers != NULL && element->class->handlers[count].name != NULL) count++;
  if (count == 0) return;
  size_t at = shoal_format(name, sizeof name, "%s.%s", element->name, element->class->handlers[what % count].name);
  if (at >= sizeof name) return;
  handlers_read(router_running(), (struct slice){name, at}, &out);
  out.length = 0;
  handlers_write(router_running(), (struct slice){name, at}, (struct slice){value, length}, &out);
}

static void act(struct input *input) {
  static struct errors errors;
  switch (input_byte(input) % 8) {
    case 0:
    case 1:
    case 2: deliver(input); break;
    case 3: world_now_ns += (uint64_t)input_byte(input) * 50000000ull; break;
    case 4: use_handler(input); break;
    case 5: world_allocations_left = input_byte(input) & 1 ? input_byte(input) % 8 : -1; break;
    case 6: nets[input_byte(input) % NETS].full ^= true; break;
    default:
      /* The same again, with its state. */
      if (router_running() != NULL) {
        struct slice source = router_running()->source;
        char *copy = malloc(source.length + 1);
        memcpy(copy, source.at, source.length);
        requests_install((struct slice){copy, source.length}, &errors);
        free(copy);
      }
      break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
  static struct errors errors;
  static bool begun;
  size_t end = 0;
  if (!begun) world_reset();
  begun = true;
  packet_set_limit(256);
  while (end < size && end < TEXT_BYTES && data[end] != '\0') end++;
  /* On a heap block of its own. */
  char *text = malloc(end + 1);
  memcpy(text, data, end);
  bool sound = requests_install((struct slice){text, end}, &errors);
  free(text);
  if (!sound && errors.count == 0) abort();
  struct input input = {data + (end < size ? end + 1 : end), data + size};
  if (sound) {
    check_flat();
    for (unsigned i = 0; i < NETS; i++) {
      nets[i].full = false;
      if (nets[i].events != NULL) nets[i].events->up(nets[i].context, mac);
    }
    turns();
    for (int i = 0; i < 64 && input.at < input.end; i++) {
      act(&input);
      turns();
    }
  }
  world_allocations_left = -1;
  router_replace(NULL);
  if (packet_counts().in_use != 0) abort();
  world_console_length = 0;
  return 0;
}
