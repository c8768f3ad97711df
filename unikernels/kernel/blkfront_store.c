/*
 * How a block device and its backend find each other by the store. Unlike netback, blkback tells what it can before it connects, and how
 * large the disk is only afterwards; but it reads the frontend's keys when it sees state 3 (Initialised), whichever of the two
 * was ready first. So the guest writes its half at once, for dom0, and reads the backend's keys when it shows 4 (Connected): what
 * depends on the backend (indirect requests, flushes) is the guest's to choose request by request and needs no agreement.
 */
#include "blkfront.h"
#include "netfront.h"
#include "resume.h"
#include "store.h"

/* xen/io/xenbus.h */
enum { UNKNOWN, INITIALISING, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED };

#define PATH_BYTES 112u
#define GUESSED_BACKEND 0u

enum front { ANNOUNCED, LINKED, DOWN };

struct place {
  struct block_device *device;
  enum front front;
  uint32_t number;              /* of the device in the store: 51712 is xvda */
  char backend[PATH_BYTES - 40]; /* its directory, "" before it is known */
  bool asking, again; /* again: it connected anew while its features were being read */
  unsigned unread; /* features under way */
  struct blkfront_features features;
};

static struct place places[BLKFRONT_DEVICES];
static struct block_device *disks[BLKFRONT_DEVICES];

static bool number_of(const char *value, uint64_t most, uint64_t *number) {
  *number = 0;
  const char *at = value;
  for (; *at >= '0' && *at <= '9'; at++) {
    if (*number > (most - (uint64_t)(*at - '0')) / 10) return false;
    *number = *number * 10 + (uint64_t)(*at - '0');
  }
  return at != value && *at == '\0';
}

static void write_key(struct place *place, const char *key, const char *value) {
  char path[PATH_BYTES];
  shoal_format(path, sizeof path, "device/vbd/%u/%s", place->number, key);
  if (!store_write(path, value, NULL, NULL)) shoal_print("disk %u: store busy, %s not written\n", place->device->index, key);
}

static void write_number(struct place *place, const char *key, uint32_t value) {
  char text[12];
  shoal_format(text, sizeof text, "%u", value);
  write_key(place, key, text);
}

static bool announce(struct place *place, domid_t backend) {
  if (!blkfront_link(place->device, backend)) {
    shoal_print("disk %u: no memory, grants or event channels for it\n", place->device->index);
    place->front = DOWN;
    return false;
  }
  write_number(place, "ring-ref", place->device->ring_ref);
  write_number(place, "event-channel", place->device->port);
  write_key(place, "protocol", "x86_64-abi");
  write_number(place, "feature-persistent", place->device->lasting != NULL);
  write_number(place, "state", INITIALISED);
  place->front = ANNOUNCED;
  return true;
}

/* ---- what the backend can ---- */

static void read_features(struct place *place);

static void end_features(struct place *place) {
  struct blkfront_features *features = &place->features;
  if (--place->unread > 0 || place->front != LINKED) return;
  if (place->again) {
    read_features(place);
    return;
  }
  if (features->sectors == 0 || features->sector_bytes < SHOAL_BLOCK_SECTOR_BYTES || features->sector_bytes > 4096 ||
      (features->sector_bytes & (features->sector_bytes - 1)) != 0) {
    shoal_print("disk %u: the backend tells no size that makes sense\n", place->device->index);
    return;
  }
  write_number(place, "state", CONNECTED);
  shoal_print("disk %u: %llu MiB%s\n", place->device->index, (unsigned long long)(features->sectors / 2048), features->readonly ? ", read-only" : "");
  blkfront_up(place->device, features);
}

/* A key that is not there is 0. */
#define FEATURE(name, most, statement)                                            \
  static void on_##name(void *context, int error, const char *value, size_t length) { \
    struct place *place = context;                                                \
    struct blkfront_features *features = &place->features;                        \
    uint64_t number = 0;                                                          \
    (void)length;                                                                 \
    if (error != 0 || !number_of(value, most, &number)) number = 0;               \
    statement;                                                                    \
    end_features(place);                                                          \
  }

FEATURE(sectors, UINT64_MAX >> 10, features->sectors = number)
FEATURE(sector_size, UINT32_MAX, features->sector_bytes = (uint32_t)number)
FEATURE(info, UINT32_MAX, features->readonly = (number & VDISK_READONLY) != 0)
FEATURE(indirect, UINT32_MAX, features->segments_most = (uint32_t)number)
FEATURE(flush, 1, features->flush = number == 1)
FEATURE(barrier, 1, features->barrier = number == 1)
FEATURE(persistent, 1, features->persistent = number == 1)

static void read_features(struct place *place) {
  static const struct {
    const char *key;
    store_handler *handler;
  } keys[] = {{"sectors", on_sectors}, {"sector-size", on_sector_size}, {"info", on_info}, {"feature-max-indirect-segments", on_indirect},
              {"feature-flush-cache", on_flush}, {"feature-barrier", on_barrier}, {"feature-persistent", on_persistent}};
  char path[PATH_BYTES];
  place->features = (struct blkfront_features){0};
  place->again = false;
  place->unread = 1;
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    shoal_format(path, sizeof path, "%s/%s", place->backend, keys[i].key);
    place->unread++;
    if (!store_read(path, keys[i].handler, place)) place->unread--;
  }
  end_features(place);
}

