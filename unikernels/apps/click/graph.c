/*
 * Unfolding. Each compound element becomes its body, between two tunnels (its inputs, its outputs); then each connection is followed through
 * tunnels to real elements. How much can come of a short text is bounded, for compound elements of compound elements multiply.
 */
#include "graph.h"
#include "arguments_split.h"

#define DEPTH_MAX 32u
#define CONFIG_BYTES_MAX 65536u
#define HOPS_MAX 64u
#define NOWHERE UINT32_MAX

/* What $names stand for in a scope that is being unfolded. */
struct binding {
  struct slice name, value;
  struct binding *next;
};

struct frame {
  const struct scope *scope;
  const struct frame *outer; /* of the scope that encloses it in the text */
  struct binding *bindings;
  struct slice prefix;
  uint32_t in, out; /* tunnels; NOWHERE at the top */
  unsigned depth;
};

struct unfolding {
  struct memory *memory;
  struct errors *errors;
  struct graph *graph;
};

static bool no_memory(struct unfolding *unfolding, struct place place) { return errors_add(unfolding->errors, place, "no memory for the configuration"); }

/* Room for one more in an array that doubles; what it leaves behind goes with the memory. */
static void *grow(struct memory *memory, void *array, uint32_t count, uint32_t *room, size_t each) {
  if (count < *room) return array;
  uint32_t larger = *room == 0 ? 32 : *room * 2;
  void *copy = memory_take(memory, larger * each);
  if (copy == NULL) return NULL;
  if (count > 0) memcpy(copy, array, count * each);
  *room = larger;
  return copy;
}

static bool add_element(struct unfolding *unfolding, struct graph_element element, uint32_t *index) {
  struct graph *graph = unfolding->graph;
  if (graph->element_count == ELEMENTS_MAX) return errors_add(unfolding->errors, element.place, "more than %u elements", ELEMENTS_MAX);
  struct graph_element *all = grow(unfolding->memory, graph->elements, graph->element_count, &graph->element_room, sizeof *all);
  if (all == NULL) return no_memory(unfolding, element.place);
  graph->elements = all;
  *index = graph->element_count++;
  all[*index] = element;
  return true;
}

static bool add_link(struct unfolding *unfolding, struct graph *graph, struct graph_link link) {
  if (graph->link_count == CONNECTIONS_MAX) return errors_add(unfolding->errors, link.place, "more than %u connections", CONNECTIONS_MAX);
  struct graph_link *all = grow(unfolding->memory, graph->links, graph->link_count, &graph->link_room, sizeof *all);
  if (all == NULL) return no_memory(unfolding, link.place);
  graph->links = all;
  all[graph->link_count++] = link;
  return true;
}

/* ---- $parameters ---- */

static bool look_up(const struct frame *frame, struct slice name, struct slice *value) {
  for (; frame != NULL; frame = frame->outer) {
    for (const struct binding *binding = frame->bindings; binding != NULL; binding = binding->next) {
      if (!slice_equal(binding->name, name)) continue;
      *value = binding->value;
      return true;
    }
  }
  return false;
}

static bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

/* A variable at `at` ('$'): its name, and how many bytes it takes in the text; 0: none. */
static size_t variable_at(struct slice text, size_t at, struct slice *name) {
  bool brace = at + 1 < text.length && text.at[at + 1] == '{';
  size_t start = at + 1 + brace, end = start;
  while (end < text.length && is_word(text.at[end])) end++;
  if (end == start || slice_is_digit(text.at[start]) || (brace && (end == text.length || text.at[end] != '}'))) return 0;
  *name = (struct slice){text.at + start, end - start};
  return end - at + brace;
}

