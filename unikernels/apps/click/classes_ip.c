/* The elements that know IP: a line here for each, and its name in the table. */
#include "element.h"

const struct element_class *const element_classes_ip[] = {NULL};
