/*
 * Says when guests first answer a ping.
 *
 *   pinger NAMESPACE-PATH INTERFACE ADDRESS PACKETS-PER-SECOND
 *
 * Standard input: one command a line. "10.64.1.7" watches an address, "-10.64.1.7" forgets it. End of input ends the program.
 * Standard output: "10.64.1.7 123456789" when the first echo reply of a watched address arrived: CLOCK_MONOTONIC nanoseconds.
 *
 * Raw frames, and a table of its own for all 65,536 addresses of the /16 that ADDRESS is in: the kernel's neighbour table ends at 1,024.
 * For the same reason it answers the guests' questions for the interface's own address, beside the kernel, which needs a free
 * entry to answer.
 *
 * Hardware addresses are learned from every ARP packet seen. Guests announce themselves as they boot, so a question of our own
 * is the exception and waits ASK_FIRST_MS: a broadcast reaches every guest on the bridge, and asking each of a thousand every
 * few milliseconds would measure little else. Once the hardware address is known an echo request goes out every ECHO_MS; with
 * many addresses at once the overall rate limit stretches that evenly.
 */
#define _GNU_SOURCE
#include "namespace.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define ECHO_MS 2
#define ASK_FIRST_MS 300
#define ASK_MOST_MS 1000
/* questions a second, over all addresses */
#define ASK_RATE 500
#define ADDRESSES 65536
#define MS 1000000LL

struct entry {
	int64_t echo_due;
	int64_t ask_due;
	int64_t ask_wait;
	/* which watch of this address it is: late replies to an earlier one do not count */
	uint64_t watch;
	unsigned char mac[6];
	unsigned char known; /* mac is valid */
	unsigned char heard; /* mac was valid in an earlier watch */
	unsigned char watched;
	uint16_t place; /* in the list of watched addresses */
};

/* the payload of our echo requests, which comes back in the reply */
struct mark {
	uint64_t pinger;
	uint64_t watch;
};

/* credit that grows with time up to `most`: one packet costs one */
struct bucket {
	double credit, rate, most;
	int64_t at;
};

static struct entry table[ADDRESSES];
static uint16_t watched[ADDRESSES];
static int watched_count;
static int cursor;
static uint32_t own_ip; /* host order */
static uint32_t guests; /* the /16, host order */
static unsigned char own_mac[6];
static int sock;
static uint64_t own_mark;

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "pinger: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int take(struct bucket *b, int64_t now)
{
	b->credit += (double)(now - b->at) * b->rate / 1e9;
	b->at = now;
	if (b->credit > b->most)
		b->credit = b->most;
	if (b->credit < 1)
		return 0;
	b->credit -= 1;
	return 1;
}

