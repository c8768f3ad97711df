/*
 * shoal-switch: frames between guests, and between guests and a bridge, without a network device, a kernel thread or a bridge port for
 * each guest. It maps the two ring pages of every vif, and moves frames in batches: one grant copy takes what guests sent, one
 * delivers what they get. Who is where is told by the host agent (request.c) and never learned, so no guest can take another's place.
 *
 * One thread, one epoll loop (main.c). Files: vif (attach, detach, resume), event, ring, identity, place (addresses that go from one guest to
 * another, or wait for one), flow (whose connection), hold (frames that wait for a guest),
 * backlog (frames that wait for a buffer), lasting (buffers that stay mapped), move (a turn of the data path), route (who gets a frame), frame (bytes, pure), table (hashes), pace (rate limits), networks, uplink (frames from and to outside), packet (the interface and its socket), control and
 * request (the socket of the agent), state (what survives a crash), mirror (pcap), xen (the only one that speaks to Xen, behind hypervisor.h).
 *
 * Errors: functions give 0 or an errno value, which the protocol sends by name. Sizes are bytes. Addresses are in network order.
 */
#ifndef SWITCH_SWITCH_H
#define SWITCH_SWITCH_H
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xen/xen.h>
#include <xen/io/netif.h>
#include "packet.h"

#define DOMIDS 0x7ff0u            /* one more than the largest usable domid */
#define VIFS_MAX 32768u
#define VIFS_OF_DOMAIN_MAX 16u
#define NETWORKS_MAX 32u
#define ADDRESSES_MAX 8u
#define RING_SLOTS 256u           /* of both rings, which are a page each */
#define FRAME_MIN 14u
#define FRAME_MAX 1514u
#define PAGE 4096u

/* ---- state: a file that is mapped, docs/formats/switch-state.md ---- */
/* known: with no address it may use none, and not any. unlocked: it forwards, so its IPv4 may come from any address. */
enum { FLAG_FLOOD = 1, FLAG_KNOWN = 2, FLAG_UNLOCKED = 4 };
struct identity {
    uint8_t mac[6];
    uint8_t address_count, flags;
    uint32_t rate_kbit;           /* per second, of what the guest sends; 0: unlimited */
    uint32_t addresses[ADDRESSES_MAX];
};
struct counters { uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes, rx_dropped, tx_dropped; }; /* rx: to the guest */
enum { RECORD_FREE = 0, RECORD_UP = 1, RECORD_BROKEN = 2 };
struct record {
    uint32_t state;               /* written last */
    uint16_t domid, network;
    uint32_t handle, port;        /* port: the guest's */
    uint64_t tx_frame, rx_frame;
    uint32_t current;             /* 0: no identity yet, else 1 + which of the two is meant */
    uint32_t reserved;
    struct identity identities[2];
    struct counters counters;
    uint8_t spare[16];
};
_Static_assert(sizeof(struct record) == 192, "format of the state file");
struct network_record { uint32_t used; char name[64], bridge[16], interface[16]; uint8_t spare[28]; };
_Static_assert(sizeof(struct network_record) == 128, "format of the state file");
/* A response on its way into a ring. */
enum { RING_TX = 0, RING_RX = 1 };
struct answer {
    uint32_t slot, index, ring, reserved;
    union { netif_tx_response_t tx; netif_rx_response_t rx; uint8_t bytes[8]; };
};
_Static_assert(sizeof(struct answer) == 24, "format of the state file");
#define ANSWERS_MAX 1024u

/* An address that goes from guest to guest, or waits for one. Times are of CLOCK_MONOTONIC. */
#define PLACES_MAX 4096u
#define DRAINS_MAX 8u
enum { DRAIN_FREE = 0, DRAIN_ON = 1, DRAIN_OVER = 2 };
struct drain {
    int64_t until_us;             /* on: the vif has its connections until then; over: its MAC stands for the address until then */
    uint32_t slot;                /* of the vif, while it is on */
    uint16_t state;
    uint8_t mac[6], spare[4];
};
struct place {
    uint32_t used, address;       /* used: written last */
    uint16_t network, base;       /* base: 1 + the drain that has the connections nobody saw begin; 0: none */
    uint32_t reserved;
    int64_t hold_until_us;        /* 0: it is not held */
    uint8_t spare[8];
    struct drain drains[DRAINS_MAX];
};
_Static_assert(sizeof(struct drain) == 24 && sizeof(struct place) == 224, "format of the state file");
#define FLOWS_MAX 65536u
struct flow {                     /* a connection to or from an address that moves */
    uint32_t client;
    uint16_t client_port, port;   /* in network order */
    uint32_t place;               /* 1 + index; 0: free; written last */
    uint32_t slot, seen_s;
    uint8_t protocol, ends, spare[2];
};
_Static_assert(sizeof(struct flow) == 24, "format of the state file");
#define NO_SLOT UINT32_MAX
struct intent {                   /* a move that is certain, whoever ends it */
    uint32_t certain, place, slots[2];
    struct identity identities[2];
    struct place after;
};

