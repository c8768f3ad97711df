/* The operations of the protocol: each checks its arguments and the caller's rights, then goes through the view. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "store.h"

struct call { struct connection *c; const struct xsd_sockmsg *h; char *payload; struct transaction *t; };

static void reply(const struct call *k, const void *bytes, size_t len)
{
    connection_send(k->c, k->h->type, k->h->req_id, k->h->tx_id, bytes, len);
}

static int reply_ok(const struct call *k)
{
    reply(k, "OK", 3);
    return 0;
}

static void reply_error(const struct call *k, int error)
{
    const char *name = "EINVAL";
    for (size_t i = 0; i < sizeof xsd_errors / sizeof xsd_errors[0]; i++)
        if (xsd_errors[i].errnum == error)
            name = xsd_errors[i].errstring;
    connection_send(k->c, XS_ERROR, k->h->req_id, k->h->tx_id, name, strlen(name) + 1);
}

/* Splits the payload at its NULs; returns the number of strings, or max + 1 when there are more. The last need not end in NUL. */
static unsigned split(const struct call *k, char **at, unsigned max)
{
    unsigned count = 0;
    for (char *p = k->payload, *end = p + k->h->len; p < end; p += strlen(p) + 1)
        if (count < max)
            at[count++] = p;
        else
            return max + 1;
    return count;
}

