/* Handlers that every element has, those of the whole, and how a name finds its handler. */
#include "router.h"

static struct slice text_of(const char *text) { return (struct slice){text, strlen(text)}; }

/* ---- those of every element ---- */

static void read_class(struct element *element, struct output *out) { output_print(out, "%s", element->class->name); }
static void read_name(struct element *element, struct output *out) { output_print(out, "%s", element->name); }
static void read_config(struct element *element, struct output *out) { output_slice(out, text_of(element->config)); }

static void write_ports(struct output *out, const char *what, unsigned count, const struct element_port *ports) {
  output_print(out, "%u %s%s\n", count, what, count == 1 ? "" : "s");
  for (unsigned i = 0; i < count; i++) {
    output_print(out, "%s\t%s [%u]\n", ports[i].is_push ? "push" : "pull", ports[i].peer->name, ports[i].peer_port);
  }
}

static void read_ports(struct element *element, struct output *out) {
  write_ports(out, "input", element->input_count, element->inputs);
  write_ports(out, "output", element->output_count, element->outputs);
}

static void read_handlers(struct element *element, struct output *out);

static const struct handler common[] = {{"class", read_class, NULL}, {"name", read_name, NULL},         {"config", read_config, NULL},
                                        {"ports", read_ports, NULL}, {"handlers", read_handlers, NULL}, {NULL, NULL, NULL}};

static void write_names(struct output *out, const struct handler *handler) {
  for (; handler != NULL && handler->name != NULL; handler++) {
    output_print(out, "%s\t%s%s\n", handler->name, handler->read != NULL ? "r" : "", handler->write != NULL ? "w" : "");
  }
}

static void read_handlers(struct element *element, struct output *out) {
  write_names(out, element->class->handlers);
  write_names(out, common);
}

/* ---- those of the whole ---- */

static void read_source(struct router *router, struct output *out) { output_slice(out, router->source); }

static void read_list(struct router *router, struct output *out) {
  for (uint32_t i = 0; i < router->count; i++) output_print(out, "%s\t%s\n", router->elements[i]->name, router->elements[i]->class->name);
}

static void write_connection(struct output *out, const struct element *from, unsigned output, const struct element *to, unsigned input) {
  output_print(out, "%s [%u] -> ", from->name, output);
  output_print(out, "[%u] %s;\n", input, to->name);
}

/* Reads back as what runs. */
static void read_flat(struct router *router, struct output *out) {
  for (uint32_t i = 0; i < router->count; i++) {
    const struct element *element = router->elements[i];
    output_print(out, "%s :: %s", element->name, element->class->name);
    if (element->config[0] != '\0') {
      output_bytes(out, "(", 1);
      output_slice(out, text_of(element->config));
      output_bytes(out, ")", 1);
    }
    output_bytes(out, ";\n", 2);
  }
  for (uint32_t i = 0; i < router->count; i++) {
    const struct element *element = router->elements[i];
    for (unsigned j = 0; j < element->output_count; j++) {
      if (element->outputs[j].is_push) write_connection(out, element, j, element->outputs[j].peer, element->outputs[j].peer_port);
    }
    for (unsigned j = 0; j < element->input_count; j++) {
      if (!element->inputs[j].is_push) write_connection(out, element->inputs[j].peer, element->inputs[j].peer_port, element, j);
    }
  }
}

static void read_classes(struct router *router, struct output *out) {
  (void)router;
  for (unsigned i = 0; element_classes[i] != NULL; i++) output_print(out, "%s\n", element_classes[i]->name);
  for (unsigned i = 0; element_classes_ip[i] != NULL; i++) output_print(out, "%s\n", element_classes_ip[i]->name);
}

static void read_packets(struct router *router, struct output *out) {
  struct packet_counts counts = packet_counts();
  (void)router;
  output_print(out, "in_use %u\nlimit %u\nrefused %llu\ncut %llu\n", counts.in_use, counts.limit, (unsigned long long)counts.refused, (unsigned long long)schedule_cut());
}

static const struct {
  const char *name;
  void (*read)(struct router *router, struct output *out);
} whole[] = {{"config", read_source}, {"flatconfig", read_flat}, {"list", read_list}, {"classes", read_classes}, {"packets", read_packets}};

/* ---- names ---- */

static const struct handler *find_in(const struct handler *handler, struct slice name) {
  for (; handler != NULL && handler->name != NULL; handler++) {
    if (slice_equal(text_of(handler->name), name)) return handler;
  }
  return NULL;
}

/* Its element and handler; NULL, told in `why`. */
static const struct handler *find(struct router *router, struct slice name, struct element **element, struct output *why) {
  size_t dot = slice_find(name, '.');
  struct slice element_name = {name.at, dot}, handler_name = slice_from(name, dot + 1);
  const struct handler *handler;
  if (element_name.length > 256 || handler_name.length > 256) {
    output_print(why, "no such handler");
    return NULL;
  }
  *element = router_find(router, element_name);
  if (*element == NULL) {
    output_print(why, "no element '%.*s'", (int)element_name.length, element_name.at);
    return NULL;
  }
  handler = find_in((*element)->class->handlers, handler_name);
  if (handler == NULL) handler = find_in(common, handler_name);
  if (handler == NULL) output_print(why, "%.*s: no handler '%.*s'", (int)element_name.length, element_name.at, (int)handler_name.length, handler_name.at);
  return handler;
}

bool handlers_read(struct router *router, struct slice name, struct output *out) {
  struct element *element;
  if (router == NULL) {
    output_print(out, "no configuration runs");
    return false;
  }
  element_enter();
  for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
    if (!slice_equal(name, text_of(whole[i].name))) continue;
    whole[i].read(router, out);
    return true;
  }
  const struct handler *handler = find(router, name, &element, out);
  if (handler == NULL) return false;
  if (handler->read == NULL) {
    output_print(out, "%.*s cannot be read", (int)name.length, name.at);
    return false;
  }
  handler->read(element, out);
  return true;
}

bool handlers_write(struct router *router, struct slice name, struct slice value, struct output *why) {
  struct element *element;
  if (router == NULL) {
    output_print(why, "no configuration runs");
    return false;
  }
  element_enter();
  const struct handler *handler = find(router, name, &element, why);
  if (handler == NULL) return false;
  if (handler->write == NULL) {
    output_print(why, "%.*s cannot be written", (int)name.length, name.at);
    return false;
  }
  if (handler->write(element, value, why)) return true;
  if (why->length == 0) output_print(why, "%.*s does not take that", (int)name.length, name.at);
  return false;
}