int state_open(const char *path); /* 0, or -1 with a message printed */
struct record *state_record(uint32_t slot);
uint32_t state_used(void);        /* records from here on were never used */
int state_take(uint32_t *slot);
void state_give(uint32_t slot);   /* back; the record must be RECORD_FREE */
struct network_record *state_network(unsigned index);
/* Between these two the answers are certain to be given, by this process or by the next. */
void state_commit(const struct answer *answers, size_t count);
void state_clear(void);
const struct answer *state_committed(size_t *count);
struct place *state_place(uint32_t index);
struct flow *state_flow(uint32_t index);
struct intent *state_intent(void);
uint32_t state_places(void);      /* places from here on were never used */
int state_take_place(uint32_t *index); /* the lowest that is not used */
void state_close(void);

/* ---- table: 64-bit keys to pointers ---- */
struct table { struct table_entry { uint64_t key; void *value; } *entries; size_t mask, count; };
void *table_find(const struct table *t, uint64_t key);
void table_put(struct table *t, uint64_t key, void *value); /* the key must be new */
void table_free(struct table *t);
void table_remove(struct table *t, uint64_t key);

struct link { struct link *next, *prev; };
void link_append(struct link *list, struct link *l);
void link_remove(struct link *l);  /* again is well */

/* ---- frame: bytes only ---- */
#define FRAME_HEAD 128u           /* at least what is ever looked at of a frame (frame.c, segments.c) */
struct frame {
    uint8_t *bytes;
    const uint8_t *mapped;        /* where its sender has all of it, which may change at any time: of `bytes` only the first FRAME_HEAD are there. NULL: all are */
    size_t length;
    const uint8_t *destination, *source;
    bool group;                   /* broadcast or multicast */
    bool ipv4, arp_request, has_sender; /* has_sender: ARP or IPv4, sender says by whom */
    uint32_t sender, arp_target;
    uint32_t target;              /* of IPv4; 0: none */
    bool solicits;                /* IPv6: it asks who has an address that is made of a MAC (EUI-64), which is … */
    uint8_t solicited[6];         /* … this one */
    uint8_t protocol;             /* of IPv4 that has ports: TCP or UDP, not a later fragment; 0: none */
    uint8_t tcp_flags;
    uint16_t source_port, target_port; /* in network order */
};
enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };
enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };
bool frame_parse(struct frame *f, uint8_t *bytes, size_t length);
void frame_complete(struct frame *f); /* `bytes` has all of it from now on */
bool frame_allowed(const struct frame *f, const struct identity *who, uint32_t also); /* may a guest of this identity, and address, send it? */
size_t frame_announce(uint8_t *bytes, const uint8_t mac[6], uint32_t address); /* makes a gratuitous ARP request */
void frame_hide_sender(uint8_t *bytes); /* an ARP request from nobody: it is answered, and teaches nothing */
size_t frame_answer_arp(uint8_t *bytes, const uint8_t mac[6]);         /* turns the request into the answer, in place */
/* Where TCP or UDP has its checksum; false when the frame is neither. */
bool frame_checksum_place(const uint8_t *bytes, size_t length, uint16_t *start, uint16_t *offset);
void frame_checksum_begin(uint8_t *bytes, size_t length, uint16_t start, uint16_t offset); /* writes the sum of the pseudo header */
bool frame_checksum_finish(uint8_t *bytes, size_t length, uint16_t start, uint16_t offset);

struct vif;

