/*
 * What a transaction sees: the tree, with the transaction's own operations laid over it in order. Nothing is copied when one starts; the
 * generation of everything it looked at is remembered, and the end is refused with EAGAIN when any of it has changed since. Writes alone
 * never conflict. Without a transaction the same calls change the tree at once and fire the watches.
 */
#include <stdlib.h>
#include <string.h>
#include "store.h"

enum op_kind { OP_WRITE, OP_MKDIR, OP_REMOVE, OP_PERMS };
struct op {
    struct op *next;
    enum op_kind kind;
    unsigned creator;
    unsigned perm_count;   /* of OP_PERMS; for OP_WRITE and OP_MKDIR what a node made by it inherits */
    struct perm *perms;
    size_t len;
    char *value;
    char path[];
};
struct seen { struct seen *next; uint64_t generation; char path[]; };
struct transaction {
    struct transaction *next;
    uint32_t id;
    unsigned ops_count;
    struct op *ops, **ops_end;
    struct seen *seen;
};

struct transaction *transaction_start(struct connection *c)
{
    struct transaction *t = xalloc(sizeof *t);
    do
        t->id = ++c->next_transaction;
    while (!t->id || transaction_find(c, t->id));
    t->ops_end = &t->ops;
    t->next = c->transactions;
    c->transactions = t;
    c->transaction_count++;
    return t;
}

uint32_t transaction_id(const struct transaction *t) { return t->id; }

struct transaction *transaction_find(struct connection *c, uint32_t id)
{
    struct transaction *t = c->transactions;
    while (t && t->id != id)
        t = t->next;
    return t;
}

static void transaction_free(struct connection *c, struct transaction *t)
{
    struct transaction **at = &c->transactions;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    c->transaction_count--;
    for (struct op *o = t->ops, *next; o; o = next) {
        next = o->next;
        free(o->perms);
        free(o->value);
        free(o);
    }
    for (struct seen *s = t->seen, *next; s; s = next) {
        next = s->next;
        free(s);
    }
    free(t);
}

void transactions_drop(struct connection *c)
{
    while (c->transactions)
        transaction_free(c, c->transactions);
}

/* True when `path` is `above` or stands below it. */
static bool within(const char *path, const char *above)
{
    size_t len = strlen(above);
    if (len == 1)
        return true; /* the root */
    return !strncmp(path, above, len) && (path[len] == 0 || path[len] == '/');
}

static uint64_t generation_of(const char *path)
{
    struct node *n = tree_find(path);
    return n ? n->generation : 0;
}

static void remember(struct transaction *t, const char *path)
{
    for (struct seen *s = t->seen; s; s = s->next)
        if (!strcmp(s->path, path))
            return;
    size_t len = strlen(path);
    struct seen *s = xalloc(sizeof *s + len + 1);
    memcpy(s->path, path, len + 1);
    s->generation = generation_of(path);
    s->next = t->seen;
    t->seen = s;
}

/* The view without remembering: for what the daemon itself wants to know. */
static void look(struct transaction *t, const char *path, struct view *v)
{
    struct node *n = tree_find(path);
    *v = (struct view){ .exists = n != NULL, .value = "" };
    if (n)
        *v = (struct view){ true, n->value, n->value_len, n->perms, n->perm_count, n->generation };
    for (struct op *o = t ? t->ops : NULL; o; o = o->next) {
        bool same = !strcmp(o->path, path);
        if (o->kind == OP_REMOVE) {
            if (within(path, o->path))
                v->exists = false;
        } else if (o->kind == OP_PERMS) {
            if (same) {
                v->perms = o->perms;
                v->perm_count = o->perm_count;
            }
        } else if (within(o->path, path)) {
            if (!v->exists)
                *v = (struct view){ true, "", 0, o->perms, o->perm_count, 0 };
            if (same && o->kind == OP_WRITE) {
                v->value = o->value;
                v->value_len = o->len;
            }
        }
    }
}

void view_get(struct transaction *t, const char *path, struct view *v)
{
    if (t)
        remember(t, path);
    look(t, path, v);
}

/* A growing list of NUL-terminated names. */
struct names { char *bytes; size_t len, room; };

static char *names_find(struct names *l, const char *name, size_t len)
{
    for (char *p = l->bytes; p < l->bytes + l->len; p += strlen(p) + 1)
        if (strlen(p) == len && !memcmp(p, name, len))
            return p;
    return NULL;
}

static void names_add(struct names *l, const char *name, size_t len)
{
    if (l->len + len + 1 > l->room) {
        l->room = (l->room + len + 1) * 2;
        l->bytes = realloc(l->bytes, l->room);
        if (!l->bytes)
            abort();
    }
    memcpy(l->bytes + l->len, name, len);
    l->bytes[l->len + len] = 0;
    l->len += len + 1;
}