/* The text with values for names; writes to `to` unless NULL, returns the length. */
static size_t substitute_to(const struct frame *frame, struct slice text, char *to) {
  size_t length = 0;
  char quote = '\0';
  for (size_t i = 0; i < text.length; i++) {
    char c = text.at[i];
    struct slice name, value;
    size_t taken = c == '$' && quote != '\'' ? variable_at(text, i, &name) : 0;
    if (taken > 0 && look_up(frame, name, &value)) {
      if (to != NULL) memcpy(to + length, value.at, value.length);
      length += value.length;
      i += taken - 1;
      continue;
    }
    if (quote == '\0' && (c == '"' || c == '\'')) quote = c;
    else if (c == quote) quote = '\0';
    if (to != NULL) to[length] = c;
    length++;
    if (c == '\\' && quote != '\'' && i + 1 < text.length) {
      if (to != NULL) to[length] = text.at[i + 1];
      length++, i++;
    }
  }
  return length;
}

static bool substitute(struct unfolding *unfolding, const struct frame *frame, struct slice text, struct place place, struct slice *result) {
  *result = text;
  if (slice_find(text, '$') == text.length) return true;
  size_t length = substitute_to(frame, text, NULL);
  if (length > CONFIG_BYTES_MAX) return errors_add(unfolding->errors, place, "arguments of more than %u bytes", CONFIG_BYTES_MAX);
  char *copy = memory_take(unfolding->memory, length + 1);
  if (copy == NULL) return no_memory(unfolding, place);
  substitute_to(frame, text, copy);
  *result = (struct slice){copy, length};
  return true;
}

static bool bind(struct unfolding *unfolding, struct frame *frame, struct slice name, struct slice value) {
  struct binding *binding = memory_take(unfolding->memory, sizeof *binding);
  if (binding == NULL) return no_memory(unfolding, (struct place){0, 0});
  *binding = (struct binding){name, value, frame->bindings};
  frame->bindings = binding;
  return true;
}

/* ---- compound elements ---- */

static struct slice behind_keyword(struct slice text, struct slice keyword, bool *is_it) {
  *is_it = slice_starts(text, keyword) && (text.length == keyword.length || text.at[keyword.length] == ' ' || text.at[keyword.length] == '\t' || text.at[keyword.length] == '\n');
  return *is_it ? slice_trim(slice_from(text, keyword.length)) : text;
}

/* Gives the parameters of `scope` their values; false when the arguments do not fit (told, unless `quietly`). */
static bool bind_arguments(struct unfolding *unfolding, struct frame *frame, const struct scope *scope, struct argument *all, uint32_t count, const struct graph_element *of, bool quietly) {
  uint32_t next = 0;
  for (uint32_t i = 0; i < count; i++) all[i].used = false;
  for (const struct formal *formal = scope->formals; formal != NULL; formal = formal->next) {
    bool found = false;
    for (uint32_t i = 0; i < count && formal->keyword.length > 0 && !formal->is_rest && !found; i++) {
      struct slice value = behind_keyword(all[i].text, formal->keyword, &found);
      if (all[i].used) found = false;
      if (!found) continue;
      all[i].used = true;
      if (!bind(unfolding, frame, formal->name, value)) return false;
    }
    if (found || formal->is_rest) continue;
    if (formal->keyword.length == 0) {
      while (next < count && all[next].used) next++;
      if (next < count) {
        all[next].used = true;
        if (!bind(unfolding, frame, formal->name, all[next++].text)) return false;
        continue;
      }
    }
    struct slice label = formal->keyword.length > 0 ? formal->keyword : formal->name;
    return !quietly && errors_add(unfolding->errors, of->place, "%.*s: missing argument %s%.*s", (int)of->name.length, of->name.at, formal->keyword.length > 0 ? "" : "$", (int)label.length, label.at);
  }
  for (const struct formal *formal = scope->formals; formal != NULL; formal = formal->next) {
    if (!formal->is_rest) continue;
    size_t length = 0;
    for (uint32_t i = 0; i < count; i++) length += all[i].used ? 0 : all[i].text.length + 2;
    char *text = memory_take(unfolding->memory, length + 1);
    if (text == NULL) return no_memory(unfolding, of->place);
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
      if (all[i].used) continue;
      if (at > 0) text[at++] = ',', text[at++] = ' ';
      memcpy(text + at, all[i].text.at, all[i].text.length);
      at += all[i].text.length;
      all[i].used = true;
    }
    if (!bind(unfolding, frame, formal->name, (struct slice){text, at})) return false;
  }
  for (uint32_t i = 0; i < count; i++) {
    if (!all[i].used) return !quietly && errors_add(unfolding->errors, all[i].place, "%.*s: too many arguments", (int)of->name.length, of->name.at);
  }
  return true;
}

