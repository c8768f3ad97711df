/*
 * shoal.h: all that an application of Shoal may know about the machine it runs on.
 *
 * An application is compiled twice against this header: into a Xen guest, and into a Linux process (for sanitizers, fuzzing and
 * comparison). It includes this file, and lwIP's headers where it speaks TCP/IP; nothing else of the kernel. A platform that
 * lacks a feature does not define its functions: what is missing shows when the application is linked, never when it runs.
 *
 * Errors. A broken invariant (a null pointer, a double free, a full stack) stops the guest with a message on the console:
 *   shoal_panic. What can fail in the life of a sound program returns false or NULL and changes nothing. Mistakes of the operator
 *   (a malformed address on the command line) are told on the console by whoever reads the word, then treated as failure.
 * Units. Every name says its unit: _ns, _ms, _bytes. Times are 64-bit and do not wrap.
 * Ownership. Memory handed to a callback belongs to the caller and is valid until the callback returns. Structures handed to the
 *   kernel (timers, event tables) stay the application's, must outlive their use, and are not to be touched while in use.
 * Threads. There is one: the application's code runs in callbacks of the kernel's main loop, and a callback is never interrupted
 *   by another. A callback that does not return stops the guest.
 */
#ifndef SHOAL_H
#define SHOAL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- the application ---- */

/* Each application defines exactly one `shoal_app`. */
struct shoal_app {
  const char *name;
  const char *version;
  /* Called once when memory, console, time and configuration work; sets up callbacks and returns. */
  void (*start)(void);
  /* Optional. The guest was suspended and goes on in another domain (restored, migrated, cloned): memory, timers and TCP connections are
   * as they were, devices go down before this call and come up after it. `as_clone`: the command line is another one, so that
   * what shoal_config said before is void, and connections are gone if the address changed. */
  void (*resumed)(bool as_clone);
  /* Optional. What its callbacks need of stack at most, with what the kernel calls them from; 0: 16384. */
  size_t stack_bytes;
};
extern const struct shoal_app shoal_app;

/* ---- console ---- */

/* Formats to the console: %s %c %d %u %x %p %%, with 0, -, width, precision (of %s), and the lengths l, ll, z. Never blocks:
 * where nobody reads, the oldest output gives way. */
void shoal_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same into `buffer`, always terminated when size_bytes > 0. Returns the length that the whole text has. */
size_t shoal_format(char *buffer, size_t size_bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));
size_t shoal_vformat(char *buffer, size_t size_bytes, const char *format, va_list arguments);

/* Prints the message and a back-trace, then crashes the guest. */
_Noreturn void shoal_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- time ---- */

/* Since the guest started; monotonic, goes on while it sleeps, stands still while it is suspended. A clone goes on from its original. */
uint64_t shoal_now_ns(void);

/* Since 1970-01-01 UTC, as the host has it. */
uint64_t shoal_wall_ns(void);

struct shoal_timer {
  void (*fire)(void *context);
  void *context;
  /* The kernel's own. */
  uint64_t due_ns;
  struct shoal_timer *next;
  bool armed;
};

/* Fires once at or after due_ns (shoal_now_ns's clock). An armed timer is moved. */
void shoal_timer_set(struct shoal_timer *timer, uint64_t due_ns);

/* Of a timer that is not armed: nothing happens. */
void shoal_timer_cancel(struct shoal_timer *timer);

/* ---- memory ---- */

/* 16-byte aligned, contents undefined; NULL when there is none. */
void *shoal_alloc(size_t size_bytes);

/* NULL is allowed. */
void shoal_free(void *memory);

struct shoal_memory {
  size_t total_bytes; /* of the guest */
  size_t free_bytes;  /* in whole pages */
};
struct shoal_memory shoal_memory(void);

/* ---- configuration ---- */

/* The value of the first word `key=value` of the command line; "" for a bare word `key`; NULL when there is none.
 * Valid until the guest goes on as a clone (shoal_app.resumed), otherwise for ever. Words of the platform come first: name=, ip=, gw=. */
const char *shoal_config(const char *key);

/* ---- randomness ---- */

/* Good enough for sequence numbers and ports; not for keys. */
void shoal_random(void *bytes, size_t size_bytes);

/* SipHash-2-4 under a key of 128 bits: a check that only who knows the key can make. */
uint64_t shoal_siphash(const uint64_t key[2], const void *bytes, size_t size_bytes);

/* ---- the end ---- */

enum shoal_shutdown { SHOAL_POWEROFF, SHOAL_REBOOT };

_Noreturn void shoal_shutdown(enum shoal_shutdown how);

/* For tests of the host around the guest: "null", "assert", "hang" on every platform, "scribble" (garbage on its own network
 * rings) and "flood" (the store, without end) as a Xen guest. Returns false when it knows no such fault. */
bool shoal_misbehave(const char *how);

/* ---- network: Ethernet frames ---- */

#define SHOAL_NET_MTU_BYTES 1500u
#define SHOAL_NET_FRAME_BYTES (14u + SHOAL_NET_MTU_BYTES)

/* Flags of a frame, in both directions. */
#define SHOAL_NET_CSUM_VALID 1u /* the TCP or UDP checksum was found right, or there is nothing to check */
#define SHOAL_NET_CSUM_BLANK 2u /* the TCP or UDP checksum field holds the pseudo header's sum only: the receiver fills it in */

