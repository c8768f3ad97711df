/*
 * A configuration as it was written: scopes (the whole, and the body of each compound element) with what is declared in them and how it is
 * connected. language.c reads text into it, graph.c unfolds it. All of it lies in one memory and goes with it.
 */
#ifndef CLICK_LANGUAGE_H
#define CLICK_LANGUAGE_H

#include "element.h"
#include "memory.h"

#define CONFIGURATION_BYTES_MAX 262144u
#define COMPOUND_DEPTH_MAX 16u
#define ELEMENT_NAME_BYTES_MAX 256u
#define ELEMENT_PORTS_MAX 4096u

struct compound;

/* One of both; neither: used, but not declared. */
struct class_ref {
  const struct element_class *class;
  struct compound *compound;
};

struct declared {
  struct slice name;
  struct class_ref of;
  struct slice config;
  struct place place, config_place;
  uint32_t index; /* in its scope, by order */
  struct scope *scope;
  struct declared *next, *same_hash;
};

struct link {
  struct declared *from, *to;
  uint32_t from_port, to_port;
  struct place place;
  struct link *next;
};

struct formal {
  struct slice name, keyword; /* keyword: empty for one by position */
  bool is_rest;               /* __REST__: all that is left over */
  struct formal *next;
};

/* A name for a class, seen from its declaration on. */
struct named_class {
  struct slice name;
  struct class_ref of;
  struct named_class *next;
};

struct definition { /* define($name value) */
  struct slice name, value;
  struct definition *next;
};

struct scope {
  struct scope *outer;
  struct declared *first, *last;
  struct declared *input, *output; /* of a compound element, otherwise NULL */
  uint32_t count;
  struct link *links, *last_link;
  struct named_class *classes;
  struct formal *formals;
  struct definition *definitions;
};

struct compound {
  struct slice name;
  struct place place;
  struct scope scope;
  struct compound *other; /* behind ||: taken when the arguments do not fit this one */
};

/* False, with the mistakes in `errors`. `root` is filled as far as it was understood. */
bool language_read(struct slice text, struct memory *memory, struct scope *root, struct errors *errors);

#endif
