/* See router.h. */
#include "router.h"
#include "arguments_split.h"
#include "graph.h"

static struct router *running;

struct router *router_running(void) { return running; }

/* ---- names ---- */

static uint32_t hash(struct slice name) {
  uint32_t value = 2166136261u;
  for (size_t i = 0; i < name.length; i++) value = (value ^ (uint8_t)name.at[i]) * 16777619u;
  return value ^ value >> 15;
}

struct element *router_find(const struct router *router, struct slice name) {
  if (router == NULL || router->by_name == NULL) return NULL;
  for (uint32_t at = hash(name) & router->name_mask; router->by_name[at] != NULL; at = (at + 1) & router->name_mask) {
    struct element *element = router->by_name[at];
    if (strlen(element->name) == name.length && memcmp(element->name, name.at, name.length) == 0) return element;
  }
  return NULL;
}

static bool index_names(struct router *router, struct errors *errors) {
  uint32_t size = 4;
  while (size < router->count * 2) size *= 2;
  router->by_name = memory_take(&router->memory, size * sizeof *router->by_name);
  if (router->by_name == NULL) return errors_add(errors, (struct place){0, 0}, "no memory for the elements");
  router->name_mask = size - 1;
  for (uint32_t i = 0; i < router->count; i++) {
    struct element *element = router->elements[i];
    uint32_t at = hash((struct slice){element->name, strlen(element->name)}) & router->name_mask;
    for (; router->by_name[at] != NULL; at = (at + 1) & router->name_mask) {
      const struct element *other = router->by_name[at];
      if (strcmp(other->name, element->name) == 0) return errors_add(errors, element->place, "'%s' is declared already, at %u:%u", element->name, other->place.line, other->place.column);
    }
    router->by_name[at] = element;
  }
  return true;
}

/* ---- building ---- */

static void on_timer(void *context) {
  struct element *element = context;
  element_enter();
  element->class->timer(element);
}

static struct element *make(struct router *router, const struct graph_element *from) {
  struct element *element = memory_take(&router->memory, from->class->size_bytes);
  size_t ports = from->input_count + from->output_count;
  if (element == NULL) return NULL;
  element->class = from->class;
  element->router = router;
  element->memory = &router->memory;
  element->place = from->place;
  element->name = memory_text(&router->memory, from->name.at, from->name.length);
  element->config = memory_text(&router->memory, from->config.at, from->config.length);
  element->inputs = memory_take(&router->memory, ports * sizeof *element->inputs + 1);
  if (element->name == NULL || element->config == NULL || element->inputs == NULL) return NULL;
  element->input_count = (uint16_t)from->input_count;
  element->output_count = (uint16_t)from->output_count;
  element->outputs = element->inputs + from->input_count;
  element->timer = (struct shoal_timer){.fire = on_timer, .context = element};
  return element;
}

static bool make_all(struct router *router, const struct graph *graph) {
  router->elements = memory_take(&router->memory, graph->element_count * sizeof *router->elements + 1);
  if (router->elements == NULL) return false;
  for (; router->count < graph->element_count; router->count++) {
    const struct graph_element *from = &graph->elements[router->count];
    struct element *element = make(router, from);
    if (element == NULL) return false;
    element->index = router->count;
    for (uint32_t j = 0; j < from->input_count; j++) element->inputs[j].is_push = graph->push[from->first_port + j];
    for (uint32_t j = 0; j < from->output_count; j++) element->outputs[j].is_push = graph->push[from->first_port + from->input_count + j];
    router->elements[router->count] = element;
  }
  for (uint32_t i = 0; i < graph->link_count; i++) {
    const struct graph_link *link = &graph->links[i];
    struct element *from = router->elements[link->from], *to = router->elements[link->to];
    from->outputs[link->from_port].peer = to;
    from->outputs[link->from_port].peer_port = (uint16_t)link->to_port;
    to->inputs[link->to_port].peer = from;
    to->inputs[link->to_port].peer_port = (uint16_t)link->from_port;
  }
  return true;
}

static bool configure(struct element *element, const struct graph_element *from, struct errors *errors) {
  struct arguments arguments = {.element = element, .errors = errors, .current = UINT32_MAX};
  struct slice config = {element->config, from->config.length};
  int count = arguments_split(config, from->config_place, NULL, ARGUMENTS_MAX);
  if (count < 0) return errors_add(errors, element->place, "%s: more than %u arguments", element->name, ARGUMENTS_MAX);
  arguments.all = shoal_alloc((size_t)count * sizeof *arguments.all + 1);
  if (arguments.all == NULL) return errors_add(errors, element->place, "%s: no memory", element->name);
  arguments.count = (uint32_t)count;
  arguments_split(config, from->config_place, arguments.all, arguments.count);
  element->configured = true;
  uint32_t before = errors->count;
  bool sound = element->class->configure == NULL ? arguments_end(&arguments) : element->class->configure(element, &arguments);
  if (!sound && errors->count == before) errors_add(errors, element->place, "%s: cannot be configured so", element->name);
  shoal_free(arguments.all);
  return sound;
}