static bool unfold_scope(struct unfolding *unfolding, struct frame *frame);

static bool unfold_compound(struct unfolding *unfolding, const struct frame *within, const struct compound *compound, const struct graph_element *as, uint32_t in, uint32_t out) {
  struct frame frame = {.outer = within, .prefix = as->name, .in = in, .out = out, .depth = within->depth + 1};
  if (frame.depth > DEPTH_MAX) return errors_add(unfolding->errors, as->place, "compound elements more than %u deep", DEPTH_MAX);
  /* Names are those of the text around its declaration, not of where it is used. */
  while (frame.outer != NULL && frame.outer->scope != compound->scope.outer) frame.outer = frame.outer->outer;
  int count = arguments_split(as->config, as->config_place, NULL, ARGUMENTS_MAX);
  struct argument *all = count < 0 ? NULL : memory_take(unfolding->memory, (size_t)count * sizeof *all + 1);
  if (all == NULL) return errors_add(unfolding->errors, as->place, count < 0 ? "too many arguments" : "no memory for the configuration");
  arguments_split(as->config, as->config_place, all, (uint32_t)count);
  for (; compound != NULL; compound = compound->other) {
    frame.scope = &compound->scope;
    frame.bindings = NULL;
    if (bind_arguments(unfolding, &frame, &compound->scope, all, (uint32_t)count, as, compound->other != NULL)) return unfold_scope(unfolding, &frame);
  }
  return false;
}

static bool full_name(struct unfolding *unfolding, const struct frame *frame, const struct declared *one, struct slice *name) {
  *name = one->name;
  if (frame->prefix.length == 0) return true;
  size_t length = frame->prefix.length + 1 + one->name.length;
  if (length > ELEMENT_NAME_BYTES_MAX) return errors_add(unfolding->errors, one->place, "a name of more than %u bytes", ELEMENT_NAME_BYTES_MAX);
  char *text = memory_take(unfolding->memory, length + 1);
  if (text == NULL) return no_memory(unfolding, one->place);
  memcpy(text, frame->prefix.at, frame->prefix.length);
  text[frame->prefix.length] = '/';
  memcpy(text + frame->prefix.length + 1, one->name.at, one->name.length);
  *name = (struct slice){text, length};
  return true;
}

/* Adds what one declaration comes to: an element, or a compound one's tunnels and body. Its ends in the graph go to map[2 * index]. */
static bool unfold_one(struct unfolding *unfolding, struct frame *frame, const struct declared *one, uint32_t *map) {
  struct graph_element element = {.class = one->of.class, .place = one->place, .config_place = one->config_place};
  uint32_t in, out;
  if (one == frame->scope->input || one == frame->scope->output) {
    map[2 * one->index] = map[2 * one->index + 1] = one == frame->scope->input ? frame->in : frame->out;
    return true;
  }
  if (!full_name(unfolding, frame, one, &element.name) || !substitute(unfolding, frame, one->config, one->config_place, &element.config)) return false;
  if (!add_element(unfolding, element, &in)) return false;
  out = in;
  if (one->of.compound != NULL && !add_element(unfolding, element, &out)) return false;
  map[2 * one->index] = in;
  map[2 * one->index + 1] = out;
  return one->of.compound == NULL || unfold_compound(unfolding, frame, one->of.compound, &element, in, out);
}

static bool unfold_scope(struct unfolding *unfolding, struct frame *frame) {
  const struct scope *scope = frame->scope;
  uint32_t *map = memory_take(unfolding->memory, scope->count * 2 * sizeof *map + 1);
  if (map == NULL) return no_memory(unfolding, (struct place){0, 0});
  for (const struct definition *definition = scope->definitions; definition != NULL; definition = definition->next) {
    if (!bind(unfolding, frame, definition->name, definition->value)) return false;
  }
  for (const struct declared *one = scope->first; one != NULL; one = one->next) {
    if (!unfold_one(unfolding, frame, one, map)) return false;
  }
  for (const struct link *link = scope->links; link != NULL; link = link->next) {
    struct graph_link real = {.from = map[2 * link->from->index + 1], .from_port = link->from_port, .to = map[2 * link->to->index], .to_port = link->to_port, .place = link->place};
    if (!add_link(unfolding, unfolding->graph, real)) return false;
  }
  return true;
}

