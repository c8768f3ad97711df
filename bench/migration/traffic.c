/*
 * Traffic over MPTCP that knows what it must receive: byte n of a direction is a function of n, so that a byte lost, doubled or moved is seen at once.
 *
 *   traffic listen ADDRESS PORT MODE           accepts, sends and receives on every connection
 *   traffic connect ADDRESS PORT MODE COUNT    opens COUNT connections
 *
 * MODE: "records": both ends send 256 bytes every 5 ms on each connection; "bulk": who listens sends as fast as it can, who connects sends nothing; "plain-records" and
 * "plain-bulk": the same over plain TCP. Says "ready PORT" first. A line on standard input asks for one line of JSON: since the last one, the largest gap between two receptions on
 * any connection, a gap under way included; and totals. The line "end" also ends sending; the process is done when the other side has ended too.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64, RECORD_BYTES = 256, INTERVAL_MS = 5, CHUNK = 64 * 1024 };

struct flow {
	int fd, sending, receiving, dead;
	uint64_t sent, owed, received;
	int64_t last, largest;
};

static struct flow flows[MOST];
static int count, bulk, listens, bad, ending;
static uint8_t buffer[CHUNK];

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* splitmix64 of the byte's number in its direction, one byte of it */
static uint8_t expected(uint64_t n, int from_listener)
{
	uint64_t z = (n >> 3) * 0x9e3779b97f4a7c15ULL + (from_listener ? 0x1234567ULL : 0x7654321ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z ^= z >> 27;
	return (uint8_t)(z >> (8 * (n & 7)));
}

static void add(int fd)
{
	struct flow *flow = &flows[count];
	int yes = 1;

	if (count == MOST) {
		close(fd);
		return;
	}
	count++;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	/* Records leave when they are due, not when the last one was acknowledged. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	*flow = (struct flow){.fd = fd, .sending = 1, .receiving = 1, .last = now_ns()};
}

static void fail(struct flow *flow)
{
	if (!flow->dead)
		fprintf(stderr, "traffic: a connection broke after %llu bytes: %s\n", (unsigned long long)flow->received, strerror(errno));
	flow->dead = 1;
	flow->sending = flow->receiving = 0;
}

static void push(struct flow *flow)
{
	while (flow->sending && (flow->owed > 0 || (bulk && listens && !ending))) {
		size_t length = bulk ? CHUNK : flow->owed < CHUNK ? flow->owed : CHUNK;
		ssize_t done;

		for (size_t i = 0; i < length; i++)
			buffer[i] = expected(flow->sent + i, listens);
		done = send(flow->fd, buffer, length, MSG_NOSIGNAL);
		if (done < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (done < 0) {
			fail(flow);
			return;
		}
		flow->sent += (uint64_t)done;
		if (!bulk)
			flow->owed -= (uint64_t)done;
	}
}

static void pull(struct flow *flow)
{
	int64_t now;
	ssize_t got = recv(flow->fd, buffer, sizeof buffer, 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got < 0) {
		fail(flow);
		return;
	}
	now = now_ns();
	if (now - flow->last > flow->largest)
		flow->largest = now - flow->last;
	flow->last = now;
	if (got == 0) {
		flow->receiving = 0;
		return;
	}
	for (ssize_t i = 0; i < got; i++)
		if (buffer[i] != expected(flow->received + (uint64_t)i, !listens))
			bad++;
	flow->received += (uint64_t)got;
}

/* Who receives nothing in its mode has no gaps. */
static void report(void)
{
	int64_t now = now_ns(), largest = 0;
	uint64_t sent = 0, received = 0;
	int broken = 0;

	for (int i = 0; i < count; i++) {
		struct flow *flow = &flows[i];

		if (flow->receiving && !(bulk && listens) && now - flow->last > flow->largest)
			flow->largest = now - flow->last;
		if (flow->largest > largest)
			largest = flow->largest;
		flow->largest = 0;
		sent += flow->sent;
		received += flow->received;
		broken += flow->dead;
	}
	printf("{\"gapMs\":%.3f,\"sent\":%llu,\"received\":%llu,\"bad\":%d,\"connections\":%d,\"broken\":%d}\n", largest / 1e6, (unsigned long long)sent,
	       (unsigned long long)received, bad, count, broken);
	fflush(stdout);
}

static void command(void)
{
	static char line[256];
	static size_t used;
	ssize_t got = read(0, line + used, sizeof line - used);

	if (got == 0)
		exit(0);
	if (got < 0)
		return;
	used += (size_t)got;
	for (char *end; (end = memchr(line, '\n', used));) {
		if (strncmp(line, "end", 3) == 0)
			ending = 1;
		else
			report();
		used -= (size_t)(end + 1 - line);
		memmove(line, end + 1, used);
	}
	if (used == sizeof line)
		used = 0;
}

static void end_sending(void)
{
	for (int i = 0; i < count; i++)
		if (flows[i].sending && (bulk || flows[i].owed == 0)) {
			shutdown(flows[i].fd, SHUT_WR);
			flows[i].sending = 0;
		}
}

static int is_done(void)
{
	for (int i = 0; i < count; i++)
		if (flows[i].sending || flows[i].receiving)
			return 0;
	return 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t length = sizeof at;
	int listener = -1, protocol, wanted, yes = 1;
	int64_t next;

	if (argc < 5 || inet_pton(AF_INET, argv[2], &at.sin_addr) != 1) {
		fprintf(stderr, "usage: traffic listen|connect ADDRESS PORT records|bulk|plain-records|plain-bulk [COUNT]\n");
		return 2;
	}
	listens = strcmp(argv[1], "listen") == 0;
	at.sin_port = htons((uint16_t)atoi(argv[3]));
	protocol = strncmp(argv[4], "plain-", 6) == 0 ? IPPROTO_TCP : 262;
	bulk = strcmp(argv[4], "bulk") == 0 || strcmp(argv[4], "plain-bulk") == 0;
	wanted = argc > 5 ? atoi(argv[5]) : 1;
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_TIMERSLACK, 1000UL);
	if (listens) {
		listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, protocol);
		setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
		if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, MOST) ||
		    getsockname(listener, (struct sockaddr *)&at, &length))
			die("listen");
	} else {
		for (int i = 0; i < wanted && i < MOST; i++) {
			int fd = socket(AF_INET, SOCK_STREAM, protocol);

			if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at))
				die("connect");
			add(fd);
		}
	}
	printf("ready %d\n", ntohs(at.sin_port));
	fflush(stdout);
	next = now_ns();
	for (;;) {
		struct pollfd wait[MOST + 2] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
		int64_t now = now_ns(), until;
		struct timespec timeout;
		int waiting = count;

		if (now >= next) {
			for (int i = 0; i < count && !bulk && !ending; i++)
				flows[i].owed += RECORD_BYTES;
			next += INTERVAL_MS * 1000000LL;
			if (next < now)
				next = now + INTERVAL_MS * 1000000LL;
		}
		for (int i = 0; i < count; i++)
			push(&flows[i]);
		if (ending) {
			end_sending();
			if (is_done()) {
				report();
				return 0;
			}
		}
		for (int i = 0; i < waiting; i++) {
			struct flow *flow = &flows[i];
			int events = (flow->receiving ? POLLIN : 0) | (flow->sending && (flow->owed > 0 || (bulk && listens)) ? POLLOUT : 0);

			wait[i + 2] = (struct pollfd){.fd = events ? flow->fd : -1, .events = (short)events};
		}
		until = next - now_ns();
		if (until < 0)
			until = 0;
		timeout = (struct timespec){.tv_sec = until / 1000000000LL, .tv_nsec = until % 1000000000LL};
		if (ppoll(wait, (nfds_t)waiting + 2, &timeout, NULL) < 0)
			continue;
		if (wait[0].revents)
			command();
		if (wait[1].revents & POLLIN) {
			int fd = accept(listener, NULL, NULL);

			if (fd >= 0)
				add(fd);
		}
		for (int i = 0; i < waiting; i++)
			if (flows[i].receiving && (wait[i + 2].revents & (POLLIN | POLLERR | POLLHUP)))
				pull(&flows[i]);
	}
}
