/*
 * A copy of all frames of a vif, both directions, as a capture file for tcpdump and its kin (pcap, nanoseconds). It ends when the file
 * cannot be written any more; the vif goes on. It is not started again after a restart.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "switch.h"

struct mirror { struct mirror *next, *prev; FILE *file; struct vif *vif; };
struct pcap_header { uint32_t magic; uint16_t major, minor; uint32_t zone, accuracy, longest, link; };
struct pcap_frame { uint32_t seconds, nanoseconds, kept, length; };

static struct mirror *mirrors;

int mirror_start(struct vif *v, const char *path)
{
    const struct pcap_header h = { 0xa1b23c4d, 2, 4, 0, 0, FRAME_MAX, 1 };
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return errno;
    FILE *file = fdopen(fd, "w");
    struct mirror *m = calloc(1, sizeof *m);
    if (!file || !m)
        abort();
    if (fwrite(&h, sizeof h, 1, file) != 1 || fflush(file)) {
        int error = errno;
        fclose(file);
        free(m);
        return error;
    }
    mirror_stop(v);
    *m = (struct mirror){ .next = mirrors, .file = file, .vif = v };
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
    if (!v->mirror)
        return;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    const struct pcap_frame h = { (uint32_t)t.tv_sec, (uint32_t)t.tv_nsec, (uint32_t)length, (uint32_t)length };
    fwrite(&h, sizeof h, 1, v->mirror->file);
    fwrite(frame, length, 1, v->mirror->file);
}

void mirrors_flush(void)
{
    for (struct mirror *m = mirrors, *next; m; m = next) {
        next = m->next;
        if (fflush(m->file) || ferror(m->file)) {
            fprintf(stderr, "shoal-switch: the mirror of vif %u.%u ends: its file cannot be written\n", m->vif->record->domid,
                    m->vif->record->handle);
            mirror_stop(m->vif);
        }
    }
}
