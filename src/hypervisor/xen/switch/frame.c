/*
 * What stands in a frame, and what of it a guest may say: pure functions over bytes. Lengths are checked before anything is read; a
 * frame that claims to be ARP or IPv4 and is too short to be it is no frame.
 */
#include <string.h>
#include "switch.h"

enum { TYPE_IPV4 = 0x0800, TYPE_ARP = 0x0806, TYPE_VLAN = 0x8100, TYPE_IPV6 = 0x86dd, TYPE_PROVIDER_VLAN = 0x88a8 };
enum { ETHERNET = 14, ARP_BYTES = 28, IPV4_BYTES = 20, IPV6_BYTES = 40 };
enum { ICMPV6 = 58, NEIGHBOUR_SOLICITATION = 135 };

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t address_at(const uint8_t *p)
{
    uint32_t a;
    memcpy(&a, p, sizeof a);
    return a;
}

static void find_ports(struct frame *f, const uint8_t *p, size_t length)
{
    size_t header = (size_t)(p[0] & 15) * 4;
    if ((p[9] != PROTOCOL_TCP && p[9] != PROTOCOL_UDP) || header < IPV4_BYTES || be16(p + 6) & 0x1fff || length < header + (p[9] == PROTOCOL_TCP ? 20 : 8))
        return;
    f->protocol = p[9];
    memcpy(&f->source_port, p + header, 2);
    memcpy(&f->target_port, p + header + 2, 2);
    f->tcp_flags = p[9] == PROTOCOL_TCP ? p[header + 13] : 0;
}

/* A neighbour solicitation (RFC 4861) for an address whose interface identifier is made of a MAC (RFC 4291, appendix A). */
static void find_solicited(struct frame *f, const uint8_t *p, size_t length)
{
    const uint8_t *id = p + IPV6_BYTES + 16;
    if (length < IPV6_BYTES + 24 || p[6] != ICMPV6 || p[IPV6_BYTES] != NEIGHBOUR_SOLICITATION || id[3] != 0xff || id[4] != 0xfe)
        return;
    const uint8_t mac[6] = { id[0] ^ 2, id[1], id[2], id[5], id[6], id[7] };
    memcpy(f->solicited, mac, sizeof mac);
    f->solicits = true;
}

bool frame_parse(struct frame *f, uint8_t *bytes, size_t length)
{
    if (length < FRAME_MIN || length > FRAME_MAX)
        return false;
    *f = (struct frame){ .bytes = bytes, .length = length, .destination = bytes, .source = bytes + 6, .group = bytes[0] & 1 };
    const uint8_t *p = bytes + ETHERNET;
    switch (be16(bytes + 12)) {
    case TYPE_ARP:
        /* Ethernet and IPv4, nothing else. */
        if (length < ETHERNET + ARP_BYTES || be16(p) != 1 || be16(p + 2) != TYPE_IPV4 || p[4] != 6 || p[5] != 4)
            return false;
        f->arp_request = be16(p + 6) == 1;
        f->has_sender = true;
        f->sender = address_at(p + 14);
        f->arp_target = address_at(p + 24);
        return true;
    case TYPE_IPV4:
        if (length < ETHERNET + IPV4_BYTES || p[0] >> 4 != 4)
            return false;
        f->ipv4 = f->has_sender = true;
        f->sender = address_at(p + 12);
        f->target = address_at(p + 16);
        find_ports(f, p, length - ETHERNET);
        return true;
    case TYPE_IPV6:
        find_solicited(f, p, length - ETHERNET);
        return true;
    default:
        return true;
    }
}

void frame_complete(struct frame *f)
{
    if (f->mapped)
        memcpy(f->bytes + FRAME_HEAD, f->mapped + FRAME_HEAD, f->length - FRAME_HEAD);
    f->mapped = NULL;
}

bool frame_allowed(const struct frame *f, const struct identity *who, uint32_t also)
{
    static const uint8_t bridge_group[5] = { 0x01, 0x80, 0xc2, 0x00, 0x00 };
    uint16_t type = be16(f->bytes + 12);
    if (memcmp(f->source, who->mac, 6))
        return false;
    /* What bridges say to each other: no guest takes part in it. A tag would hide what is checked below. */
    if (!memcmp(f->destination, bridge_group, sizeof bridge_group) && f->destination[5] < 0x10)
        return false;
    if (type == TYPE_VLAN || type == TYPE_PROVIDER_VLAN)
        return false;
    if (type == TYPE_ARP && memcmp(f->bytes + ETHERNET + 8, who->mac, 6))
        return false;
    if (!f->has_sender || f->sender == 0 || f->sender == also || (f->ipv4 && who->flags & FLAG_UNLOCKED))
        return true;
    if (who->address_count == 0 && !(who->flags & FLAG_KNOWN))
        return true;
    for (unsigned i = 0; i < who->address_count; i++)
        if (who->addresses[i] == f->sender)
            return true;
    return false;
}

