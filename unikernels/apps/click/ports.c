/*
 * How many ports each element has, and which of them push and which pull. Agnostic ports become what they are connected to: ports that have to
 * be alike are joined into sets (connections; agnostic ports of one element with the same letter of its flow code), and a set is what its
 * fixed ports are. What nothing settles pushes.
 */
#include "graph.h"

enum kind { AGNOSTIC, PUSH, PULL };

struct port_set {
  uint32_t parent;
  uint8_t kind;
};

/* ---- counts ---- */

/* "2", "1-3", "1-", "-": the bounds; returns what is behind. */
static const char *read_bounds(const char *code, uint32_t *least, uint32_t *most) {
  bool number = false, range = false;
  *least = *most = 0;
  for (; *code != '\0' && *code != '/'; code++) {
    if (*code == '-') {
      range = true;
      *most = 0;
      number = false;
    } else if (slice_is_digit(*code)) {
      uint32_t digit = (uint32_t)(*code - '0');
      if (range) *most = *most * 10 + digit;
      else *least = *least * 10 + digit;
      number = true;
    }
  }
  if (!range) *most = *least;
  else if (!number) *most = ELEMENT_PORTS_MAX;
  return *code == '/' ? code + 1 : code;
}

static bool check_count(struct graph_element *element, const char *what, uint32_t least, uint32_t most, uint32_t *count, struct errors *errors) {
  if (*count >= least && *count <= most) return true;
  return errors_add(errors, element->place, "%.*s: %u %s%s connected, %s takes %s%u", (int)element->name.length, element->name.at, *count, what, *count == 1 ? "" : "s", element->class->name,
                    *count < least ? (least == most ? "" : "at least ") : "at most ", *count < least ? least : most);
}

static bool count_ports(struct graph *graph, struct errors *errors) {
  bool sound = true;
  for (uint32_t i = 0; i < graph->link_count; i++) {
    const struct graph_link *link = &graph->links[i];
    struct graph_element *from = &graph->elements[link->from], *to = &graph->elements[link->to];
    if (link->from_port >= from->output_count) from->output_count = link->from_port + 1;
    if (link->to_port >= to->input_count) to->input_count = link->to_port + 1;
  }
  for (uint32_t i = 0; i < graph->element_count; i++) {
    struct graph_element *element = &graph->elements[i];
    uint32_t least, most;
    const char *outputs = read_bounds(element->class->ports, &least, &most);
    sound &= check_count(element, "input", least, most, &element->input_count, errors);
    if (*outputs == '=') least = most = element->input_count;
    else read_bounds(outputs, &least, &most);
    sound &= check_count(element, "output", least, most, &element->output_count, errors);
    element->first_port = graph->port_count;
    graph->port_count += element->input_count + element->output_count;
    if (graph->port_count > 2 * CONNECTIONS_MAX) return errors_add(errors, element->place, "%.*s: not all ports are connected", (int)element->name.length, element->name.at);
  }
  return sound;
}

/* ---- push and pull ---- */

/* The letter of a port: the last one of its half stands for all further ones. */
static char letter(const char *code, bool output, uint32_t port) {
  const char *half = code;
  while (*half != '\0' && *half != '/') half++;
  if (output && *half == '/') code = half + 1;
  char last = *code;
  for (uint32_t i = 0; *code != '\0' && *code != '/' && i <= port; i++) last = *code++;
  return last;
}

static uint32_t root_of(struct port_set *sets, uint32_t port) {
  while (sets[port].parent != port) {
    sets[port].parent = sets[sets[port].parent].parent;
    port = sets[port].parent;
  }
  return port;
}

/* False when one pushes and the other pulls. */
static bool join(struct port_set *sets, uint32_t a, uint32_t b) {
  a = root_of(sets, a), b = root_of(sets, b);
  if (a == b) return true;
  if (sets[a].kind != AGNOSTIC && sets[b].kind != AGNOSTIC && sets[a].kind != sets[b].kind) return false;
  if (sets[a].kind == AGNOSTIC) sets[a].kind = sets[b].kind;
  sets[b].parent = a;
  return true;
}

static uint32_t port_of(const struct graph_element *element, bool output, uint32_t port) { return element->first_port + (output ? element->input_count : 0) + port; }

