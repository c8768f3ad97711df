/*
 * shoal-stored: a xenstore daemon that stays flat. xenstored and oxenstored pay for every write with work that grows with the store or
 * with the number of watches; a thousand guests make them the slowest part of a start. Here a path is one hash lookup a component, a
 * write fires only the watches that stand on its own path, a transaction costs what it touched, and a batch of requests is answered
 * by one system call. The protocol is Xen's public one (xen/io/xs_wire.h): libxl, xl, the kernel's xenbus and guests see no difference.
 *
 * One thread, no blocking but in poll. Files: tree (nodes), transaction (what a transaction sees), watch, connection (framing and queues),
 * request (the operations), domain (rings, event channels), deaths, main (the loop).
 *
 * Errors: functions return 0 or an errno value, which the protocol sends by name. Sizes are bytes. Memory that runs out ends the
 * process: a store that forgot a write is worse than none.
 */
#ifndef STORED_STORE_H
#define STORED_STORE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <xen/io/xs_wire.h>

#define DOMAINS_MAX 0x7ff0u        /* one more than the largest usable domid */
#define PERMS_MAX 16u              /* entries in one node's list */
/* What one unprivileged domain may hold; the figures of the other daemons, so that guests meet nothing new. */
#define QUOTA_NODES 1000u
#define QUOTA_WATCHES 128u
#define QUOTA_TRANSACTIONS 10u
#define QUOTA_TRANSACTION_OPS 1024u
#define QUOTA_VALUE 2048u
#define QUOTA_QUEUE (256u * 1024u) /* bytes waiting for a domain that does not read; then events are dropped */

enum { PERM_READ = 1, PERM_WRITE = 2 };
struct perm { uint16_t domid; uint8_t bits; };

/* ---- tree ---- */
struct node {
    struct node *parent, *first, *last, *next, *prev; /* children in order of creation */
    struct node *hash_next;
    uint64_t generation;                              /* of value, permissions and list of children */
    uint32_t hash, children;
    uint16_t value_len, name_len;
    uint8_t perm_count;
    struct perm *perms;                               /* [0]: owner, and the bits of everybody else */
    char *value;
    char name[];                                      /* NUL-terminated */
};
extern struct node *tree_root;
extern uint64_t tree_generation;
extern uint32_t tree_owned[DOMAINS_MAX];              /* nodes a domain owns */
void tree_init(void);
struct node *tree_find(const char *path);             /* canonical absolute path; NULL when absent */
struct node *tree_make(const char *path, unsigned creator); /* with parents; permissions inherited, owner replaced unless creator is 0 */
void tree_set_value(struct node *n, const void *value, size_t len);
void tree_set_perms(struct node *n, const struct perm *p, unsigned count);
/* Removes n and all below; calls `removed` with each path (n's own first). */
void tree_remove(struct node *n, const char *path, void (*removed)(const char *path, bool top));
void *xalloc(size_t size);
char *xcopy(const void *bytes, size_t len);           /* adds a NUL */

/* ---- connections ---- */
struct chunk { struct chunk *next; size_t len, done; char bytes[]; };
struct ring;
struct transaction;
struct connection {
    struct connection *next, *prev;                   /* all connections: sockets, then rings */
    struct connection *ready_next;                    /* domains with requests waiting */
    bool ready, closed, privileged;
    int fd;                                           /* socket, or -1 */
    unsigned domid;                                   /* 0 for sockets */
    struct ring *ring;                                /* domains only */
    struct xsd_sockmsg header;
    size_t in_have;                                   /* bytes of header + payload read so far */
    char *payload;
    struct chunk *out_first, *out_last;
    size_t out_bytes;
    struct transaction *transactions;
    unsigned transaction_count, watch_count;
    uint32_t next_transaction;
    char *input; size_t input_have;                   /* sockets: bytes read, not yet parsed */
};
extern struct connection *connections;
struct connection *connection_new(int fd, unsigned domid, bool privileged);
void connection_close(struct connection *c);          /* marks; freed by connections_sweep */
void connections_sweep(void);
void connection_send(struct connection *c, uint32_t type, uint32_t req_id, uint32_t tx_id, const void *payload, size_t len);
void socket_readable(struct connection *c);
void socket_flush(struct connection *c);

/* ---- transactions: a view over the tree ---- */
struct view { bool exists; const char *value; size_t value_len; const struct perm *perms; unsigned perm_count; uint64_t generation; };
struct transaction *transaction_start(struct connection *c);
struct transaction *transaction_find(struct connection *c, uint32_t id);
uint32_t transaction_id(const struct transaction *t);
int transaction_end(struct connection *c, struct transaction *t, bool commit); /* EAGAIN when what it read has changed */
void transactions_drop(struct connection *c);
/* All take t == NULL for "no transaction". */
void view_get(struct transaction *t, const char *path, struct view *v);
/* Names of children, each NUL-terminated, in a buffer the caller frees. */
char *view_children(struct transaction *t, const char *path, size_t *len);
int view_write(struct transaction *t, const char *path, const void *value, size_t len, unsigned creator);
int view_mkdir(struct transaction *t, const char *path, unsigned creator);
int view_remove(struct transaction *t, const char *path);
int view_set_perms(struct transaction *t, const char *path, const struct perm *p, unsigned count);

/* ---- watches ---- */
int watch_add(struct connection *c, const char *path, const char *token, bool relative);
int watch_remove(struct connection *c, const char *path, const char *token);
void watches_drop(struct connection *c);
void watch_fire(const char *path);                    /* watches on path and on what is above it */
void watch_fire_removed(const char *path, bool top);  /* top: as watch_fire; below: only watches on the path itself */
void watch_fire_special(const char *name);            /* "@introduceDomain", "@releaseDomain", and our own "@domainEnds": any domain, known to the store or not */

/* ---- requests ---- */
void request_handle(struct connection *c, const struct xsd_sockmsg *h, char *payload);

/* ---- domains ---- */
int domains_open(void);                               /* 0, or -1 with a message printed */
int domains_fd(void);                                 /* readable when an event channel fired */
void domains_event(void);
int domain_introduce(unsigned domid, uint64_t gfn, uint32_t port);
int domain_release(unsigned domid);
bool domain_introduced(unsigned domid);
bool domains_work(void);                              /* serves rings with work, fairly; true when more waits */
void domain_flush(struct connection *c);
int domains_timeout_ms(void);                         /* for poll: time until deaths are looked at, -1 when none is due */
#endif
