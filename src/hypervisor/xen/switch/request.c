/*
 * The requests of the protocol. A line is understood whole or refused whole: an unknown word, a word twice, a number out of its range
 * change nothing. Each line gets one answer that begins with ok or error.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "request.h"
#include "switch.h"

#define RATE_MAX 100000000u /* kbit a second */

void refuse(struct reply *r, int error, const char *what)
{
    const char *name = strerrorname_np(error);
    reply_add(r, "error %s %s\n", name ? name : "EIO", what);
}

bool number(const char *text, uint64_t most, uint64_t *value)
{
    uint64_t n = 0;
    if (!*text || strlen(text) > 19)
        return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return false;
        n = n * 10 + (uint64_t)(*text - '0');
    }
    *value = n;
    return n <= most;
}

/* The value of KEY=, which may stand there once; NULL when it is missing. */
const char *value_of(struct line *l, const char *key)
{
    size_t length = strlen(key);
    for (unsigned i = 1; i < l->count; i++)
        if (!l->used[i] && !strncmp(l->words[i], key, length) && l->words[i][length] == '=') {
            l->used[i] = true;
            return l->words[i] + length + 1;
        }
    return NULL;
}

bool number_of(struct line *l, const char *key, uint64_t most, uint64_t *value)
{
    const char *text = value_of(l, key);
    return text && number(text, most, value);
}

/* Every word was understood, and none twice. */
bool all_used(const struct line *l)
{
    for (unsigned i = 1; i < l->count; i++)
        if (!l->used[i])
            return false;
    return true;
}

static bool is_name(const char *text, size_t longest)
{
    if (!*text || strlen(text) > longest || *text == '.')
        return false;
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr("._-", *text))
            return false;
    return true;
}

static bool vif_name(struct line *l, uint64_t *domid, uint64_t *handle)
{
    if (l->count < 2)
        return false;
    l->used[1] = true;
    char *dot = strchr(l->words[1], '.');
    if (!dot)
        return false;
    *dot = 0;
    bool well = number(l->words[1], DOMIDS - 1, domid) && number(dot + 1, UINT32_MAX, handle);
    *dot = '.';
    return well;
}

/* The vif a line speaks of; NULL with the refusal given. */
static struct vif *vif_of(struct line *l, struct reply *r)
{
    uint64_t domid, handle;
    if (!vif_name(l, &domid, &handle)) {
        refuse(r, EINVAL, "name a vif: DOMID.HANDLE");
        return NULL;
    }
    struct vif *v = vif_find((unsigned)domid, (uint32_t)handle);
    if (!v)
        refuse(r, ENOENT, "no such vif is attached");
    return v;
}

static void hello(struct line *l, struct reply *r)
{
    if (l->count != 1)
        refuse(r, EINVAL, "hello has no words");
    else
        reply_add(r, "ok shoal-switch 1\n");
}

static void network(struct line *l, struct reply *r)
{
    const char *bridge = value_of(l, "bridge");
    if (l->count != 3 || !bridge || l->used[1] || !is_name(l->words[1], 63) || !is_name(bridge, 15)) {
        refuse(r, EINVAL, "network NAME bridge=BRIDGE");
        return;
    }
    struct network *n;
    int error = network_add(l->words[1], bridge, &n);
    if (error == EEXIST)
        refuse(r, error, "the network is on another bridge");
    else if (error == ENODEV)
        refuse(r, error, "no such bridge");
    else if (error)
        refuse(r, error, "the network's uplink could not be made");
    else
        reply_add(r, "ok interface=%s\n", n->record->interface);
}