size_t frame_announce(uint8_t *bytes, const uint8_t mac[6], uint32_t address)
{
    static const uint8_t fixed[10] = { 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 };
    memset(bytes, 0, ETHERNET + ARP_BYTES);
    memset(bytes, 0xff, 6);
    memcpy(bytes + 6, mac, 6);
    memcpy(bytes + 12, fixed, sizeof fixed);
    memcpy(bytes + 22, mac, 6);
    memcpy(bytes + 28, &address, 4);
    memcpy(bytes + 38, &address, 4);
    return ETHERNET + ARP_BYTES;
}

void frame_hide_sender(uint8_t *bytes)
{
    memset(bytes + ETHERNET + 14, 0, 4);
}

size_t frame_answer_arp(uint8_t *bytes, const uint8_t mac[6])
{
    uint8_t *p = bytes + ETHERNET, asker[10];
    memcpy(asker, p + 8, sizeof asker); /* its MAC and address */
    memcpy(p + 14, p + 24, 4);
    memcpy(p + 8, mac, 6);
    memcpy(p + 18, asker, sizeof asker);
    p[7] = 2;
    memcpy(bytes, asker, 6);
    memcpy(bytes + 6, mac, 6);
    return ETHERNET + ARP_BYTES;
}

/* The header that says where TCP or UDP begins: its length, and the protocol; 0 when there is none, or in a fragment. */
static size_t network_header(const uint8_t *bytes, size_t length, uint8_t *protocol)
{
    const uint8_t *p = bytes + ETHERNET;
    uint16_t type = be16(bytes + 12);
    if (type == TYPE_IPV4 && length >= ETHERNET + IPV4_BYTES) {
        size_t header = (size_t)(p[0] & 15) * 4;
        *protocol = p[9];
        return header < IPV4_BYTES || (be16(p + 6) & 0x3fff) ? 0 : header;
    }
    if (type == TYPE_IPV6 && length >= ETHERNET + IPV6_BYTES) {
        *protocol = p[6];
        return IPV6_BYTES;
    }
    return 0;
}

bool frame_checksum_place(const uint8_t *bytes, size_t length, uint16_t *start, uint16_t *offset)
{
    uint8_t protocol;
    size_t header = network_header(bytes, length, &protocol);
    if (!header || (protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP))
        return false;
    *start = (uint16_t)(ETHERNET + header);
    *offset = protocol == PROTOCOL_TCP ? 16 : 6;
    return (size_t)*start + *offset + 2 <= length;
}

static uint32_t sum(const uint8_t *p, size_t length, uint32_t so_far)
{
    for (; length > 1; p += 2, length -= 2)
        so_far += be16(p);
    return length ? so_far + (uint32_t)(p[0] << 8) : so_far;
}

static uint16_t fold(uint32_t s)
{
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)s;
}

static void put16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

void frame_checksum_begin(uint8_t *bytes, size_t length, uint16_t start, uint16_t offset)
{
    const uint8_t *p = bytes + ETHERNET;
    bool v4 = be16(bytes + 12) == TYPE_IPV4;
    size_t body = v4 ? (size_t)be16(p + 2) - (start - ETHERNET) : be16(p + 4);
    if (body > length - start)
        body = length - start;
    uint32_t s = (uint32_t)body + (v4 ? p[9] : p[6]);
    s = v4 ? sum(p + 12, 8, s) : sum(p + 8, 32, s);
    put16(bytes + start + offset, fold(s));
}

/* RFC 1071: the field holds the sum of the pseudo header, and the rest is added. */
bool frame_checksum_finish(uint8_t *bytes, size_t length, uint16_t start, uint16_t offset)
{
    if ((size_t)start + offset + 2 > length)
        return false;
    uint16_t value = (uint16_t)~fold(sum(bytes + start, length - start, 0));
    put16(bytes + start + offset, value ? value : 0xffff);
    return true;
}
