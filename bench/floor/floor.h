/* The store half of the raw floor: the requests of src/hypervisor/xen/nodes.ts, from C. */
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

#endif
