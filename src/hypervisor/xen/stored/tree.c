/* The nodes: one hash table keyed by (parent, name), so that finding a path costs its length, whatever the size of a directory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "store.h"

struct node *tree_root;
uint64_t tree_generation = 1;
uint32_t tree_owned[DOMAINS_MAX];

static struct node **table;
static uint32_t table_size, node_count; /* table_size is a power of two */

void *xalloc(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    if (!p) {
        fprintf(stderr, "shoal-stored: out of memory\n");
        abort();
    }
    return p;
}

char *xcopy(const void *bytes, size_t len)
{
    char *p = xalloc(len + 1);
    memcpy(p, bytes, len);
    return p;
}

/* FNV-1a over the name, begun from the parent's address. */
static uint32_t hash_of(const struct node *parent, const char *name, size_t len)
{
    uint64_t h = 14695981039346656037ull ^ (uintptr_t)parent;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)name[i]) * 1099511628211ull;
    return (uint32_t)(h ^ (h >> 32));
}

static void grow(void)
{
    uint32_t size = table_size ? table_size * 2 : 4096;
    struct node **bigger = xalloc(size * sizeof *bigger);
    for (uint32_t i = 0; i < table_size; i++)
        for (struct node *n = table[i], *next; n; n = next) {
            next = n->hash_next;
            n->hash_next = bigger[n->hash & (size - 1)];
            bigger[n->hash & (size - 1)] = n;
        }
    free(table);
    table = bigger;
    table_size = size;
}

static struct node *child_find(const struct node *parent, const char *name, size_t len)
{
    uint32_t h = hash_of(parent, name, len);
    for (struct node *n = table[h & (table_size - 1)]; n; n = n->hash_next)
        if (n->hash == h && n->parent == parent && n->name_len == len && !memcmp(n->name, name, len))
            return n;
    return NULL;
}

static unsigned owner_of(const struct node *n) { return n->perms[0].domid < DOMAINS_MAX ? n->perms[0].domid : 0; }

static struct node *child_make(struct node *parent, const char *name, size_t len, unsigned creator)
{
    struct node *n = xalloc(sizeof *n + len + 1);
    memcpy(n->name, name, len);
    n->name_len = (uint16_t)len;
    n->parent = parent;
    n->perm_count = parent->perm_count;
    n->perms = xalloc(n->perm_count * sizeof *n->perms);
    memcpy(n->perms, parent->perms, n->perm_count * sizeof *n->perms);
    if (creator)
        n->perms[0].domid = (uint16_t)creator;
    n->value = xcopy("", 0);
    n->generation = ++tree_generation;
    parent->generation = tree_generation;
    n->prev = parent->last;
    if (parent->last)
        parent->last->next = n;
    else
        parent->first = n;
    parent->last = n;
    parent->children++;
    tree_owned[owner_of(n)]++;
    if (++node_count > table_size)
        grow();
    n->hash = hash_of(parent, name, len);
    n->hash_next = table[n->hash & (table_size - 1)];
    table[n->hash & (table_size - 1)] = n;
    return n;
}

void tree_init(void)
{
    grow();
    tree_root = xalloc(sizeof *tree_root + 1);
    tree_root->perm_count = 1;
    tree_root->perms = xalloc(sizeof *tree_root->perms);
    tree_root->value = xcopy("", 0);
    tree_root->generation = ++tree_generation;
}

/* Length of the component at p, which stands after a slash. */
static size_t component(const char *p)
{
    const char *end = strchr(p, '/');
    return end ? (size_t)(end - p) : strlen(p);
}

struct node *tree_find(const char *path)
{
    struct node *n = tree_root;
    const char *p = path + 1;
    while (n && *p) {
        size_t len = component(p);
        n = child_find(n, p, len);
        p += len + (p[len] == '/');
    }
    return n;
}

struct node *tree_make(const char *path, unsigned creator)
{
    struct node *n = tree_root;
    const char *p = path + 1;
    while (*p) {
        size_t len = component(p);
        struct node *child = child_find(n, p, len);
        n = child ? child : child_make(n, p, len, creator);
        p += len + (p[len] == '/');
    }
    return n;
}

void tree_set_value(struct node *n, const void *value, size_t len)
{
    char *copy = xcopy(value, len);
    free(n->value);
    n->value = copy;
    n->value_len = (uint16_t)len;
    n->generation = ++tree_generation;
}

void tree_set_perms(struct node *n, const struct perm *p, unsigned count)
{
    struct perm *copy = xalloc(count * sizeof *copy);
    memcpy(copy, p, count * sizeof *copy);
    tree_owned[owner_of(n)]--;
    free(n->perms);
    n->perms = copy;
    n->perm_count = (uint8_t)count;
    tree_owned[owner_of(n)]++;
    n->generation = ++tree_generation;
}

static void unlink_and_free(struct node *n)
{
    struct node *parent = n->parent;
    struct node **slot = &table[n->hash & (table_size - 1)];

    while (*slot != n)
        slot = &(*slot)->hash_next;
    *slot = n->hash_next;
    if (n->prev) n->prev->next = n->next; else parent->first = n->next;
    if (n->next) n->next->prev = n->prev; else parent->last = n->prev;
    node_count--;
    parent->children--;
    parent->generation = ++tree_generation;
    tree_owned[owner_of(n)]--;
    free(n->perms);
    free(n->value);
    free(n);
}

/* `path` is a buffer of XENSTORE_ABS_PATH_MAX + 1 bytes that holds n's path of `len` bytes; what is below is appended in place. Events
 * are only queued while this runs, so that whoever hears one and looks again finds everything gone. */
static void drop(struct node *n, char *path, size_t len, void (*removed)(const char *path, bool top), bool top)
{
    removed(path, top);
    while (n->last) {
        struct node *child = n->last;
        path[len] = '/';
        memcpy(path + len + 1, child->name, child->name_len + 1u);
        drop(child, path, len + 1 + child->name_len, removed, false);
        path[len] = 0;
    }
    unlink_and_free(n);
}

void tree_remove(struct node *n, const char *path, void (*removed)(const char *path, bool top))
{
    char at[XENSTORE_ABS_PATH_MAX + 1];
    size_t len = strlen(path);
    memcpy(at, path, len + 1);
    drop(n, at, len, removed, true);
}
