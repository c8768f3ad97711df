/*
 * Who has this MAC, this address: hash tables with open addressing, half full at most. A removal closes the gap it leaves, so that tables
 * do not age under guests that come and go. And lists whose members know their neighbours.
 */
#include <stdlib.h>
#include "switch.h"

#define FIRST_ENTRIES 1024u

static size_t place(const struct table *t, uint64_t key)
{
    key ^= key >> 29;
    key *= 0x9e3779b97f4a7c15u;
    return (size_t)(key >> 32) & t->mask;
}

void *table_find(const struct table *t, uint64_t key)
{
    if (!t->entries)
        return NULL;
    for (size_t i = place(t, key); t->entries[i].value; i = (i + 1) & t->mask)
        if (t->entries[i].key == key)
            return t->entries[i].value;
    return NULL;
}

static void insert(struct table *t, uint64_t key, void *value)
{
    size_t i = place(t, key);
    while (t->entries[i].value)
        i = (i + 1) & t->mask;
    t->entries[i].key = key;
    t->entries[i].value = value;
}

void table_put(struct table *t, uint64_t key, void *value)
{
    size_t size = t->entries ? t->mask + 1 : 0;
    if ((t->count + 1) * 2 > size) {
        struct table grown = { .mask = (size ? size * 2 : FIRST_ENTRIES) - 1, .count = t->count };
        grown.entries = calloc(grown.mask + 1, sizeof *grown.entries);
        if (!grown.entries)
            abort(); /* the next switch goes on from the state file */
        for (size_t i = 0; i < size; i++)
            if (t->entries[i].value)
                insert(&grown, t->entries[i].key, t->entries[i].value);
        free(t->entries);
        *t = grown;
    }
    insert(t, key, value);
    t->count++;
}

void table_free(struct table *t)
{
    free(t->entries);
    *t = (struct table){ 0 };
}

void table_remove(struct table *t, uint64_t key)
{
    if (!t->entries)
        return;
    size_t gap = place(t, key);
    while (t->entries[gap].value && t->entries[gap].key != key)
        gap = (gap + 1) & t->mask;
    if (!t->entries[gap].value)
        return;
    t->count--;
    for (size_t i = (gap + 1) & t->mask; t->entries[i].value; i = (i + 1) & t->mask) {
        /* It may move into the gap when its own place is not between the gap and where it is. */
        size_t home = place(t, t->entries[i].key);
        if (((i - home) & t->mask) >= ((i - gap) & t->mask)) {
            t->entries[gap] = t->entries[i];
            gap = i;
        }
    }
    t->entries[gap].value = NULL;
}

void link_append(struct link *list, struct link *l)
{
    l->next = list;
    l->prev = list->prev;
    list->prev->next = l;
    list->prev = l;
}

void link_remove(struct link *l)
{
    if (!l->next)
        return;
    l->next->prev = l->prev;
    l->prev->next = l->next;
    l->next = l->prev = NULL;
}