char *view_children(struct transaction *t, const char *path, size_t *len)
{
    struct names l = { xalloc(256), 0, 256 };
    struct node *n = tree_find(path);
    size_t skip = strlen(path) == 1 ? 1 : strlen(path) + 1;

    if (t)
        remember(t, path);
    for (struct node *child = n ? n->first : NULL; child; child = child->next)
        names_add(&l, child->name, child->name_len);
    for (struct op *o = t ? t->ops : NULL; o; o = o->next) {
        if (o->kind == OP_PERMS)
            continue;
        if (o->kind == OP_REMOVE && within(path, o->path)) {
            l.len = 0;
            continue;
        }
        if (!within(o->path, path) || strlen(o->path) <= skip)
            continue;
        const char *name = o->path + skip;
        size_t name_len = strcspn(name, "/");
        char *at = names_find(&l, name, name_len);
        if (o->kind == OP_REMOVE) {
            if (at && !name[name_len]) {
                memmove(at, at + name_len + 1, (size_t)(l.bytes + l.len - (at + name_len + 1)));
                l.len -= name_len + 1;
            }
        } else if (!at)
            names_add(&l, name, name_len);
    }
    *len = l.len;
    return l.bytes;
}

static int append(struct transaction *t, enum op_kind kind, const char *path, const void *value, size_t len,
                  const struct perm *perms, unsigned perm_count, unsigned creator)
{
    if (t->ops_count >= QUOTA_TRANSACTION_OPS)
        return ENOSPC;
    size_t path_len = strlen(path);
    struct op *o = xalloc(sizeof *o + path_len + 1);
    memcpy(o->path, path, path_len + 1);
    o->kind = kind;
    o->creator = creator;
    o->value = value ? xcopy(value, len) : NULL;
    o->len = len;
    o->perm_count = perm_count;
    o->perms = xalloc((perm_count ? perm_count : 1) * sizeof *perms);
    if (perm_count)
        memcpy(o->perms, perms, perm_count * sizeof *perms);
    *t->ops_end = o;
    t->ops_end = &o->next;
    t->ops_count++;
    return 0;
}

/* What a node made at `path` would inherit: the permissions of the nearest node above that is there, owned by its creator. */
static unsigned inherited(struct transaction *t, const char *path, unsigned creator, struct perm *perms)
{
    char at[XENSTORE_ABS_PATH_MAX + 1];
    struct view v;
    strcpy(at, path);
    do {
        char *slash = strrchr(at, '/');
        slash[slash == at] = 0;
        look(t, at, &v);
    } while (!v.exists && at[1]);
    memcpy(perms, v.perms, v.perm_count * sizeof *perms);
    if (creator)
        perms[0].domid = (uint16_t)creator;
    return v.perm_count;
}

static int append_making(struct transaction *t, enum op_kind kind, const char *path, const void *value, size_t len, unsigned creator)
{
    struct perm perms[PERMS_MAX];
    unsigned count = path[1] ? inherited(t, path, creator, perms) : 0;
    return append(t, kind, path, value, len, perms, count, creator);
}

int view_write(struct transaction *t, const char *path, const void *value, size_t len, unsigned creator)
{
    if (t)
        return append_making(t, OP_WRITE, path, value, len, creator);
    tree_set_value(tree_make(path, creator), value, len);
    watch_fire(path);
    return 0;
}

int view_mkdir(struct transaction *t, const char *path, unsigned creator)
{
    if (t)
        return append_making(t, OP_MKDIR, path, NULL, 0, creator);
    if (!tree_find(path)) {
        tree_make(path, creator);
        watch_fire(path);
    }
    return 0;
}

int view_remove(struct transaction *t, const char *path)
{
    if (t)
        return append(t, OP_REMOVE, path, NULL, 0, NULL, 0, 0);
    struct node *n = tree_find(path);
    if (n && n != tree_root)
        tree_remove(n, path, watch_fire_removed);
    return 0;
}

int view_set_perms(struct transaction *t, const char *path, const struct perm *p, unsigned count)
{
    if (t)
        return append(t, OP_PERMS, path, NULL, 0, p, count, 0);
    struct node *n = tree_find(path);
    if (!n)
        return ENOENT;
    tree_set_perms(n, p, count);
    watch_fire(path);
    return 0;
}

int transaction_end(struct connection *c, struct transaction *t, bool commit)
{
    int error = 0;
    if (commit)
        for (struct seen *s = t->seen; s && !error; s = s->next)
            if (generation_of(s->path) != s->generation)
                error = EAGAIN;
    for (struct op *o = commit && !error ? t->ops : NULL; o; o = o->next) {
        /* A node that an operation changes may have been removed by somebody else since: then there is nothing to change. */
        switch (o->kind) {
        case OP_WRITE: view_write(NULL, o->path, o->value, o->len, o->creator); break;
        case OP_MKDIR: view_mkdir(NULL, o->path, o->creator); break;
        case OP_REMOVE: view_remove(NULL, o->path); break;
        case OP_PERMS: view_set_perms(NULL, o->path, o->perms, o->perm_count); break;
        }
    }
    transaction_free(c, t);
    return error;
}