static void attach(struct line *l, struct reply *r)
{
    uint64_t domid, handle, tx, rx, port;
    const char *name = value_of(l, "network");
    if (!vif_name(l, &domid, &handle) || !name || !number_of(l, "tx", UINT64_MAX >> 12, &tx) || !number_of(l, "rx", UINT64_MAX >> 12, &rx) ||
        !number_of(l, "port", INT32_MAX, &port) || !all_used(l)) {
        refuse(r, EINVAL, "attach DOMID.HANDLE network=NAME tx=MFN rx=MFN port=PORT");
        return;
    }
    struct network *n = network_find(name);
    if (!n) {
        refuse(r, ENOENT, "no such network");
        return;
    }
    int error = vif_attach((unsigned)domid, (uint32_t)handle, n, tx, rx, (uint32_t)port);
    if (error == EEXIST)
        refuse(r, error, "the vif is attached");
    else if (error == ENOSPC)
        refuse(r, error, "no room for another vif");
    else if (error)
        refuse(r, error, "its rings could not be mapped, or its event channel not bound");
    else
        reply_add(r, "ok\n");
}

bool parse_mac(const char *text, uint8_t mac[6])
{
    static const uint8_t none[6];
    for (unsigned i = 0; i < 6; i++, text += 3) {
        unsigned value;
        if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) || text[2] != (i < 5 ? ':' : 0))
            return false;
        sscanf(text, "%2x", &value);
        mac[i] = (uint8_t)value;
    }
    return !(mac[0] & 1) && memcmp(mac, none, 6);
}

static bool parse_addresses(const char *text, struct identity *who)
{
    for (;;) {
        char one[INET_ADDRSTRLEN];
        size_t length = strcspn(text, ",");
        if (length >= sizeof one || who->address_count == ADDRESSES_MAX)
            return false;
        memcpy(one, text, length);
        one[length] = 0;
        if (inet_pton(AF_INET, one, &who->addresses[who->address_count]) != 1 || !who->addresses[who->address_count])
            return false;
        who->address_count++;
        if (!text[length])
            return true;
        text += length + 1;
    }
}

static void identity(struct line *l, struct reply *r)
{
    struct identity who = { 0 };
    uint64_t rate = 0, flood = 0, unlocked = 0;
    struct vif *v = vif_of(l, r);
    if (!v)
        return;
    const char *mac = value_of(l, "mac"), *ip = value_of(l, "ip"), *rate_text = value_of(l, "rate"), *flood_text = value_of(l, "flood"), *unlocked_text = value_of(l, "unlocked");
    if (!mac || !parse_mac(mac, who.mac) || (ip && !parse_addresses(ip, &who)) || (rate_text && !number(rate_text, RATE_MAX, &rate)) ||
        (flood_text && !number(flood_text, 1, &flood)) || (unlocked_text && !number(unlocked_text, 1, &unlocked)) || !all_used(l)) {
        refuse(r, EINVAL, "identity DOMID.HANDLE mac=MAC [ip=A.B.C.D[,...]] [rate=KBIT] [flood=1] [unlocked=1]");
        return;
    }
    who.rate_kbit = (uint32_t)rate;
    who.flags = (uint8_t)((flood ? FLAG_FLOOD : 0) | (unlocked ? FLAG_UNLOCKED : 0));
    int error = vif_identify(v, &who);
    if (error == EADDRINUSE)
        refuse(r, error, "another vif of the network has this MAC or address");
    else if (error)
        refuse(r, error, "an address is given twice");
    else
        reply_add(r, "ok\n");
}

static void detach(struct line *l, struct reply *r)
{
    uint64_t domid;
    if (l->count != 2 || !number(l->words[1], DOMIDS - 1, &domid))
        refuse(r, EINVAL, "detach DOMID");
    else
        reply_add(r, "ok %u\n", vif_detach((unsigned)domid));
}