/* ---- networks ---- */
struct network {
    struct network_record *record;
    unsigned index, departing;    /* departing: frames queued for it */
    struct departure *continued;  /* the last of them, or the one it continues */
    struct packet packet;
    uint32_t next, held;          /* slot of the ring to look at; how many before it are not given back */
    uint64_t lost;                /* frames that found the ring full */
    struct link flood;            /* vifs that get broadcasts */
};
/* How uplinks are made; tests have their own. As in packet.h. */
struct way {
    int (*open)(struct packet *p, const char *interface, const char *bridge);
    int (*join)(const char *interface, const char *bridge);
    void (*close)(struct packet *p, const char *interface);
};
extern struct network networks[NETWORKS_MAX];
extern unsigned networks_count; /* those from here on have no uplink */
extern const struct way *uplink_way;
void networks_init(void);
struct network *network_find(const char *name);
int network_add(const char *name, const char *bridge, struct network **n);
void network_resume(unsigned index);
void network_event(struct network *n, uint32_t events);
uint64_t networks_lost(void);
void networks_close(void);

/* ---- uplink ---- */
#define DEPARTURES_MAX 544u       /* of a turn */
enum { CHECKSUM_VALID = 1, CHECKSUM_BLANK = 2 };
bool uplink_waiting(const struct network *n); /* is a frame there? */
/* The next frame, where it lies until uplinks_give_back. Frames of no use are passed over. */
bool uplink_take(struct network *n, uint8_t **frame, size_t *length, unsigned *checksum);
void uplinks_give_back(void);
/* The frame stays where it is, and is mapped (see struct frame), until uplinks_send, which counts it as dropped by `from` (NULL: nobody) when it could not leave. */
bool uplink_queue(struct network *n, struct vif *from, uint8_t *frame, const uint8_t *mapped, size_t length, unsigned checksum);
void uplinks_send(void);

/* ---- vifs ---- */
struct vif {
    struct link queue;            /* ready, watched, waiting for its rate, or failing */
    struct link flood;
    struct vif *domain_next, *touched_next; /* of the same domain; with answers in this turn */
    struct record *record;
    struct network *network;
    netif_tx_sring_t *tx;         /* NULL when broken; the rx ring is the next page */
    netif_rx_sring_t *rx;
    uint32_t slot, port;          /* port: ours */
    uint32_t tx_seen, tx_taken, tx_answered; /* seen: the guest's producer; taken and not answered: in the batch */
    uint32_t rx_seen, rx_taken, rx_answered;
    int64_t tokens, refilled_us;  /* thousandths of a bit */
    struct mirror *mirror;
    unsigned idle;                /* turns in which it had nothing, while it is watched */
    bool skipping, touched, failing, masked; /* masked: its event channel is */
    unsigned drains;              /* places where it has connections left */
    struct lasting *lasting;      /* its buffers, while it is busy; NULL */
    unsigned busy_frames;         /* since busy_us */
    int64_t busy_us;
    struct link backlog;
    struct waiting *backlog_first, *backlog_last;
    unsigned backlog_count;
    int64_t backlog_us;           /* when it posted buffers last, or began to have none */
    bool stuck;                   /* it posts none: nothing waits for it */
    struct traffic { uint32_t address; uint64_t frames, bytes; int64_t last_us; } *traffic; /* one for each address */
    unsigned traffics;
};
void vifs_init(void);
struct vif *vif_find(unsigned domid, uint32_t handle);
struct vif *vif_by_mac(const struct network *n, const uint8_t mac[6]);
struct vif *vif_by_address(const struct network *n, uint32_t address);
struct vif *vif_by_slot(uint32_t slot);
const struct identity *vif_identity(const struct vif *v); /* NULL: none yet */
int vif_attach(unsigned domid, uint32_t handle, struct network *n, uint64_t tx_frame, uint64_t rx_frame, uint32_t port);
int vif_identify(struct vif *v, const struct identity *who);
unsigned vif_detach(unsigned domid); /* how many */
void vifs_resume(void);
struct vif *vif_by_port(uint32_t port);
void vif_ready(struct vif *v);
struct vif *vifs_next(void);      /* takes one from the ready */
bool vifs_waiting(void);          /* is one ready? */
void vif_watch(struct vif *v);    /* its ring is empty, for now: it is looked at each turn, and need not tell */
void vifs_poll(void);             /* makes those ready that are watched and have something */
#define IDLE_TURNS 8u
void vifs_rest(unsigned turns);   /* those watched in vain for as many turns tell us by event again */
void vif_start_rings(struct vif *v);
bool vif_look(struct vif *v);     /* tx: is a request there? A guest that breaks the rules is broken here */
bool vif_look_again(struct vif *v); /* the same, and the guest will tell when there is one later */
bool vif_buffer(struct vif *v);   /* rx: is a buffer there? */
void vif_fail(struct vif *v, const char *why);
void vifs_bury(void);             /* unmaps those that failed in this turn */
void vif_answer(struct vif *v, const struct answer *a);
void vif_push(struct vif *v);
unsigned vifs_count(void);
void vifs_close(void);

