/*
 * What the next switch has to know when this one is killed: which vifs there are, who they are, what was counted, and which responses were
 * on their way into the rings. A file mapped shared: the kernel keeps what was stored however the process ends, and stores become
 * visible in the order in which they were made. So a record is filled first and marked last. docs/formats/switch-state.md
 *
 * Responses overwrite requests in a ring. A switch killed between the first response written and the ring's index moved would leave
 * requests that nobody can read any more; therefore all responses of a turn are written here first, and the next switch goes on.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "switch.h"

#define VERSION 1u
#define NETWORKS_AT 4096u
#define ANSWERS_AT 8192u
#define RECORDS_AT 32768u
#define INTENT_AT (RECORDS_AT + VIFS_MAX * sizeof(struct record))
#define PLACES_AT (INTENT_AT + PAGE)
#define FLOWS_AT (PLACES_AT + PLACES_MAX * sizeof(struct place))
#define FILE_BYTES (FLOWS_AT + FLOWS_MAX * sizeof(struct flow))
#define GROW_RECORDS 512u /* room for so many is asked of the file system at once */

struct header {
    char magic[8];                /* written last into a new file */
    uint32_t version, record_bytes, records, used;
    char boot[40];                /* frames and ports mean nothing after a reboot */
    uint32_t answers;             /* how many are certain to be given */
    uint32_t places;              /* ever used; with none, what is behind the records is a hole */
};
_Static_assert(sizeof(struct intent) <= PAGE && INTENT_AT % PAGE == 0, "the intent fits");
_Static_assert(NETWORKS_AT + NETWORKS_MAX * sizeof(struct network_record) <= ANSWERS_AT, "networks fit");
_Static_assert(ANSWERS_AT + ANSWERS_MAX * sizeof(struct answer) <= RECORDS_AT, "answers fit");

static const char magic[8] = "SHOALSWT";
static int file = -1;
static uint8_t *bytes;
static struct header *header;
static uint32_t *free_slots, free_count, room_until;

#define ORDER() __atomic_signal_fence(__ATOMIC_SEQ_CST) /* x86 keeps stores in order; the compiler need not */

struct record *state_record(uint32_t slot)
{
    return (struct record *)(bytes + RECORDS_AT) + slot;
}

uint32_t state_used(void)
{
    return header->used;
}

struct network_record *state_network(unsigned index)
{
    return (struct network_record *)(bytes + NETWORKS_AT) + index;
}

static void read_boot(char boot[40])
{
    memset(boot, 0, 40);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, boot, 36) != 36)
        memset(boot, '?', 36);
    if (fd >= 0)
        close(fd);
}

static int complain(const char *path, const char *what)
{
    fprintf(stderr, "shoal-switch: %s: %s\n", path, what);
    state_close();
    return -1;
}

/* 1: a file of ours, of this boot; 0: nothing worth keeping; -1: of somebody else, or of another version. */
static int look(void)
{
    struct header h = { 0 };
    char boot[40], none[8] = { 0 };
    ssize_t got = pread(file, &h, sizeof h, 0);
    if (got < (ssize_t)sizeof h.magic || !memcmp(h.magic, none, sizeof none))
        return 0; /* killed while it was made */
    if (memcmp(h.magic, magic, sizeof magic))
        return -1;
    if (got < (ssize_t)sizeof h)
        return 0;
    if (h.version != VERSION || h.record_bytes != sizeof(struct record) || h.records != VIFS_MAX)
        return -1;
    read_boot(boot);
    return !memcmp(h.boot, boot, sizeof boot);
}

static int room_for_places(void)
{
    return posix_fallocate(file, INTENT_AT, FILE_BYTES - INTENT_AT);
}

