/* The elements that know of frames only: a line here for each, and its name in the table. */
#include "element.h"

extern const struct element_class class_discard, class_counter;

const struct element_class *const element_classes[] = {&class_counter, &class_discard, NULL};

static const struct element_class *find(const struct element_class *const *table, struct slice name) {
  for (; *table != NULL; table++) {
    if (strlen((*table)->name) == name.length && memcmp((*table)->name, name.at, name.length) == 0) return *table;
  }
  return NULL;
}

const struct element_class *element_class_find(struct slice name) {
  const struct element_class *class = find(element_classes, name);
  return class != NULL ? class : find(element_classes_ip, name);
}