/* ---- event ---- */
void events_take(void);           /* makes those ready whose channel fired; it is silent until event_unmask */
void event_unmask(struct vif *v);
void events_unmask(void);         /* all that were asked for */
void event_notify(struct vif *v);
void events_notify(void);         /* all that were asked for, together */

/* ---- identity: also vif_by_mac, vif_by_address, vif_identity, vif_identify ---- */
void identity_learn(struct vif *v);  /* into the tables */
void identity_forget(struct vif *v); /* out of them */
int identity_conflict(const struct vif *v, const struct identity *who);
void identities_close(void);
void traffic_count(struct vif *v, uint32_t address, size_t length);
const struct traffic *traffic_of(const struct vif *v, uint32_t address);

/* ---- place: addresses that go from guest to guest, or wait for one ---- */
#define MACS_STAY_US (600 * INT64_C(1000000)) /* so long a MAC stands for an address that it had: longer than ARP caches live */
#define DRAIN_MOST_MS 3600000u
#define HOLD_MOST_MS 60000u
void places_redo(void);            /* before vifs are resumed */
void places_resume(void);          /* after */
void places_close(void);
struct place *place_find(const struct network *n, uint32_t address); /* NULL for most */
bool place_drains(const struct place *p, const struct vif *v);      /* has it connections left there? */
/* Takes the address from one and gives it to the other; either may be NULL. Done before is well. */
int place_move(struct network *n, uint32_t address, struct vif *from, struct vif *to, uint32_t drain_ms);
int place_hold(struct network *n, uint32_t address, uint32_t ms, const uint8_t *mac); /* 0: no longer; a MAC that is to stand for it; NULL: one is made */
int place_here(struct network *n, uint32_t address);                /* those outside are told who has it here, and that guest gets what waited */
bool place_held(const struct place *p);
const uint8_t *place_mac(const struct place *p);                    /* of one that is held and nobody's */
/* Who gets the frame, for the address of a place; NULL: nobody, or (kept) it waits. `v`: whose MAC it bears. */
struct vif *place_choose(struct place *p, struct vif *v, struct frame *f, unsigned checksum, bool *kept);
void places_left(struct vif *v);   /* it is detached */
void places_spoke(struct vif *v);  /* it sent its first frame */
void places_turn(void);            /* what is due */
void places_announce(void);        /* those outside are told who has what; before uplinks_send */
bool places_waiting(void);
int places_timeout_ms(void);       /* -1: nothing is due */

/* For place_move.c. */
void place_list(struct place *p);
void place_due(int64_t at_us);
struct drain *place_drain(struct place *p, const struct vif *v);    /* that of the vif, while it is on */
bool place_draining(const struct place *p);
struct drain *place_room(struct place *p, const uint8_t mac[6]);    /* one to be written; NULL: all are on */
int place_for(struct network *n, uint32_t address, uint32_t *index, struct place *p); /* a copy of the address's place, or of a new one */
void place_announce(struct network *n, uint32_t address, const uint8_t mac[6]); /* soon */
void place_give(struct place *p, struct vif *owner);                /* what was held goes to it */

/* ---- flow ---- */
struct vif *flow_choose(const struct place *p, const struct frame *f, struct vif *owner); /* of a place that drains: who has this connection? */
void flow_sent(const struct place *p, const struct frame *f, const struct vif *from);

