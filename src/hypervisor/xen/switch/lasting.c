/*
 * Buffers of busy guests, mapped for as long as they are busy. A guest of ours grants its buffers once and keeps them so (unikernels/include/wiring.h),
 * so where thousands of frames a second pass, the same few hundred pages come by again and again: they are mapped, and a frame is copied by
 * this process instead of by two calls to Xen. What a guest sent is copied out before it is looked at, as by Xen. Idle guests have nothing mapped.
 *
 * Bounds: VIFS_MAPPED vifs, PIECES pieces and PAGES_OF_VIF pages of each; a page that cannot be mapped is copied by Xen as before, for good. When all places are taken, a
 * vif that has been quiet gives way. What a guest does to a grant while it is mapped harms its own frames only: the page stays its own.
 */
#include <stdlib.h>
#include "hypervisor.h"
#include "switch.h"

#ifdef SWITCH_TEST
#define VIFS_MAPPED 4u
#define PAGES_OF_VIF 300u
#else
#define VIFS_MAPPED 64u
#define PAGES_OF_VIF 512u   /* as many as both of its rings hold */
#endif
#define REFS 4096u          /* of a guest's 8 grant frames */
#define PIECES 64u
#define PIECE 64u           /* pages, mapped by one call … */
#define PIECE_LEAST 16u     /* … or fewer, when no more come … */
#define PATIENCE 64u        /* … in so many turns */
#define BUSY_FRAMES 1024u   /* so many within … */
#define BUSY_US 1000000     /* … so long */
#define QUIET_US (10 * INT64_C(1000000))

enum { UNKNOWN = 0, ASKED = 1, NEVER = 2 }; /* in place of a page's address; which page may be written is its lowest bit */

struct lasting {
    struct vif *vif;
    uintptr_t pages[REFS];
    struct { void *handle; unsigned count; } pieces[PIECES];
    unsigned piece_count, page_count, asked_count[2], turns;
    uint32_t asked[2][PIECE]; /* [1]: to be written */
};

static struct lasting *all[VIFS_MAPPED];
static bool some_asked;
static struct vif *wanting; /* to be mapped from the next turn on; one a turn */

void lasting_drop(struct vif *v)
{
    struct lasting *l = v->lasting;
    if (!l)
        return;
    for (unsigned i = 0; i < l->piece_count; i++)
        hypervisor_return(l->pieces[i].handle, l->pieces[i].count);
    for (unsigned i = 0; i < VIFS_MAPPED; i++)
        if (all[i] == l)
            all[i] = NULL;
    free(l);
    v->lasting = NULL;
}

static struct lasting **room(int64_t now)
{
    struct lasting **quiet = NULL;
    for (unsigned i = 0; i < VIFS_MAPPED; i++) {
        if (!all[i])
            return &all[i];
        if (now - all[i]->vif->busy_us > QUIET_US && (!quiet || all[i]->vif->busy_us < (*quiet)->vif->busy_us))
            quiet = &all[i];
    }
    if (quiet)
        lasting_drop((*quiet)->vif);
    return quiet;
}

void lasting_count(struct vif *v)
{
    if (++v->busy_frames < BUSY_FRAMES)
        return;
    int64_t now = turn_us(), since = now - v->busy_us;
    v->busy_frames = 0;
    v->busy_us = now;
    if (v->lasting || since > BUSY_US)
        return;
    wanting = v;
}

/* Not inside of a turn: who gives way may have frames in it that are mapped only. */
static void begin(struct vif *v)
{
    struct lasting **place = v->lasting || !v->tx || v->failing ? NULL : room(turn_us());
    if (!place || !(v->lasting = calloc(1, sizeof *v->lasting)))
        return;
    v->lasting->vif = v;
    *place = v->lasting;
}

uint8_t *lasting_page(struct vif *v, uint32_t ref, bool write)
{
    struct lasting *l = v->lasting;
    if (!l || ref >= REFS)
        return NULL;
    uintptr_t page = l->pages[ref];
    if (page > NEVER)
        return write && !(page & 1) ? NULL : (uint8_t *)(page & ~(uintptr_t)1);
    const bool room_left = l->piece_count + 2 <= PIECES && l->page_count + l->asked_count[0] + l->asked_count[1] < PAGES_OF_VIF;
    if (page == UNKNOWN && l->asked_count[write] < PIECE && room_left) {
        l->pages[ref] = ASKED;
        l->asked[write][l->asked_count[write]++] = ref;
        some_asked = true;
    }
    return NULL;
}

static void map_asked(struct lasting *l, bool write)
{
    uint8_t *pages[PIECE];
    unsigned count = l->asked_count[write];
    if (!count)
        return;
    if (count < PIECE_LEAST && l->turns % PATIENCE) {
        some_asked = true;
        return;
    }
    l->asked_count[write] = 0;
    void *handle = hypervisor_lend(l->vif->record->domid, l->asked[write], count, write, pages);
    for (unsigned i = 0; i < count; i++)
        l->pages[l->asked[write][i]] = handle ? (uintptr_t)pages[i] | write : NEVER;
    if (!handle)
        return;
    l->pieces[l->piece_count].handle = handle;
    l->pieces[l->piece_count++].count = count;
    l->page_count += count;
    totals.maps += count;
}

/* At the end of a turn: what a batch speaks of was copied. */
void lasting_map(void)
{
    if (wanting)
        begin(wanting);
    wanting = NULL;
    if (!some_asked)
        return;
    some_asked = false;
    for (unsigned i = 0; i < VIFS_MAPPED; i++) {
        if (!all[i])
            continue;
        all[i]->turns++;
        map_asked(all[i], false);
        map_asked(all[i], true);
    }
}
