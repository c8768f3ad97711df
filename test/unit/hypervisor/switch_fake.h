/*
 * A Xen made of memory, and guests whose rings, buffers and event channels lie in it, for tests of the switch. The memory is shared with
 * forked processes, so that a switch can be killed in one and go on in another while the guests stay.
 */
#ifndef SWITCH_FAKE_H
#define SWITCH_FAKE_H
#include "switch.h"

#define GUESTS 8u           /* domains 1 to 8; others up to 29,999 are there, too, and do nothing */
#define GRANTS 512u         /* 1 to 256 are receive buffers, the others hold what is sent */
#define FIRST_GONE 30000u   /* domains from here on do not exist */

struct guest {
    uint8_t rings[2 * PAGE];
    uint8_t pages[GRANTS][PAGE];
    uint32_t sent, reaped, posted, received; /* the guest's own indices */
    uint32_t kicks, notified;
    uint32_t statuses[4];   /* answers to what it sent: -2, -1, 0, 1 */
    bool pending, gone, holds; /* holds: gives no buffer back */
    uint32_t bad_ref;       /* a copy of this grant fails */
    uint64_t seen[64 * 1024 / 64]; /* for the use of tests */
};
struct world {
    struct guest guests[GUESTS + 1];
    uint32_t longest;       /* bytes of a copy */
    uint32_t next_slot;     /* of the ring, for the next frame from outside */
    uint8_t ring[PACKET_SLOTS * PACKET_SLOT_BYTES] __attribute__((aligned(4096)));
};
/* Calls that a real switch makes to the kernel for Xen, and what they carry. */
struct calls { uint64_t events, unmasks, notifies, copies, segments, ports, lent; }; /* lent: pages mapped now */
extern struct calls calls;
extern struct world *world;
extern int crash_after;     /* the process ends at this crash point; 0: never */
extern unsigned crowd_size; /* domains that do nothing and are bound */

void fake_init(void);
void fake_forget(void);     /* what a new process would not know */
void guest_init(unsigned g, unsigned buffers);
netif_tx_sring_t *guest_tx(unsigned g);
netif_rx_sring_t *guest_rx(unsigned g);
void guest_kick(unsigned g);
void guest_request(unsigned g, uint16_t offset, uint16_t size, uint16_t flags); /* pushed; the bytes are in the page */
uint8_t *guest_page(unsigned g);                                                /* where the next request's bytes go */
bool guest_send(unsigned g, const void *frame, size_t length, uint16_t flags);  /* false: its ring is full */
void guest_reap(unsigned g);
size_t guest_receive(unsigned g, void *frame, uint16_t *flags);                 /* 0: none */
void guest_post(unsigned g, uint16_t id);

/* The other end of the uplink. `header` has 10 bytes (virtio_net_hdr), a frame that leaves up to OUTSIDE_MAX. */
#define OUTSIDE_MAX 65550u
size_t outside_receive(uint8_t header[10], void *frame);
bool outside_send(const uint8_t header[10], const void *frame, size_t length); /* false: the ring is full */
/* As the kernel would with a status, a VLAN's tag beside the frame, and `length` bytes of `whole`. */
bool outside_put(const uint8_t header[10], const void *frame, size_t length, size_t whole, uint32_t status, uint16_t tag, uint16_t type);

/* Frames. Guest g has MAC 02:00:00:00:00:0g and address 10.0.0.g; 0 is somebody outside; 0xff is everybody. */
size_t make_udp(uint8_t *frame, unsigned from, unsigned to, uint32_t number, size_t length);
size_t make_arp(uint8_t *frame, unsigned from, unsigned from_address, unsigned for_address);
uint32_t frame_number(const uint8_t *frame);

/* What is said over the socket; the answer's first line, without its end. */
const char *ask(const char *format, ...) __attribute__((format(printf, 1, 2)));
void check(bool well, const char *format, ...) __attribute__((format(printf, 2, 3)));
void steps(unsigned count);
void attach_guests(unsigned count); /* guests 1 to count, on network n; fine when done before */
extern const char *state_path;
void fresh(unsigned guests); /* a new world, a new switch without state, guests attached */
void stop_switch(void);
int switch_main(int argc, char **argv); /* main of main.c */

void test_forwarding(void);
void test_guests(void);
void test_requests(void);
void test_crashes(void);
void test_places(void);
void test_unlocked(void);
void test_busy(void);
void bench(void);
void test_uplink(void);
int uplink_guest(const char *bridge);
int uplink_tests(const char *bridge);
int uplink_serve(int argc, char **argv);
int uplink_flood(const char *address);
#endif