static uint16_t checksum(const void *data, size_t length)
{
	const unsigned char *p = data;
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < length; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void send_arp(uint16_t operation, const unsigned char *to, uint32_t target_ip)
{
	static const unsigned char everyone[6] = { 255, 255, 255, 255, 255, 255 };
	struct {
		struct ether_header eth;
		struct ether_arp arp;
	} __attribute__((packed)) f;
	uint32_t sender = htonl(own_ip), target = htonl(target_ip);

	memset(&f, 0, sizeof f);
	memcpy(f.eth.ether_dhost, to ? to : everyone, 6);
	memcpy(f.eth.ether_shost, own_mac, 6);
	f.eth.ether_type = htons(ETHERTYPE_ARP);
	f.arp.arp_hrd = htons(ARPHRD_ETHER);
	f.arp.arp_pro = htons(ETHERTYPE_IP);
	f.arp.arp_hln = 6;
	f.arp.arp_pln = 4;
	f.arp.arp_op = htons(operation);
	memcpy(f.arp.arp_sha, own_mac, 6);
	memcpy(f.arp.arp_spa, &sender, 4);
	if (to)
		memcpy(f.arp.arp_tha, to, 6);
	memcpy(f.arp.arp_tpa, &target, 4);
	(void)!send(sock, &f, sizeof f, 0);
}

static void send_echo(uint16_t low, const unsigned char *mac)
{
	static uint16_t sequence;
	struct {
		struct ether_header eth;
		struct iphdr ip;
		struct icmphdr icmp;
		struct mark mark;
	} __attribute__((packed)) f;

	memset(&f, 0, sizeof f);
	memcpy(f.eth.ether_dhost, mac, 6);
	memcpy(f.eth.ether_shost, own_mac, 6);
	f.eth.ether_type = htons(ETHERTYPE_IP);
	f.ip.version = 4;
	f.ip.ihl = 5;
	f.ip.tot_len = htons(sizeof f - sizeof f.eth);
	f.ip.ttl = 64;
	f.ip.protocol = IPPROTO_ICMP;
	f.ip.saddr = htonl(own_ip);
	f.ip.daddr = htonl(guests | low);
	f.ip.check = checksum(&f.ip, sizeof f.ip);
	f.icmp.type = ICMP_ECHO;
	f.icmp.un.echo.id = htons((uint16_t)getpid());
	f.icmp.un.echo.sequence = htons(++sequence);
	f.mark.pinger = own_mark;
	f.mark.watch = table[low].watch;
	f.icmp.checksum = checksum(&f.icmp, sizeof f.icmp + sizeof f.mark);
	(void)!send(sock, &f, sizeof f, 0);
}

static void forget(uint16_t low)
{
	struct entry *e = &table[low];
	uint16_t last;

	if (!e->watched)
		return;
	last = watched[--watched_count];
	watched[e->place] = last;
	table[last].place = e->place;
	e->watched = 0;
	/* the next guest with this address may have another hardware address */
	e->heard = e->known;
	e->known = 0;
}

static void watch(uint16_t low, int64_t now)
{
	struct entry *e = &table[low];

	if (e->watched)
		return;
	e->watched = 1;
	e->watch++;
	e->place = (uint16_t)watched_count;
	watched[watched_count++] = low;
	e->echo_due = now;
	e->ask_wait = ASK_FIRST_MS * MS;
	e->ask_due = now + e->ask_wait;
	/* once, in case it is the same guest */
	if (e->heard)
		send_echo(low, e->mac);
}

static void command(char *line, int64_t now)
{
	int removing = line[0] == '-';
	struct in_addr parsed;
	uint32_t ip;

	if (line[0] == '\0')
		return;
	if (inet_pton(AF_INET, line + removing, &parsed) != 1 || ((ip = ntohl(parsed.s_addr)) & 0xffff0000u) != guests) {
		fprintf(stderr, "pinger: %s is no address of this network\n", line);
		return;
	}
	if (removing)
		forget(ip & 0xffff);
	else
		watch(ip & 0xffff, now);
}

/* Returns 0 at the end of the input. */
static int read_commands(int64_t now)
{
	static char buffer[65536];
	static size_t held;
	ssize_t got = read(0, buffer + held, sizeof buffer - held);
	char *line = buffer, *end;

	if (got <= 0)
		return got < 0 && (errno == EINTR || errno == EAGAIN);
	held += (size_t)got;
	while ((end = memchr(line, '\n', held - (size_t)(line - buffer))) != NULL) {
		*end = '\0';
		command(line, now);
		line = end + 1;
	}
	held -= (size_t)(line - buffer);
	memmove(buffer, line, held);
	if (held == sizeof buffer)
		held = 0; /* no address is that long */
	return 1;
}

static void got_arp(const struct ether_arp *arp, int64_t now)
{
	uint32_t sender, target;
	struct entry *e;

	memcpy(&sender, arp->arp_spa, 4);
	memcpy(&target, arp->arp_tpa, 4);
	sender = ntohl(sender);
	target = ntohl(target);
	if ((sender & 0xffff0000u) != guests || sender == own_ip)
		return;
	e = &table[sender & 0xffff];
	memcpy(e->mac, arp->arp_sha, 6);
	if (!e->known)
		e->echo_due = now;
	e->known = 1;
	if (ntohs(arp->arp_op) == ARPOP_REQUEST && target == own_ip)
		send_arp(ARPOP_REPLY, arp->arp_sha, sender);
}

static void got_frame(const unsigned char *frame, size_t length, int64_t now)
{
	const struct ether_header *eth = (const void *)frame;
	const struct iphdr *ip = (const void *)(frame + sizeof *eth);
	const struct icmphdr *icmp;
	struct mark mark;
	char line[64];
	uint32_t source;
	size_t header;
	int n;

	if (length >= sizeof *eth + sizeof(struct ether_arp) && eth->ether_type == htons(ETHERTYPE_ARP)) {
		got_arp((const void *)(frame + sizeof *eth), now);
		return;
	}
	if (length < sizeof *eth + sizeof *ip || eth->ether_type != htons(ETHERTYPE_IP) || ip->protocol != IPPROTO_ICMP)
		return;
	header = (size_t)ip->ihl * 4;
	if (header < sizeof *ip || length < sizeof *eth + header + sizeof *icmp + sizeof mark)
		return;
	icmp = (const void *)(frame + sizeof *eth + header);
	source = ntohl(ip->saddr);
	if (icmp->type != ICMP_ECHOREPLY || icmp->un.echo.id != htons((uint16_t)getpid()))
		return;
	if ((source & 0xffff0000u) != guests)
		return;
	memcpy(&mark, icmp + 1, sizeof mark);
	if (mark.pinger != own_mark || !table[source & 0xffff].watched || mark.watch != table[source & 0xffff].watch)
		return;
	forget(source & 0xffff);
	n = snprintf(line, sizeof line, "%u.%u.%u.%u %lld\n", source >> 24, source >> 16 & 255, source >> 8 & 255, source & 255,
		     (long long)now);
	if (write(1, line, (size_t)n) != n)
		exit(0);
}

static void receive(void)
{
	unsigned char frame[2048];
	struct sockaddr_ll from;
	socklen_t size;
	ssize_t got;

	while (size = sizeof from, (got = recvfrom(sock, frame, sizeof frame, MSG_DONTWAIT, (struct sockaddr *)&from, &size)) > 0)
		if (from.sll_pkttype != PACKET_OUTGOING)
			got_frame(frame, (size_t)got, now_ns());
}

/* Sends what is due, as far as the rates allow; returns when something may be due next. */
static int64_t send_due(struct bucket *all, struct bucket *asks, int64_t now)
{
	int64_t next = now + 1000 * MS;

	for (int i = 0; i < watched_count; i++) {
		struct entry *e;
		int64_t due;

		if (cursor >= watched_count)
			cursor = 0;
		e = &table[watched[cursor]];
		due = e->known && e->echo_due < e->ask_due ? e->echo_due : e->ask_due;
		if (due <= now) {
			if (!take(all, now))
				return now + MS / 4;
			if (due == e->ask_due && !(e->known && e->echo_due <= now)) {
				if (!take(asks, now)) {
					e->ask_due = now + 10 * MS;
				} else {
					send_arp(ARPOP_REQUEST, NULL, guests | watched[cursor]);
					e->ask_wait = e->ask_wait * 2 > ASK_MOST_MS * MS ? ASK_MOST_MS * MS : e->ask_wait * 2;
					e->ask_due = now + e->ask_wait;
				}
			} else {
				send_echo(watched[cursor], e->mac);
				e->echo_due = now + ECHO_MS * MS;
			}
			due = e->known && e->echo_due < e->ask_due ? e->echo_due : e->ask_due;
		}
		if (due < next)
			next = due;
		cursor++;
	}
	return next;
}

int main(int argc, char **argv)
{
	struct sockaddr_ll place;
	struct bucket all, asks;
	struct ifreq ifr;
	struct in_addr parsed;
	int buffer = 8 << 20, rate, control;

	if (argc != 5 || inet_pton(AF_INET, argv[3], &parsed) != 1 || (rate = atoi(argv[4])) < 1 || strlen(argv[2]) >= IFNAMSIZ) {
		fprintf(stderr, "usage: pinger NAMESPACE-PATH INTERFACE ADDRESS PACKETS-PER-SECOND\n");
		return 2;
	}
	if (enter_namespace(argv[1]) != 0)
		die(argv[1]);
	control = socket(AF_INET, SOCK_DGRAM, 0);
	sock = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	if (sock < 0 || control < 0)
		die("socket");
	setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
	memset(&ifr, 0, sizeof ifr);
	strcpy(ifr.ifr_name, argv[2]);
	if (ioctl(control, SIOCGIFADDR, &ifr) != 0)
		die(argv[2]);
	own_ip = ntohl(((struct sockaddr_in *)&ifr.ifr_addr)->sin_addr.s_addr);
	guests = ntohl(parsed.s_addr) & 0xffff0000u;
	if (ioctl(control, SIOCGIFHWADDR, &ifr) != 0)
		die(argv[2]);
	memcpy(own_mac, ifr.ifr_hwaddr.sa_data, 6);
	memset(&place, 0, sizeof place);
	place.sll_family = AF_PACKET;
	place.sll_protocol = htons(ETH_P_ALL);
	place.sll_ifindex = (int)if_nametoindex(argv[2]);
	if (bind(sock, (struct sockaddr *)&place, sizeof place) != 0)
		die("bind");
	if (getrandom(&own_mark, sizeof own_mark, 0) != sizeof own_mark)
		die("getrandom");
	/* the emulator keeps the processors busy; a late look at the clock would be counted as the guest's time */
	setpriority(PRIO_PROCESS, 0, -15);
	all = (struct bucket){ .rate = rate, .most = rate / 50.0 + 1, .at = now_ns() };
	asks = (struct bucket){ .rate = ASK_RATE, .most = 20, .at = now_ns() };
	if (write(1, "ready\n", 6) != 6)
		return 0;
	for (;;) {
		struct pollfd wait[2] = { { .fd = sock, .events = POLLIN }, { .fd = 0, .events = POLLIN } };
		int64_t now = now_ns();
		int64_t left = send_due(&all, &asks, now) - now;
		struct timespec timeout;

		if (left < 0)
			left = 0;
		timeout.tv_sec = left / 1000000000LL;
		timeout.tv_nsec = left % 1000000000LL;
		if (ppoll(wait, 2, &timeout, NULL) < 0 && errno != EINTR)
			die("poll");
		if (wait[0].revents)
			receive();
		if (wait[1].revents && !read_commands(now_ns()))
			return 0;
	}
}