static bool build(struct router *router, struct slice text, struct memory *scratch, struct errors *errors) {
  struct scope *root = memory_take(scratch, sizeof *root);
  struct graph *graph = memory_take(scratch, sizeof *graph);
  char *source = memory_text(&router->memory, text.at, text.length);
  struct place nowhere = {0, 0};
  if (root == NULL || graph == NULL || source == NULL) return errors_add(errors, nowhere, "no memory for the configuration");
  router->source = (struct slice){source, text.length};
  if (!language_read(router->source, scratch, root, errors) || !graph_unfold(root, scratch, graph, errors) || !graph_settle_ports(graph, scratch, errors)) return false;
  if (!make_all(router, graph)) return errors_add(errors, nowhere, "no memory for the elements");
  if (!index_names(router, errors)) return false;
  bool sound = true;
  for (uint32_t i = 0; i < router->count; i++) sound &= configure(router->elements[i], &graph->elements[i], errors);
  if (!sound) return false;
  if (!router_connect_wakes(router)) return errors_add(errors, nowhere, "no memory for the elements");
  for (uint32_t i = 0; i < router->count; i++) {
    struct element *element = router->elements[i];
    uint32_t before = errors->count;
    if (element->class->initialize == NULL || element->class->initialize(element, errors)) continue;
    if (errors->count == before) errors_add(errors, element->place, "%s: cannot be initialized", element->name);
    sound = false;
  }
  return sound;
}

struct router *router_build(struct slice text, struct errors *errors) {
  struct memory scratch = {.left = 0};
  struct router *router = shoal_alloc(sizeof *router);
  if (router == NULL) {
    errors_add(errors, (struct place){0, 0}, "no memory for the configuration");
    return NULL;
  }
  *router = (struct router){.count = 0};
  bool sound = build(router, text, &scratch, errors);
  memory_free(&scratch);
  if (sound) return router;
  if (errors->count == 0) errors_add(errors, (struct place){0, 0}, "the configuration was refused");
  router_free(router);
  return NULL;
}

void router_free(struct router *router) {
  if (router == NULL) return;
  for (uint32_t i = 0; i < router->count; i++) {
    struct element *element = router->elements[i];
    schedule_forget(element);
    if (element->configured && element->class->cleanup != NULL) element->class->cleanup(element);
    /* What cleanup pushed on or woke. */
    schedule_forget(element);
  }
  memory_free(&router->memory);
  shoal_free(router);
}

void router_replace(struct router *next) {
  struct router *old = running;
  element_enter();
  for (uint32_t i = 0; old != NULL && next != NULL && i < next->count; i++) {
    struct element *element = next->elements[i], *before = router_find(old, (struct slice){element->name, strlen(element->name)});
    if (before != NULL && before->class == element->class && element->class->take_state != NULL) element->class->take_state(element, before);
  }
  running = NULL;
  router_free(old);
  running = next;
  if (next == NULL) return;
  next->started_ns = click_exact_ns();
  for (uint32_t i = 0; i < next->count; i++) {
    if (next->elements[i]->class->start != NULL) next->elements[i]->class->start(next->elements[i]);
  }
}

/* ---- what elements ask of it ---- */

void *element_alloc(struct element *element, size_t bytes) { return memory_take(element->memory, bytes); }

struct element *element_of(const struct element *element, uint32_t index) { return element->router->elements[index]; }

struct element *element_find(struct element *element, struct slice name) {
  size_t scope = strlen(element->name);
  char full[2 * ELEMENT_NAME_BYTES_MAX + 2];
  if (name.length == 0 || name.length > ELEMENT_NAME_BYTES_MAX) return NULL;
  for (;;) {
    while (scope > 0 && element->name[scope - 1] != '/') scope--;
    memcpy(full, element->name, scope);
    memcpy(full + scope, name.at, name.length);
    struct element *found = router_find(element->router, (struct slice){full, scope + name.length});
    if (found != NULL || scope == 0) return found;
    scope--; /* past the slash, one further out */
  }
}

bool element_error(struct element *element, struct errors *errors, const char *format, ...) {
  char text[ERROR_BYTES];
  va_list arguments;
  va_start(arguments, format);
  shoal_vformat(text, sizeof text, format, arguments);
  va_end(arguments);
  return errors_add(errors, element->place, "%s: %s", element->name, text);
}

void element_print(struct element *element, const char *format, ...) {
  char text[256];
  va_list arguments;
  if (!schedule_may_print()) return;
  va_start(arguments, format);
  shoal_vformat(text, sizeof text, format, arguments);
  va_end(arguments);
  shoal_print("%s: %s\n", element->name, text);
}

void element_print_line(const struct output *line) {
  if (schedule_may_print()) shoal_print("%.*s\n", (int)line->length, line->at);
}
