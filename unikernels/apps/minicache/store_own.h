/*
 * Included before store.h by the files of a store that has defined STORE_PREFIX: with STORE_TABLE its functions get that prefix, without
 * it (tests, tools, where one store is linked) nothing happens. See store_table.h.
 */
#ifdef STORE_TABLE
#define STORE_PASTE(prefix, name) prefix##name
#define STORE_PASTED(prefix, name) STORE_PASTE(prefix, name)
#define STORE_OWN(name) STORE_PASTED(STORE_PREFIX, name)
#define store_open STORE_OWN(store_open)
#define store_close STORE_OWN(store_close)
#define store_find STORE_OWN(store_find)
#define store_create STORE_OWN(store_create)
#define store_remove STORE_OWN(store_remove)
#define store_touch STORE_OWN(store_touch)
#define store_each STORE_OWN(store_each)
#define store_count STORE_OWN(store_count)
#define object_hold STORE_OWN(object_hold)
#define object_release STORE_OWN(object_release)
#define object_key STORE_OWN(object_key)
#define object_meta STORE_OWN(object_meta)
#define object_set_meta STORE_OWN(object_set_meta)
#define object_length STORE_OWN(object_length)
#define object_available STORE_OWN(object_available)
#define object_state STORE_OWN(object_state)
#define object_append STORE_OWN(object_append)
#define object_complete STORE_OWN(object_complete)
#define object_abandon STORE_OWN(object_abandon)
#define object_watch STORE_OWN(object_watch)
#define object_unwatch STORE_OWN(object_unwatch)
#define object_read STORE_OWN(object_read)
#define object_unread STORE_OWN(object_unread)
#define chunk_release STORE_OWN(chunk_release)
#include "store_table.h"
#define STORE_ENTRY(type, name, parameters, arguments) name,
/* The whole table of this store. */
#define STORE_DEFINE_TABLE(table) const struct store_table table = {store_open, STORE_FUNCTIONS(STORE_ENTRY)};
#else
#define STORE_DEFINE_TABLE(table)
#endif
