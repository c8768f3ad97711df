/*
 * A configuration unfolded: elements of real classes only, with the names and arguments that they have in the whole, and connections between
 * them. graph.c makes it from what was written; ports.c says how many ports each has and which push and pull.
 */
#ifndef CLICK_GRAPH_H
#define CLICK_GRAPH_H

#include "language.h"

#define ELEMENTS_MAX 16384u
#define CONNECTIONS_MAX 65536u

struct graph_element {
  struct slice name, config;
  const struct element_class *class; /* NULL: one end of a compound element, gone when all is unfolded */
  struct place place, config_place;
  uint32_t input_count, output_count;
  uint32_t first_port; /* in graph.push: its inputs, then its outputs */
  uint32_t first_link; /* index + 1; of those that leave it */
};

struct graph_link {
  uint32_t from, from_port, to, to_port;
  struct place place;
  uint32_t next; /* index + 1; of the same element */
  bool is_used;
};

struct graph {
  struct graph_element *elements;
  struct graph_link *links;
  uint32_t element_count, link_count, element_room, link_room;
  uint32_t port_count;
  bool *push; /* of each port */
};

bool graph_unfold(const struct scope *root, struct memory *memory, struct graph *graph, struct errors *errors);
/* Counts ports, settles what is agnostic, and checks all against Click's rules. */
bool graph_settle_ports(struct graph *graph, struct memory *memory, struct errors *errors);

#endif