static void begin_sets(const struct graph *graph, struct port_set *sets) {
  for (uint32_t i = 0; i < graph->element_count; i++) {
    const struct graph_element *element = &graph->elements[i];
    uint32_t inputs = element->input_count, count = inputs + element->output_count;
    /* By letter of the flow code: its first agnostic input, and whether an output has it too. */
    uint32_t firsts[128];
    bool leads[128] = {false};
    memset(firsts, 0xff, sizeof firsts);
    for (uint32_t j = 0; j < 2 * count; j++) {
      bool again = j >= count, output = j % count >= inputs;
      uint32_t at = j % count, port = element->first_port + at, number = output ? at - inputs : at;
      char kind = letter(element->class->processing, output, number);
      if (!again) sets[port] = (struct port_set){port, kind == 'h' ? PUSH : kind == 'l' ? PULL : AGNOSTIC};
      if (kind != 'a') continue;
      unsigned flow = (unsigned char)letter(element->class->flow == NULL ? "x" : element->class->flow, output, number) & 127;
      if (!again && !output && firsts[flow] == UINT32_MAX) firsts[flow] = port;
      if (!again && output) leads[flow] = true;
      /* Inputs are alike only where both lead to the same output. */
      if (again && firsts[flow] != UINT32_MAX && leads[flow]) join(sets, firsts[flow], port);
    }
  }
}

static bool connect(const struct graph *graph, struct port_set *sets, struct errors *errors) {
  bool sound = true;
  for (uint32_t i = 0; i < graph->link_count; i++) {
    const struct graph_link *link = &graph->links[i];
    const struct graph_element *from = &graph->elements[link->from], *to = &graph->elements[link->to];
    uint32_t output = port_of(from, true, link->from_port), input = port_of(to, false, link->to_port);
    if (join(sets, output, input)) continue;
    bool pushes = sets[root_of(sets, output)].kind == PUSH;
    sound = errors_add(errors, link->place, "%.*s %s output %u is connected to %.*s %s input %u", (int)from->name.length, from->name.at, pushes ? "push" : "pull", link->from_port,
                       (int)to->name.length, to->name.at, pushes ? "pull" : "push", link->to_port);
  }
  return sound;
}

/* Push outputs and pull inputs lead to one place each; nothing is left open. */
static bool check_uses(const struct graph *graph, const uint32_t *uses, struct errors *errors) {
  bool sound = true;
  for (uint32_t i = 0; i < graph->element_count; i++) {
    const struct graph_element *element = &graph->elements[i];
    for (uint32_t j = 0; j < element->input_count + element->output_count; j++) {
      bool output = j >= element->input_count, push = graph->push[element->first_port + j];
      uint32_t count = uses[element->first_port + j], number = output ? j - element->input_count : j;
      if (count == 0) {
        sound = errors_add(errors, element->place, "%.*s: %s %u is not connected", (int)element->name.length, element->name.at, output ? "output" : "input", number);
      } else if (count > 1 && push == output) {
        sound = errors_add(errors, element->place, "%.*s: %s %s %u has %u connections, it can have one", (int)element->name.length, element->name.at, push ? "push" : "pull",
                           output ? "output" : "input", number, count);
      }
    }
  }
  return sound;
}

bool graph_settle_ports(struct graph *graph, struct memory *memory, struct errors *errors) {
  if (!count_ports(graph, errors)) return false;
  struct port_set *sets = memory_take(memory, graph->port_count * sizeof *sets + 1);
  uint32_t *uses = memory_take(memory, graph->port_count * sizeof *uses + 1);
  graph->push = memory_take(memory, graph->port_count * sizeof *graph->push + 1);
  if (sets == NULL || uses == NULL || graph->push == NULL) return errors_add(errors, (struct place){0, 0}, "no memory for the configuration");
  begin_sets(graph, sets);
  if (!connect(graph, sets, errors)) return false;
  for (uint32_t i = 0; i < graph->port_count; i++) graph->push[i] = sets[root_of(sets, i)].kind != PULL;
  for (uint32_t i = 0; i < graph->link_count; i++) {
    const struct graph_link *link = &graph->links[i];
    uses[port_of(&graph->elements[link->from], true, link->from_port)]++;
    uses[port_of(&graph->elements[link->to], false, link->to_port)]++;
  }
  return check_uses(graph, uses, errors);
}
