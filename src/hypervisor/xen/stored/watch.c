/*
 * Watches, in one hash table by path: a change looks at its own path and the few above it, never at the watches of others. Events carry
 * the path that changed as the watcher named it: relative to its own home when it registered so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "store.h"

struct watch {
    struct watch *next;
    struct connection *owner;
    size_t home_len;       /* bytes of the path's front that a relative watcher does not see, with the slash */
    char *token;
    uint32_t hash;
    char path[];
};

static struct watch **table;
static uint32_t table_size, watch_count;

static uint32_t hash_of(const char *path, size_t len)
{
    uint64_t h = 14695981039346656037ull;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)path[i]) * 1099511628211ull;
    return (uint32_t)(h ^ (h >> 32));
}

static void grow(void)
{
    uint32_t size = table_size ? table_size * 2 : 1024;
    struct watch **bigger = xalloc(size * sizeof *bigger);
    for (uint32_t i = 0; i < table_size; i++)
        for (struct watch *w = table[i], *next; w; w = next) {
            next = w->next;
            w->next = bigger[w->hash & (size - 1)];
            bigger[w->hash & (size - 1)] = w;
        }
    free(table);
    table = bigger;
    table_size = size;
}

static void send_event(const struct watch *w, const char *path)
{
    if (!w->owner->privileged && w->owner->out_bytes > QUOTA_QUEUE)
        return; /* a guest that does not read loses events, not our memory */
    path += w->home_len;
    size_t path_len = strlen(path) + 1, token_len = strlen(w->token) + 1;
    char *body = xalloc(path_len + token_len);
    memcpy(body, path, path_len);
    memcpy(body + path_len, w->token, token_len);
    connection_send(w->owner, XS_WATCH_EVENT, 0, 0, body, path_len + token_len);
    free(body);
}

/* May this watcher know of a change there? Its own rule: it must be able to read the node, or what is left of it above. */
static bool may_hear(const struct connection *c, const char *path)
{
    if (c->privileged)
        return true;
    if (path[0] == '@')
        return false;
    char at[XENSTORE_ABS_PATH_MAX + 1];
    strcpy(at, path);
    struct node *n;
    while (!(n = tree_find(at))) {
        char *slash = strrchr(at, '/');
        slash[slash == at] = 0;
    }
    if (n->perms[0].domid == c->domid)
        return true;
    for (unsigned i = 1; i < n->perm_count; i++)
        if (n->perms[i].domid == c->domid)
            return n->perms[i].bits & PERM_READ;
    return n->perms[0].bits & PERM_READ;
}

/*
 * dom0's kernel watches everything below its folder of backends, only to learn of devices that come and go: upon an event it asks whether the
 * node is there and then walks over all its devices, whichever node it was. A device comes when its `state` is written and goes when its
 * folder is removed, so it is told of these and spared the other twenty changes that a device makes of itself.
 */
#define BACKENDS "/local/domain/0/backend"
static bool of_no_use(const struct watch *w, const char *changed)
{
    const char *last = strrchr(changed, '/');
    return w->owner->ring && w->owner->domid == 0 && !strcmp(w->path, BACKENDS) && strlen(changed) > sizeof BACKENDS &&
           strcmp(last, "/state") && tree_find(changed);
}

static void fire_at(const char *at, size_t len, const char *changed)
{
    if (!table_size)
        return;
    uint32_t h = hash_of(at, len);
    for (struct watch *w = table[h & (table_size - 1)]; w; w = w->next)
        if (w->hash == h && strlen(w->path) == len && !memcmp(w->path, at, len) && !w->owner->closed && may_hear(w->owner, changed) && !of_no_use(w, changed))
            send_event(w, changed);
}

void watch_fire(const char *path)
{
    size_t len = strlen(path);
    fire_at(path, len, path);
    while (len > 1) {
        while (path[len - 1] != '/')
            len--;
        if (len > 1)
            len--;
        fire_at(path, len, path);
    }
}

void watch_fire_removed(const char *path, bool top)
{
    if (top)
        watch_fire(path);
    else
        fire_at(path, strlen(path), path);
}

void watch_fire_special(const char *name) { fire_at(name, strlen(name), name); }

static struct watch **slot_of(struct connection *c, const char *path, const char *token)
{
    if (!table_size)
        return NULL;
    uint32_t h = hash_of(path, strlen(path));
    for (struct watch **at = &table[h & (table_size - 1)]; *at; at = &(*at)->next)
        if ((*at)->owner == c && !strcmp((*at)->path, path) && !strcmp((*at)->token, token))
            return at;
    return NULL;
}

int watch_add(struct connection *c, const char *path, const char *token, bool relative)
{
    if (slot_of(c, path, token))
        return EEXIST;
    if (!c->privileged && c->watch_count >= QUOTA_WATCHES)
        return E2BIG;
    size_t len = strlen(path);
    struct watch *w = xalloc(sizeof *w + len + 1);
    memcpy(w->path, path, len + 1);
    w->owner = c;
    w->token = xcopy(token, strlen(token));
    w->hash = hash_of(path, len);
    if (relative) {
        char home[40];
        w->home_len = (size_t)snprintf(home, sizeof home, "/local/domain/%u/", c->domid);
    }
    if (++watch_count > table_size)
        grow();
    w->next = table[w->hash & (table_size - 1)];
    table[w->hash & (table_size - 1)] = w;
    c->watch_count++;
    return 0;
}

static void unlink_and_free(struct watch **at)
{
    struct watch *w = *at;
    *at = w->next;
    w->owner->watch_count--;
    watch_count--;
    free(w->token);
    free(w);
}

int watch_remove(struct connection *c, const char *path, const char *token)
{
    struct watch **at = slot_of(c, path, token);
    if (!at)
        return ENOENT;
    unlink_and_free(at);
    return 0;
}

void watches_drop(struct connection *c)
{
    for (uint32_t i = 0; i < table_size && c->watch_count; i++)
        for (struct watch **at = &table[i]; *at;)
            if ((*at)->owner == c)
                unlink_and_free(at);
            else
                at = &(*at)->next;
}