/* ---- hold ---- */
#define HELD_MAX 1024u             /* frames in all */
#define HELD_OF_PLACE 64u
bool hold_keep(const struct place *p, const struct frame *f, unsigned checksum);
void hold_give(const struct place *p, struct vif *to);  /* from now on they go to it, as it has buffers */
void hold_drop(const struct place *p);
void hold_left(const struct vif *v);
bool hold_deliver(void);           /* inside of a turn; whether there was one */
void hold_clear(void);             /* at the end of a turn: forgets those delivered */
bool hold_pending(void);           /* given and not delivered yet */
unsigned hold_count(const struct place *p);

/* ---- backlog ---- */
bool backlog_keep(struct vif *v, const uint8_t *frame, size_t length, unsigned checksum); /* false: it is not kept */
bool backlog_deliver(void);        /* inside of a turn; whether there was one */
void backlog_clear(void);          /* at the end of a turn: forgets those delivered */
void backlog_drop(struct vif *v);
bool backlog_pending(void);
bool backlog_ready(void);          /* has one of those that some wait for buffers now? */
void backlog_reset(void);

/* ---- lasting ---- */
void lasting_count(struct vif *v); /* a frame passes: is it busy? */
uint8_t *lasting_page(struct vif *v, uint32_t ref, bool write); /* NULL: Xen is to copy */
void lasting_map(void);            /* at the end of a turn */
void lasting_drop(struct vif *v);

/* ---- pace ---- */
void pace_init(void);
void pace_start(struct vif *v, int64_t now_us);
/* False: the vif waits from now on. *now_us is read from the clock when it is 0 and wanted: where no vif has a rate, none is read. */
bool pace_allows(struct vif *v, int64_t *now_us);
void pace_pay(struct vif *v, size_t bytes);
void pace_wake(void);
int pace_timeout_ms(void);        /* -1: nobody waits */
int64_t now_us(void);
int64_t turn_us(void);           /* the same, read once a turn */
void turn_begins(void);

/* ---- move ---- */
struct totals { uint64_t frames, bytes, turns, copies, dropped, waits, sends, notifies, maps, waited; };
extern struct totals totals;
int move_init(void);
bool move_turn(void);             /* false when there was nothing to do */
void move_deliver(struct vif *v, uint8_t *frame, size_t length, unsigned checksum); /* inside of a turn; the frame stays until its end */
void move_put(struct vif *v, uint8_t *frame, size_t length, unsigned checksum);     /* the same, to one that has a buffer */
bool move_waiting(void);          /* is there something? Looks into memory only */

/* ---- route ---- */
bool route_allows(const struct vif *from, struct frame *f);      /* may turn an ARP request into one from nobody */
void route_sent(struct vif *from, const struct frame *f);        /* notes it */
struct vif *route_receiver(struct network *n, struct frame *f, unsigned checksum, bool *kept); /* NULL: nobody here, or (kept) it waits */
struct vif *route_solicited(struct network *n, const struct vif *from, const struct frame *f); /* whom a neighbour solicitation asks; NULL: none of ours */
const uint8_t *route_asked(struct network *n, const struct vif *from, const struct frame *f); /* the MAC an ARP request asks for; NULL: none of ours */

/* ---- mirror ---- */
/* Into a file, or into a FIFO with a reader (mirror.c says how): ENXIO when it has none. */
int mirror_start(struct vif *v, const char *path);
void mirror_stop(struct vif *v);
void mirror_frame(struct vif *v, const uint8_t *frame, size_t length);
void mirrors_flush(void);

/* ---- control ---- */
struct reply { char *bytes; size_t length, room; };
void reply_add(struct reply *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void request_handle(char *line, struct reply *r); /* exactly one reply */
int control_open(const char *path);
void control_event(uint32_t which, uint32_t events);
void control_close(void);

/* ---- main: what the loop waits for ---- */
enum { WAIT_XEN = 1, WAIT_LISTENER, WAIT_CLIENT, WAIT_UPLINK, WAIT_SIGNAL };
int wait_for(int fd, uint32_t events, unsigned kind, uint32_t which);
void wait_change(int fd, uint32_t events, unsigned kind, uint32_t which);
int switch_open(const char *state_path); /* all but the socket; used by tests too */
void switch_step(int timeout_ms);
void switch_close(void);

#ifdef SWITCH_TEST
void crash_point(void);           /* where a test may end the process */
extern int64_t clock_ahead_us;
#else
#define crash_point() ((void)0)
#define clock_ahead_us 0
#endif
#endif
