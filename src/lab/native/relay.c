/*
 * A slow, lossy or narrow line between two subnets, in user space: the kernel's netem is not everywhere.
 *
 *   relay LABEL NAMESPACE-PATH TUN-NAME DELAY-MICROSECONDS LOSS-PER-MILLION RATE-KBIT
 *
 * Routing sends one direction's packets into the TUN device; each is dropped by chance, or written back after it has waited for
 * the line (rate; 0 is no limit) and then for the delay. Written back they come in as from a line and are routed on. LABEL is a
 * path that only tells whose process this is. Says "ready" once the device is there.
 *
 * The queue is first in, first out: the delay is the same for all, so the order of arrival is the order of departure. In front
 * of the line it holds QUEUE_MS worth of packets, like a small router; what is more is dropped.
 */
#define _GNU_SOURCE
#include "namespace.h"
#include <errno.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#define QUEUE_MS 200
#define QUEUE_PACKETS 65536
#define QUEUE_BYTES (256u << 20)

struct packet {
	struct packet *next;
	int64_t due;
	uint32_t length;
	unsigned char bytes[];
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t chance_state;

/* xorshift64*: enough to drop packets by */
static uint32_t chance_per_million(void)
{
	chance_state ^= chance_state >> 12;
	chance_state ^= chance_state << 25;
	chance_state ^= chance_state >> 27;
	return (uint32_t)((chance_state * 2685821657736338717ULL >> 32) * 1000000ULL >> 32);
}

int main(int argc, char **argv)
{
	struct packet *head = NULL, **tail = &head;
	uint32_t held_packets = 0, held_bytes = 0;
	int64_t delay, line_free = 0, rate;
	static unsigned char buffer[65536];
	struct ifreq ifr;
	uint32_t loss;
	int tun;

	if (argc != 7 || strlen(argv[3]) >= IFNAMSIZ) {
		fprintf(stderr, "usage: relay LABEL NAMESPACE-PATH TUN-NAME DELAY-MICROSECONDS LOSS-PER-MILLION RATE-KBIT\n");
		return 2;
	}
	delay = atoll(argv[4]) * 1000;
	loss = (uint32_t)atoll(argv[5]);
	rate = atoll(argv[6]) * 1000;
	signal(SIGPIPE, SIG_IGN);
	if (getrandom(&chance_state, sizeof chance_state, 0) < 0 || chance_state == 0)
		chance_state = 88172645463325252ULL;
	if (enter_namespace(argv[2]) != 0)
		die(argv[2]);
	tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	if (tun < 0)
		die("/dev/net/tun");
	memset(&ifr, 0, sizeof ifr);
	strcpy(ifr.ifr_name, argv[3]);
	ifr.ifr_flags = IFF_TUN | IFF_NO_PI;
	if (ioctl(tun, TUNSETIFF, &ifr) != 0)
		die(argv[3]);
	setpriority(PRIO_PROCESS, 0, -15);
	/* timers of ordinary processes are up to 50 us late to save power */
	prctl(PR_SET_TIMERSLACK, 1000UL);
	if (write(1, "ready\n", 6) != 6)
		return 1;
	for (;;) {
		struct pollfd wait = { .fd = tun, .events = POLLIN };
		struct timespec timeout, *until = NULL;
		int64_t now = now_ns();
		ssize_t got;

		while (head && head->due <= now) {
			struct packet *done = head;

			(void)!write(tun, done->bytes, done->length);
			head = done->next;
			if (!head)
				tail = &head;
			held_packets--;
			held_bytes -= done->length;
			free(done);
		}
		if (head) {
			timeout.tv_sec = (head->due - now) / 1000000000LL;
			timeout.tv_nsec = (head->due - now) % 1000000000LL;
			until = &timeout;
		}
		if (ppoll(&wait, 1, until, NULL) < 0 && errno != EINTR)
			die("poll");
		while ((got = read(tun, buffer, sizeof buffer)) > 0) {
			struct packet *p;
			int64_t start;

			now = now_ns();
			if (loss && chance_per_million() < loss)
				continue;
			start = line_free > now ? line_free : now;
			if (start - now > QUEUE_MS * 1000000LL || held_packets >= QUEUE_PACKETS || held_bytes >= QUEUE_BYTES)
				continue;
			if (rate)
				start += (int64_t)got * 8 * 1000000000LL / rate;
			line_free = start;
			p = malloc(sizeof *p + (size_t)got);
			if (!p)
				continue;
			p->next = NULL;
			p->due = start + delay;
			p->length = (uint32_t)got;
			memcpy(p->bytes, buffer, (size_t)got);
			*tail = p;
			tail = &p->next;
			held_packets++;
			held_bytes += p->length;
			if (head->due <= now)
				break;
		}
	}
}