static bool letters(const char *p)
{
    for (; *p; p++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@", *p))
            return false;
    return true;
}

/* Makes `given` absolute in `path` (XENSTORE_ABS_PATH_MAX + 1 bytes). */
static int canonical(const struct connection *c, const char *given, char *path)
{
    size_t len = strlen(given);
    if (!len || !letters(given) || strstr(given, "//") || (len > 1 && given[len - 1] == '/'))
        return EINVAL;
    if (given[0] == '/') {
        if (len > XENSTORE_ABS_PATH_MAX)
            return EINVAL;
        memcpy(path, given, len + 1);
        return 0;
    }
    if (len > XENSTORE_REL_PATH_MAX || given[0] == '@')
        return EINVAL;
    snprintf(path, XENSTORE_ABS_PATH_MAX + 1, "/local/domain/%u/%s", c->domid, given);
    return 0;
}

static bool allowed(const struct connection *c, const struct view *v, unsigned bit)
{
    if (c->privileged || v->perms[0].domid == c->domid)
        return true;
    for (unsigned i = 1; i < v->perm_count; i++)
        if (v->perms[i].domid == c->domid)
            return v->perms[i].bits & bit;
    return v->perms[0].bits & bit;
}

static void parent_of(char *path)
{
    char *slash = strrchr(path, '/');
    slash[slash == path] = 0;
}

/* Looks at `path` for `bit`; where it is not there, asks its nearest ancestor, so that a stranger cannot tell absent from forbidden. */
static int check(const struct call *k, const char *path, unsigned bit, struct view *v)
{
    struct view above;
    char at[XENSTORE_ABS_PATH_MAX + 1];
    view_get(k->t, path, v);
    if (v->exists)
        return allowed(k->c, v, bit) ? 0 : EACCES;
    if (k->c->privileged)
        return ENOENT;
    strcpy(at, path);
    do {
        parent_of(at);
        view_get(k->t, at, &above);
    } while (!above.exists && at[1]);
    return allowed(k->c, &above, bit) ? ENOENT : EACCES;
}

static int path_argument(const struct call *k, char *path)
{
    char *s[1];
    return split(k, s, 1) == 1 ? canonical(k->c, s[0], path) : EINVAL;
}

static int do_read(const struct call *k)
{
    char path[XENSTORE_ABS_PATH_MAX + 1];
    struct view v;
    int error = path_argument(k, path);
    if (!error)
        error = check(k, path, PERM_READ, &v);
    if (!error)
        reply(k, v.value, v.value_len);
    return error;
}

static int do_directory(const struct call *k)
{
    char path[XENSTORE_ABS_PATH_MAX + 1], *s[2];
    struct view v;
    bool part = k->h->type == XS_DIRECTORY_PART;
    if (split(k, s, 2) != (part ? 2u : 1u))
        return EINVAL;
    int error = canonical(k->c, s[0], path);
    if (!error)
        error = check(k, path, PERM_READ, &v);
    if (error)
        return error;
    size_t len;
    char *names = view_children(k->t, path, &len);
    if (!part) {
        if (len > XENSTORE_PAYLOAD_MAX)
            error = E2BIG;
        else
            reply(k, names, len);
    } else {
        /* <generation>NUL<names from the offset on, whole ones>, and one more NUL after the last name of all. */
        size_t offset = strtoul(s[1], NULL, 10);
        char out[XENSTORE_PAYLOAD_MAX];
        size_t have = (size_t)snprintf(out, sizeof out, "%llu", (unsigned long long)v.generation) + 1;
        if (offset > len)
            error = EINVAL;
        else {
            while (offset < len) {
                size_t name = strlen(names + offset) + 1;
                if (have + name + 1 > sizeof out)
                    break;
                memcpy(out + have, names + offset, name);
                have += name;
                offset += name;
            }
            if (offset >= len)
                out[have++] = 0;
            reply(k, out, have);
        }
    }
    free(names);
    return error;
}

static int do_get_perms(const struct call *k)
{
    char path[XENSTORE_ABS_PATH_MAX + 1], out[PERMS_MAX * 8];
    struct view v;
    int error = path_argument(k, path);
    if (!error)
        error = check(k, path, PERM_READ, &v);
    if (error)
        return error;
    size_t have = 0;
    for (unsigned i = 0; i < v.perm_count; i++)
        have += (size_t)snprintf(out + have, sizeof out - have, "%c%u", "nrwb"[v.perms[i].bits], v.perms[i].domid) + 1;
    reply(k, out, have);
    return 0;
}

static int do_set_perms(const struct call *k)
{
    char path[XENSTORE_ABS_PATH_MAX + 1], *s[PERMS_MAX + 1];
    struct perm perms[PERMS_MAX];
    struct view v;
    unsigned count = split(k, s, PERMS_MAX + 1);
    if (count < 2 || count > PERMS_MAX + 1)
        return EINVAL;
    int error = canonical(k->c, s[0], path);
    if (!error)
        error = check(k, path, PERM_WRITE, &v);
    if (error)
        return error;
    for (unsigned i = 1; i < count; i++) {
        const char *kind = strchr("nrwb", s[i][0]);
        char *end;
        unsigned long domid = strtoul(s[i] + 1, &end, 10);
        if (!s[i][0] || !kind || *end || end == s[i] + 1 || domid >= DOMAINS_MAX)
            return EINVAL;
        perms[i - 1] = (struct perm){ (uint16_t)domid, (uint8_t)(kind - "nrwb") };
    }
    /* Only the owner may set them, and only a privileged one may give the node away. */
    if (!k->c->privileged && (v.perms[0].domid != k->c->domid || perms[0].domid != k->c->domid))
        return EPERM;
    error = view_set_perms(k->t, path, perms, count - 1);
    return error ? error : reply_ok(k);
}

static int do_write(const struct call *k)
{
    char path[XENSTORE_ABS_PATH_MAX + 1];
    struct view v;
    size_t path_len = strlen(k->payload) + 1;
    if (path_len > k->h->len)
        return EINVAL;
    bool make = k->h->type == XS_MKDIR;
    size_t len = k->h->len - path_len;
    int error = canonical(k->c, k->payload, path);
    if (!error && !k->c->privileged && len > QUOTA_VALUE)
        error = ENOSPC;
    if (!error && !k->c->privileged) {
        error = check(k, path, PERM_WRITE, &v);
        if (error == ENOENT)
            error = tree_owned[k->c->domid] >= QUOTA_NODES ? ENOSPC : 0;
    }
    if (!error && !path[1])
        error = EINVAL;
    if (!error)
        error = make ? view_mkdir(k->t, path, k->c->privileged ? 0 : k->c->domid)
                     : view_write(k->t, path, k->payload + path_len, len, k->c->privileged ? 0 : k->c->domid);
    return error ? error : reply_ok(k);
}

static int do_rm(const struct call *k)
{
    char path[XENSTORE_ABS_PATH_MAX + 1], above[XENSTORE_ABS_PATH_MAX + 1];
    struct view v;
    int error = path_argument(k, path);
    if (!error && !path[1])
        error = EINVAL;
    if (!error)
        error = check(k, path, PERM_WRITE, &v);
    if (error == ENOENT) {
        strcpy(above, path);
        parent_of(above);
        view_get(k->t, above, &v);
        error = v.exists ? 0 : ENOENT; /* gone already is as good as removed */
    } else if (!error)
        error = view_remove(k->t, path);
    return error ? error : reply_ok(k);
}

static int do_watch(const struct call *k)
{
    char path[XENSTORE_ABS_PATH_MAX + 1], *s[2];
    int error = 0;
    if (split(k, s, 2) != 2)
        return EINVAL;
    bool special = s[0][0] == '@';
    if (special) {
        if (strcmp(s[0], "@introduceDomain") && strcmp(s[0], "@releaseDomain") && strcmp(s[0], "@domainEnds"))
            return EINVAL;
        strcpy(path, s[0]);
        error = k->c->privileged ? 0 : EACCES;
    } else
        error = canonical(k->c, s[0], path);
    if (error)
        return error;
    if (k->h->type == XS_UNWATCH) {
        error = watch_remove(k->c, path, s[1]);
        return error ? error : reply_ok(k);
    }
    error = watch_add(k->c, path, s[1], !special && s[0][0] != '/');
    if (error)
        return error;
    reply_ok(k);
    /* The first event says "look": it comes right after the answer, whatever is there. */
    size_t a = strlen(s[0]) + 1, b = strlen(s[1]) + 1;
    char *body = xalloc(a + b);
    memcpy(body, s[0], a);
    memcpy(body + a, s[1], b);
    connection_send(k->c, XS_WATCH_EVENT, 0, 0, body, a + b);
    free(body);
    return 0;
}

static int do_transaction_start(const struct call *k)
{
    char id[16];
    if (k->t)
        return EBUSY;
    if (!k->c->privileged && k->c->transaction_count >= QUOTA_TRANSACTIONS)
        return ENOSPC;
    int len = snprintf(id, sizeof id, "%u", transaction_id(transaction_start(k->c)));
    reply(k, id, (size_t)len + 1);
    return 0;
}

static int do_transaction_end(const struct call *k)
{
    if (!k->t || (strcmp(k->payload, "T") && strcmp(k->payload, "F")))
        return k->t ? EINVAL : ENOENT;
    int error = transaction_end(k->c, k->t, k->payload[0] == 'T');
    return error ? error : reply_ok(k);
}

static int do_domain(const struct call *k)
{
    char *s[3], *end;
    unsigned want = k->h->type == XS_INTRODUCE ? 3 : 1, count = split(k, s, 3);
    if (count < want || (want == 1 && count != 1))
        return EINVAL;
    unsigned long domid = strtoul(s[0], &end, 10);
    if (*end || end == s[0] || domid >= DOMAINS_MAX)
        return EINVAL;
    if (k->h->type == XS_GET_DOMAIN_PATH) {
        char path[40];
        int len = snprintf(path, sizeof path, "/local/domain/%lu", domid);
        reply(k, path, (size_t)len + 1);
        return 0;
    }
    if (!k->c->privileged)
        return EACCES;
    if (k->h->type == XS_IS_DOMAIN_INTRODUCED) {
        reply(k, domain_introduced((unsigned)domid) ? "T" : "F", 2);
        return 0;
    }
    int error = 0;
    if (k->h->type == XS_INTRODUCE)
        error = domain_introduce((unsigned)domid, strtoull(s[1], NULL, 10), (uint32_t)strtoul(s[2], NULL, 10));
    else if (k->h->type == XS_RELEASE)
        error = domain_release((unsigned)domid);
    else if (!domain_introduced((unsigned)domid))
        error = ENOENT; /* XS_RESUME: deaths are read from Xen, nothing to reset */
    return error ? error : reply_ok(k);
}

void request_handle(struct connection *c, const struct xsd_sockmsg *h, char *payload)
{
    struct call k = { c, h, payload, NULL };
    int error;
    if (h->tx_id && !(k.t = transaction_find(c, h->tx_id))) {
        reply_error(&k, ENOENT);
        return;
    }
    switch (h->type) {
    case XS_READ: error = do_read(&k); break;
    case XS_DIRECTORY:
    case XS_DIRECTORY_PART: error = do_directory(&k); break;
    case XS_GET_PERMS: error = do_get_perms(&k); break;
    case XS_SET_PERMS: error = do_set_perms(&k); break;
    case XS_WRITE:
    case XS_MKDIR: error = do_write(&k); break;
    case XS_RM: error = do_rm(&k); break;
    case XS_WATCH:
    case XS_UNWATCH: error = do_watch(&k); break;
    case XS_TRANSACTION_START: error = do_transaction_start(&k); break;
    case XS_TRANSACTION_END: error = do_transaction_end(&k); break;
    case XS_INTRODUCE:
    case XS_RELEASE:
    case XS_IS_DOMAIN_INTRODUCED:
    case XS_RESUME:
    case XS_GET_DOMAIN_PATH: error = do_domain(&k); break;
    case XS_RESET_WATCHES:
        watches_drop(c);
        transactions_drop(c);
        error = reply_ok(&k);
        break;
    default: error = ENOSYS;
    }
    if (error)
        reply_error(&k, error);
}
