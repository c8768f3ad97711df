/*
 * A copy of all frames of a vif, both directions, as a capture file for tcpdump and its kin (pcap, nanoseconds). It ends when the file
 * cannot be written any more; the vif goes on. It is not started again after a restart.
 *
 * A FIFO that somebody reads may stand in the place of the file. Then each frame is one write of at most PIPE_BUF bytes, so that it is in
 * the pipe whole or not at all; a full pipe costs frames and no time. How many were lost so far is told before the next frame that has
 * room, and at the end, by a record of pcap that keeps no bytes and stands for no frame: its time is that number, low half first. The reader
 * takes such records out. When the reader goes away the mirror ends.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "switch.h"

struct mirror { struct mirror *next, *prev; FILE *file; struct vif *vif; uint64_t lost, told; bool pipe, over; };
struct pcap_header { uint32_t magic; uint16_t major, minor; uint32_t zone, accuracy, longest, link; };
struct pcap_frame { uint32_t seconds, nanoseconds, kept, length; };
/* A record of losses may go before a frame, in the same write. */
#define KEPT_IN_PIPE (PIPE_BUF - 2 * sizeof(struct pcap_frame))

static struct mirror *mirrors;

/* A frame, or none, behind what is to be told of losses. */
static void pipe_write(struct mirror *m, const struct pcap_frame *h, const uint8_t *frame)
{
    uint8_t bytes[PIPE_BUF];
    size_t length = 0;
    if (m->over)
        return;
    if (m->lost != m->told) {
        const struct pcap_frame losses = { (uint32_t)m->lost, (uint32_t)(m->lost >> 32), 0, 0 };
        memcpy(bytes, &losses, sizeof losses);
        length = sizeof losses;
    }
    if (h) {
        memcpy(bytes + length, h, sizeof *h);
        memcpy(bytes + length + sizeof *h, frame, h->kept);
        length += sizeof *h + h->kept;
    }
    if (!length)
        return;
    if (write(fileno(m->file), bytes, length) == (ssize_t)length)
        m->told = m->lost;
    else if (errno == EAGAIN || errno == EINTR)
        m->lost += h != NULL;
    else
        m->over = true;
}

int mirror_start(struct vif *v, const char *path)
{
    struct pcap_header h = { 0xa1b23c4d, 2, 4, 0, 0, FRAME_MAX, 1 };
    struct stat what;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return errno;
    FILE *file = fdopen(fd, "w");
    struct mirror *m = calloc(1, sizeof *m);
    if (!file || !m)
        abort();
    bool pipe = !fstat(fd, &what) && S_ISFIFO(what.st_mode);
    if (pipe && h.longest > KEPT_IN_PIPE)
        h.longest = KEPT_IN_PIPE;
    if (fwrite(&h, sizeof h, 1, file) != 1 || fflush(file)) {
        int error = errno;
        fclose(file);
        free(m);
        return error;
    }
    mirror_stop(v);
    *m = (struct mirror){ .next = mirrors, .file = file, .vif = v, .pipe = pipe };
    if (mirrors)
        mirrors->prev = m;
    mirrors = m;
    v->mirror = m;
    return 0;
}

void mirror_stop(struct vif *v)
{
    struct mirror *m = v->mirror;
    if (!m)
        return;
    v->mirror = NULL;
    if (m->pipe)
        pipe_write(m, NULL, NULL);
    if (m->next)
        m->next->prev = m->prev;
    if (m->prev)
        m->prev->next = m->next;
    else
        mirrors = m->next;
    fclose(m->file);
    free(m);
}

void mirror_frame(struct vif *v, const uint8_t *frame, size_t length)
{
    struct mirror *m = v->mirror;
    if (!m)
        return;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    struct pcap_frame h = { (uint32_t)t.tv_sec, (uint32_t)t.tv_nsec, (uint32_t)length, (uint32_t)length };
    if (m->pipe) {
        if (length > KEPT_IN_PIPE)
            h.kept = KEPT_IN_PIPE;
        pipe_write(m, &h, frame);
        return;
    }
    fwrite(&h, sizeof h, 1, m->file);
    fwrite(frame, length, 1, m->file);
}

void mirrors_flush(void)
{
    for (struct mirror *m = mirrors, *next; m; m = next) {
        next = m->next;
        if (m->over || fflush(m->file) || ferror(m->file)) {
            fprintf(stderr, "shoal-switch: the mirror of vif %u.%u ends: its file cannot be written\n", m->vif->record->domid,
                    m->vif->record->handle);
            mirror_stop(m->vif);
        }
    }
}