/* ---- its states ---- */

static void on_online(void *context, int error, const char *value, size_t length) {
  struct place *place = context;
  (void)length;
  if (error == 0 && strcmp(value, "1") == 0 && place->front == DOWN) write_number(place, "state", INITIALISING);
}

static void do_connect(struct place *place) {
  if (place->unread > 0) place->again = true;
  else read_features(place);
}

static void do_lose(struct place *place) {
  blkfront_unlink(place->device);
  shoal_print("disk %u: backend went away\n", place->device->index);
}

static void do_close(struct place *place) {
  write_number(place, "state", CLOSED);
  do_lose(place);
}

static void do_ask_again(struct place *place) {
  char path[PATH_BYTES];
  shoal_format(path, sizeof path, "%s/online", place->backend);
  store_read(path, on_online, place);
}

static void do_announce(struct place *place) { announce(place, place->device->backend); }

/* As in netfront_store.c: [where we stand, what the backend shows, where we stand then, what to do]. */
static const struct transition {
  enum front from;
  uint8_t backend_states; /* bits */
  enum front to;
  void (*effect)(struct place *place);
} transitions[] = {
  {ANNOUNCED, 1u << CONNECTED, LINKED, do_connect},
  {ANNOUNCED, 1u << CLOSING | 1u << CLOSED, DOWN, do_close},
  {LINKED, 1u << CLOSING | 1u << CLOSED, DOWN, do_close},
  {LINKED, 1u << UNKNOWN | 1u << INITIALISING | 1u << INITIALISED, DOWN, do_lose},
  {LINKED, 1u << INIT_WAIT, DOWN, do_lose}, /* it began anew without a farewell: goes on with the next line */
  {DOWN, 1u << INIT_WAIT, ANNOUNCED, do_announce},
  {DOWN, 1u << CLOSED, DOWN, do_ask_again},
};

static void on_backend_state(void *context, int error, const char *value, size_t length) {
  struct place *place = context;
  unsigned state = error == 0 && length == 1 && value[0] >= '1' && value[0] <= '6' ? (unsigned)(value[0] - '0') : UNKNOWN;
  place->asking = false;
  for (size_t i = 0; i < sizeof transitions / sizeof *transitions && !place->device->broken; i++) {
    const struct transition *row = &transitions[i];
    if (row->from != place->front || !(row->backend_states >> state & 1)) continue;
    place->front = row->to;
    row->effect(place);
    if (row->effect != do_lose) return;
  }
}

static void on_backend_changed(void *context) {
  struct place *place = context;
  char path[PATH_BYTES];
  if (place->asking) return;
  shoal_format(path, sizeof path, "%s/state", place->backend);
  place->asking = store_read(path, on_backend_state, place);
}

static void on_backend(void *context, int error, const char *value, size_t length) {
  struct place *place = context;
  domid_t domain;
  char path[PATH_BYTES];
  if (error != 0) {
    shoal_print("disk %u: the host gave the guest no such device\n", place->device->index);
    blkfront_unlink(place->device);
    return;
  }
  if (length >= sizeof place->backend || !netfront_parse_backend(value, &domain)) {
    shoal_print("disk %u: malformed backend path in the store\n", place->device->index);
    return;
  }
  memcpy(place->backend, value, length + 1);
  if (domain != place->device->backend) {
    blkfront_unlink(place->device);
    if (!announce(place, domain)) return;
  }
  shoal_format(path, sizeof path, "%s/state", place->backend);
  store_watch(path, on_backend_changed, place);
}

/* xvda, xvdb: as every toolstack numbers them. */
#define FIRST_NUMBER 51712u
#define NUMBER_STEP 16u

bool blkfront_store_start(struct block_device *device) {
  struct place *place = &places[device->index];
  char path[PATH_BYTES];
  *place = (struct place){.device = device, .number = FIRST_NUMBER + NUMBER_STEP * device->index};
  if (!announce(place, GUESSED_BACKEND)) return false;
  shoal_format(path, sizeof path, "device/vbd/%u/backend", place->number);
  store_read(path, on_backend, place);
  return true;
}

/* The store of another domain: called once it works, and the application's own hook may submit already. */
static void resumed(bool as_clone) {
  (void)as_clone;
  for (unsigned i = 0; i < BLKFRONT_DEVICES; i++) {
    if (disks[i] == NULL) continue;
    blkfront_forget(disks[i]);
    if (store_exists()) blkfront_store_start(disks[i]);
  }
}

static struct resume_hook hook = {.resumed = resumed};

struct block_device *shoal_block_open(unsigned index, const struct shoal_block_events *events, void *context, void *lasting,
                                      size_t lasting_bytes) {
  if (index >= BLKFRONT_DEVICES || disks[index] != NULL) return NULL;
  struct block_device *device = shoal_alloc(sizeof *device);
  if (device == NULL) return NULL;
  if (!blkfront_init(device, index, events, context, lasting, lasting_bytes)) {
    shoal_free(device);
    return NULL;
  }
  if (!store_exists()) shoal_print("disk %u: the guest has no store to find it by\n", index);
  else if (!blkfront_store_start(device)) return NULL;
  disks[index] = device;
  resume_listen(&hook);
  return device;
}
