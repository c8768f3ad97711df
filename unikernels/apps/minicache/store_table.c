/* The functions of store.h, by the table of the store that was opened. */
#include "store_table.h"

static const struct store_table *opened;

int store_open(struct store **out, const struct store_config *config) {
  opened = config->device == NULL ? &store_in_ram : &store_on_disk;
  return opened->open(out, config);
}

#define STORE_FORWARD(type, name, parameters, arguments) \
  type name parameters { return opened->name arguments; }
STORE_FUNCTIONS(STORE_FORWARD)