static void list_vif(const struct vif *v, struct reply *r)
{
    const struct identity *who = vif_identity(v);
    const struct record *record = v->record;
    reply_add(r, "%u.%u network=%s port=%u mac=", record->domid, record->handle, v->network->record->name, record->port);
    if (who)
        reply_add(r, "%02x:%02x:%02x:%02x:%02x:%02x", who->mac[0], who->mac[1], who->mac[2], who->mac[3], who->mac[4], who->mac[5]);
    reply_add(r, " ip=");
    for (unsigned i = 0; who && i < who->address_count; i++) {
        char text[INET_ADDRSTRLEN];
        reply_add(r, "%s%s", i ? "," : "", inet_ntop(AF_INET, &who->addresses[i], text, sizeof text));
    }
    reply_add(r, " rate=%u flood=%u unlocked=%u state=%s\n", who ? who->rate_kbit : 0, who && who->flags & FLAG_FLOOD ? 1 : 0,
              who && who->flags & FLAG_UNLOCKED ? 1 : 0, record->state == RECORD_UP ? "up" : "broken");
}

static void list(struct line *l, struct reply *r)
{
    if (l->count != 1) {
        refuse(r, EINVAL, "list has no words");
        return;
    }
    reply_add(r, "ok %u\n", vifs_count());
    for (uint32_t slot = 0; slot < state_used(); slot++)
        if (vif_by_slot(slot))
            list_vif(vif_by_slot(slot), r);
}

static void stats(struct line *l, struct reply *r)
{
    struct vif *v = vif_of(l, r);
    if (!v)
        return;
    if (!all_used(l)) {
        refuse(r, EINVAL, "stats DOMID.HANDLE");
        return;
    }
    const struct counters *c = &v->record->counters;
    reply_add(r, "ok rx_frames=%lu rx_bytes=%lu tx_frames=%lu tx_bytes=%lu rx_dropped=%lu tx_dropped=%lu\n", c->rx_frames, c->rx_bytes,
              c->tx_frames, c->tx_bytes, c->rx_dropped, c->tx_dropped);
}

static unsigned long memory_kib(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (PAGE / 1024);
}

static void all_totals(struct line *l, struct reply *r)
{
    if (l->count != 1)
        refuse(r, EINVAL, "totals has no words");
    else
        reply_add(r, "ok vifs=%u frames=%lu bytes=%lu turns=%lu copies=%lu dropped=%lu memory_kib=%lu waits=%lu sends=%lu notifies=%lu lost=%lu maps=%lu waited=%lu\n",
                  vifs_count(), totals.frames, totals.bytes, totals.turns, totals.copies, totals.dropped, memory_kib(), totals.waits,
                  totals.sends, totals.notifies, networks_lost(), totals.maps, totals.waited);
}

static void mirror(struct line *l, struct reply *r)
{
    struct vif *v = vif_of(l, r);
    if (!v)
        return;
    const char *file = value_of(l, "file");
    if (l->count != 3 || (file ? *file != '/' : strcmp(l->words[2], "off"))) {
        refuse(r, EINVAL, "mirror DOMID.HANDLE file=PATH (from the root), or off");
        return;
    }
    int error = 0;
    if (file)
        error = mirror_start(v, file);
    else
        mirror_stop(v);
    if (error)
        refuse(r, error, "the file cannot be written");
    else
        reply_add(r, "ok\n");
}

void request_handle(char *text, struct reply *r)
{
    static const struct { const char *name; void (*handle)(struct line *l, struct reply *r); } requests[] = {
        { "hello", hello },   { "network", network }, { "attach", attach },     { "identity", identity }, { "detach", detach },
        { "list", list },     { "stats", stats },     { "totals", all_totals }, { "mirror", mirror },
        { "move", request_move },     { "hold", request_hold },       { "announce", request_announce }, { "traffic", request_traffic },
    };
    struct line l = { .count = 0 };
    char *rest = text;
    for (char *word; (word = strsep(&rest, " "));) {
        if (!*word || l.count == WORDS_MAX) {
            refuse(r, EINVAL, "words are separated by one space, and few");
            return;
        }
        l.words[l.count++] = word;
    }
    for (unsigned i = 0; i < sizeof requests / sizeof *requests; i++)
        if (!strcmp(l.words[0], requests[i].name)) {
            requests[i].handle(&l, r);
            return;
        }
    refuse(r, ENOSYS, "no such request");
}
