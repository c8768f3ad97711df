/* Frames and questions for the tests of addresses that move and wait. Guests 1 to 4 are there; guest 1 has 10.0.0.50, too. */
#ifndef SWITCH_PLACES_H
#define SWITCH_PLACES_H
#include "switch_fake.h"

#define MOVED 50u /* 10.0.0.50 */
#define SYN TCP_SYN
#define ACK TCP_ACK
#define FIN (TCP_FIN | TCP_ACK)

extern uint8_t sent[2048], got[2048], header[10];

void begin_places(void);
/* Into `sent`. `to`: whose MAC it bears; 0xfe: the one that stands for a held address. */
size_t make_tcp(unsigned from, unsigned to, unsigned source, unsigned target, unsigned from_port, unsigned to_port, uint8_t flags);
size_t make_datagram(unsigned from, unsigned to, unsigned source, unsigned target, unsigned from_port, unsigned to_port);
unsigned clear(unsigned g); /* what it received, and 0: what came outside, is forgotten; how many */
void clear_all(void);
/* Which guest got what was just made and sent from outside, under its own MAC; 0: none, 99: several, or another MAC. */
unsigned reaches(size_t length);
unsigned client(unsigned mac, unsigned port, uint8_t flags); /* the same for a segment to the address */
bool answers(unsigned g, unsigned port, uint8_t flags);      /* whether a guest's segment from the address leaves */
unsigned arp_says(unsigned address);                         /* whose MAC the switch answers with */
void test_holds(void);

#endif