struct shoal_net;

struct shoal_net_events {
  /* The device can send; called again after it was down. `mac` has 6 bytes. */
  void (*up)(void *context, const uint8_t *mac);
  /* The backend went away; frames sent now are lost. */
  void (*down)(void *context);
  /* A frame came. The other end may still write to it while it is read: copy first, then judge. */
  void (*frame)(void *context, const uint8_t *frame, size_t length_bytes, uint32_t flags);
  /* After shoal_net_reserve had returned NULL: there is room again. */
  void (*writable)(void *context);
};

/* Opens the index-th device; NULL when the platform cannot have it. Comes up later (`up`, never before this has returned); a
 * device that the host did not give the guest never does. */
struct shoal_net *shoal_net_open(unsigned index, const struct shoal_net_events *events, void *context);

/* Room for one frame of up to SHOAL_NET_FRAME_BYTES, to be filled and committed before the callback returns; NULL when there is
 * none now. A second call before the commit gives the same room. */
uint8_t *shoal_net_reserve(struct shoal_net *net);

/* Sends what was reserved. The notification of the other end is batched until the main loop comes to rest. */
void shoal_net_commit(struct shoal_net *net, size_t length_bytes, uint32_t flags);

/* ---- block devices ---- */

#define SHOAL_BLOCK_SECTOR_BYTES 512u
/* The most of one request. */
#define SHOAL_BLOCK_REQUEST_BYTES 262144u

struct block_device;

struct shoal_block_info {
  uint64_t size_bytes; /* 0: the device is not up, or there is none */
  bool readonly;
  bool flushes; /* SHOAL_BLOCK_FLUSH does something; without it every completed write is as durable as it gets */
};

enum shoal_block_operation { SHOAL_BLOCK_READ, SHOAL_BLOCK_WRITE, SHOAL_BLOCK_FLUSH };

/* How a request ended. GONE: the device went away and did not come back in time. */
enum shoal_block_status { SHOAL_BLOCK_OK = 0, SHOAL_BLOCK_FAILED = -1, SHOAL_BLOCK_GONE = -2, SHOAL_BLOCK_REFUSED = -3 };

/* The caller's, with its buffer, until `done` was called. Offset, length and the buffer's address are multiples of 512; a flush has
 * neither buffer nor length, and covers the writes that were done before it was submitted. Requests end in any order. */
struct shoal_block_request {
  enum shoal_block_operation operation;
  uint32_t length_bytes;
  uint64_t offset_bytes;
  void *bytes;
  void (*done)(struct shoal_block_request *request, int status);
  void *context;
  /* The kernel's own. */
  struct shoal_block_request *next;
  uint32_t parts_left;
  int status;
};

struct shoal_block_events {
  /* The device can be used: shoal_block_info tells. Called again when it was down. */
  void (*up)(void *context);
  /* It is gone for now; requests wait until it is back. */
  void (*down)(void *context);
};

/* Opens the index-th device; NULL when the platform cannot have it. Comes up later, or never, as a network device does. Where all
 * buffers of requests will lie in `lasting`, that is told: the other end then may keep them mapped (NULL: any buffer). */
struct block_device *shoal_block_open(unsigned index, const struct shoal_block_events *events, void *context, void *lasting,
                                      size_t lasting_bytes);

struct shoal_block_info shoal_block_info(const struct block_device *device);

/* `done` comes later, from the main loop, always. REFUSED: past the device's end, not a multiple of 512, a write to a read-only
 * device, or outside of `lasting`. What is submitted in one turn of the loop goes out together. */
void shoal_block_submit(struct block_device *device, struct shoal_block_request *request);

/* ---- network: TCP/IP ---- */

/* Brings lwIP up on device 0 as the words ip= and gw= say (ip=A.B.C.D/LEN [gw=A.B.C.D] [ips=A.B.C.D,...], or ip=dhcp), announces the addresses, and
 * calls `ready` whenever the device has come up with an address. False, with a line on the console, when the words are missing or
 * malformed. lwIP's raw API may be used once this returned true. */
bool shoal_ip_start(void (*ready)(void));

/* For an application that handles frames of device 0 itself and has an address there too. `frame` gets each frame first, and returns true when
 * lwIP is not to see it. The others are as in shoal_net_events, and come when lwIP has had its turn; NULL is allowed for those. */
struct shoal_ip_share {
  bool (*frame)(void *context, const uint8_t *frame, size_t length_bytes, uint32_t flags);
  void (*up)(void *context, const uint8_t *mac);
  void (*down)(void *context);
  void (*writable)(void *context);
  void *context;
};
bool shoal_ip_start_shared(const struct shoal_ip_share *share, void (*ready)(void));

/* Device 0 once lwIP was started on it, for frames of the application's own; else NULL. */
struct shoal_net *shoal_ip_device(void);

/* ---- layout promises, checked wherever this header is used ---- */

_Static_assert(sizeof(void *) == 8, "64-bit only");
_Static_assert(sizeof(struct shoal_timer) == 40, "applications and kernel agree on timers");
_Static_assert(sizeof(struct shoal_memory) == 16, "applications and kernel agree on memory figures");

#endif