int state_open(const char *path)
{
    struct stat s;
    file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0 || fstat(file, &s))
        return complain(path, strerror(errno));
    if (!S_ISREG(s.st_mode))
        return complain(path, "not a file");
    if (flock(file, LOCK_EX | LOCK_NB))
        return complain(path, "another switch uses it");
    int known = look();
    if (known < 0)
        return complain(path, "not a state file of this version; move it away when no guest runs");
    /* A file cut short gets zeroes back: free records. Never write to a hole: a full file system would end us there. */
    if ((known == 0 && ftruncate(file, 0)) || ftruncate(file, FILE_BYTES) || (errno = posix_fallocate(file, 0, RECORDS_AT)))
        return complain(path, strerror(errno));
    bytes = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED) {
        bytes = NULL;
        return complain(path, strerror(errno));
    }
    header = (struct header *)bytes;
    if (!known) {
        header->version = VERSION;
        header->record_bytes = sizeof(struct record);
        header->records = VIFS_MAX;
        read_boot(header->boot);
        ORDER();
        memcpy(header->magic, magic, sizeof magic);
    }
    if (header->used > VIFS_MAX)
        header->used = VIFS_MAX;
    if (header->answers > ANSWERS_MAX)
        header->answers = 0;
    if (header->places > PLACES_MAX)
        header->places = PLACES_MAX;
    if (header->places && (errno = room_for_places()))
        return complain(path, strerror(errno));
    room_until = 0;
    if (header->used && (errno = posix_fallocate(file, RECORDS_AT, header->used * sizeof(struct record))))
        return complain(path, strerror(errno));
    room_until = header->used;
    free_slots = malloc(VIFS_MAX * sizeof *free_slots);
    if (!free_slots)
        return complain(path, "out of memory");
    free_count = 0;
    /* The lowest on top, so that the file stays as short as its vifs. */
    for (uint32_t slot = VIFS_MAX; slot-- > 0;)
        if (slot >= header->used || state_record(slot)->state == RECORD_FREE)
            free_slots[free_count++] = slot;
    return 0;
}

int state_take(uint32_t *slot)
{
    if (!free_count)
        return ENOSPC;
    uint32_t next = free_slots[free_count - 1];
    if (next >= room_until) {
        uint32_t until = next + GROW_RECORDS < VIFS_MAX ? next + GROW_RECORDS : VIFS_MAX;
        int error = posix_fallocate(file, RECORDS_AT + room_until * sizeof(struct record), (until - room_until) * sizeof(struct record));
        if (error)
            return error;
        room_until = until;
    }
    free_count--;
    memset(state_record(next), 0, sizeof(struct record));
    ORDER();
    if (next >= header->used)
        header->used = next + 1;
    *slot = next;
    return 0;
}

struct place *state_place(uint32_t index)
{
    return (struct place *)(bytes + PLACES_AT) + index;
}

struct flow *state_flow(uint32_t index)
{
    return (struct flow *)(bytes + FLOWS_AT) + index;
}

struct intent *state_intent(void)
{
    return (struct intent *)(bytes + INTENT_AT);
}

uint32_t state_places(void)
{
    return header->places;
}

int state_take_place(uint32_t *index)
{
    uint32_t next = 0;
    while (next < header->places && state_place(next)->used)
        next++;
    if (next == PLACES_MAX)
        return ENOSPC;
    int error = header->places ? 0 : room_for_places();
    if (error)
        return error;
    memset(state_place(next), 0, sizeof(struct place));
    ORDER();
    if (next >= header->places)
        header->places = next + 1;
    *index = next;
    return 0;
}

void state_give(uint32_t slot)
{
    free_slots[free_count++] = slot;
}

void state_commit(const struct answer *answers, size_t count)
{
    memcpy(bytes + ANSWERS_AT, answers, count * sizeof *answers);
    ORDER();
    header->answers = (uint32_t)count;
    ORDER();
}

void state_clear(void)
{
    ORDER();
    header->answers = 0;
}

const struct answer *state_committed(size_t *count)
{
    *count = header->answers;
    return (const struct answer *)(bytes + ANSWERS_AT);
}

void state_close(void)
{
    if (bytes)
        munmap(bytes, FILE_BYTES);
    if (file >= 0)
        close(file);
    free(free_slots);
    bytes = NULL;
    free_slots = NULL;
    file = -1;
}