/* ---- tunnels ---- */

/* The connections that a port of a real element comes to, through any number of tunnels. */
static bool follow(struct unfolding *unfolding, struct graph *from, struct graph *to, const struct graph_link *start, uint32_t node, uint32_t port, struct place place, unsigned hops) {
  if (from->elements[node].class != NULL) {
    return add_link(unfolding, to, (struct graph_link){.from = start->from, .from_port = start->from_port, .to = node, .to_port = port, .place = start->place});
  }
  const struct graph_element *tunnel = &from->elements[node];
  if (hops == HOPS_MAX) return errors_add(unfolding->errors, place, "'%.*s' leads in a circle, or too deep", (int)tunnel->name.length, tunnel->name.at);
  bool any = false;
  for (uint32_t i = tunnel->first_link; i != 0; i = from->links[i - 1].next) {
    struct graph_link *link = &from->links[i - 1];
    if (link->from_port != port) continue;
    any = link->is_used = true;
    if (!follow(unfolding, from, to, start, link->to, link->to_port, link->place, hops + 1)) return false;
  }
  if (any) return true;
  bool is_out = node > 0 && from->elements[node - 1].class == NULL && slice_equal(from->elements[node - 1].name, tunnel->name);
  return errors_add(unfolding->errors, place, "'%.*s' %s %u is connected on one side only", (int)tunnel->name.length, tunnel->name.at, is_out ? "output" : "input", port);
}

static bool join_tunnels(struct unfolding *unfolding, struct graph *from, struct graph *to) {
  for (uint32_t i = from->link_count; i > 0; i--) {
    struct graph_link *link = &from->links[i - 1];
    link->next = from->elements[link->from].first_link;
    from->elements[link->from].first_link = i;
  }
  for (uint32_t i = 0; i < from->link_count; i++) {
    struct graph_link *link = &from->links[i];
    if (from->elements[link->from].class == NULL) continue;
    link->is_used = true;
    if (!follow(unfolding, from, to, link, link->to, link->to_port, link->place, 0)) return false;
  }
  for (uint32_t i = 0; i < from->link_count; i++) {
    const struct graph_link *link = &from->links[i];
    const struct graph_element *tunnel = &from->elements[link->from];
    if (link->is_used) continue;
    return errors_add(unfolding->errors, link->place, "'%.*s' port %u is connected on one side only", (int)tunnel->name.length, tunnel->name.at, link->from_port);
  }
  /* Real elements close ranks. */
  uint32_t *index = memory_take(unfolding->memory, from->element_count * sizeof *index + 1);
  if (index == NULL) return no_memory(unfolding, (struct place){0, 0});
  to->elements = from->elements;
  to->element_room = from->element_room;
  for (uint32_t i = 0; i < from->element_count; i++) {
    if (from->elements[i].class == NULL) continue;
    index[i] = to->element_count;
    to->elements[to->element_count] = from->elements[i];
    to->elements[to->element_count++].first_link = 0;
  }
  for (uint32_t i = 0; i < to->link_count; i++) {
    to->links[i].from = index[to->links[i].from];
    to->links[i].to = index[to->links[i].to];
  }
  return true;
}

bool graph_unfold(const struct scope *root, struct memory *memory, struct graph *graph, struct errors *errors) {
  struct graph folded = {.element_count = 0};
  struct unfolding unfolding = {.memory = memory, .errors = errors, .graph = &folded};
  struct frame frame = {.scope = root, .prefix = SLICE(""), .in = NOWHERE, .out = NOWHERE};
  *graph = (struct graph){.element_count = 0};
  return unfold_scope(&unfolding, &frame) && join_tunnels(&unfolding, &folded, graph);
}
