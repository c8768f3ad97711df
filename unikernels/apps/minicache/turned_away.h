/* A client for whom there is no place is told so (503), instead of cut off; a few at a time, for this too takes memory. */
#ifndef MINICACHE_TURNED_AWAY_H
#define MINICACHE_TURNED_AWAY_H

#include "lwip/tcp.h"

#define TURNED_AWAY_MOST 16u

/* Takes over a connection that was accepted. False: there are as many already, and it is the caller's to abort. */
bool turned_away(struct tcp_pcb *pcb);

#endif
