/* The store's and the switch's half of the raw floor: the requests of src/hypervisor/xen/nodes.ts and of the switch's client, from C. */
#ifndef SHOAL_FLOOR_H
#define SHOAL_FLOOR_H

#include <stdint.h>

/* A connection to the store daemon; exits with a message when there is none. */
int store_connect(void);

struct store_vif {
  char mac[18];
};

/* One transaction and the introduction, sent in one write once the transaction has its number. Returns the number of requests that change nodes. */
unsigned store_register(int socket, unsigned domid, const char *name, const struct store_vif *vif, uint64_t store_mfn, unsigned port);
void store_seal(int socket, unsigned domid, const char *record);
void store_remove(int socket, unsigned domid);
/* All there is in the store of a wired domain: its name and its record. Returns the number of changes. */
unsigned store_name(int socket, unsigned domid, const char *name, const char *record);

int switch_connect(void);
/* Sends lines and waits for as many replies; exits when one is an error. */
void switch_ask(int socket, unsigned replies, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
