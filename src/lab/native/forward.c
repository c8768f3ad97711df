/*
 * A port of the machine's loopback that leads to one of a namespace's loopback.
 *
 *   forward LABEL PORT NAMESPACE-PATH TARGET-PORT
 *
 * A socket belongs to the namespace it was made in: so the listening one is made first, then the namespace is entered, and every
 * connection onwards starts there. Another port is taken when PORT is in use; "ready PORT" says which it became. LABEL is a path
 * that only tells whose process this is.
 *
 * Each connection has a process of its own, which ends with it and with this one: what one reader holds up holds up no other.
 */
#define _GNU_SOURCE
#include "namespace.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CONNECTIONS 256
#define BUFFER 65536

/* what was read from one end and not yet written to the other */
struct way {
	int from, to;
	int at_end;
	size_t start, end;
	unsigned char bytes[BUFFER];
};

static void die(const char *what)
{
	fprintf(stderr, "forward: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_in loopback(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

static void at_once(int socket)
{
	int one = 1;

	setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* Returns 0 when the connection is broken. */
static int fill(struct way *w)
{
	ssize_t got = recv(w->from, w->bytes, sizeof w->bytes, MSG_DONTWAIT);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	if (got == 0) {
		w->at_end = 1;
		shutdown(w->to, SHUT_WR);
		return 1;
	}
	w->start = 0;
	w->end = (size_t)got;
	return 1;
}

static int drain(struct way *w)
{
	ssize_t sent = send(w->to, w->bytes + w->start, w->end - w->start, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0)
		return errno == EAGAIN || errno == EINTR;
	w->start += (size_t)sent;
	return 1;
}

/* Until both directions have ended, or one broke. */
static void carry(int one, int other)
{
	static struct way ways[2];

	ways[0] = (struct way){ .from = one, .to = other };
	ways[1] = (struct way){ .from = other, .to = one };
	while (!ways[0].at_end || !ways[1].at_end) {
		struct pollfd wait[4];

		for (int i = 0; i < 2; i++) {
			int held = ways[i].start < ways[i].end;

			/* a descriptor below zero is passed over */
			wait[2 * i] = (struct pollfd){ .fd = held || ways[i].at_end ? -1 : ways[i].from, .events = POLLIN };
			wait[2 * i + 1] = (struct pollfd){ .fd = held ? ways[i].to : -1, .events = POLLOUT };
		}
		if (poll(wait, 4, -1) < 0 && errno != EINTR)
			return;
		for (int i = 0; i < 2; i++) {
			if (wait[2 * i].revents && !fill(&ways[i]))
				return;
			if (wait[2 * i + 1].revents && !drain(&ways[i]))
				return;
		}
	}
}

static void serve(int client, int port, pid_t parent)
{
	struct sockaddr_in target = loopback(port);
	int there;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	there = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (there >= 0 && connect(there, (struct sockaddr *)&target, sizeof target) == 0) {
		at_once(client);
		at_once(there);
		carry(client, there);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address;
	socklen_t size = sizeof address;
	int listener, one = 1, port, target, serving = 0;
	char line[32];
	int length;

	if (argc != 5 || (target = atoi(argv[4])) < 1 || target > 65535 || (port = atoi(argv[2])) < 0 || port > 65535) {
		fprintf(stderr, "usage: forward LABEL PORT NAMESPACE-PATH TARGET-PORT\n");
		return 2;
	}
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0)
		die("socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	address = loopback(port);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 128) != 0) {
		/* two sockets may be bound to a port as long as neither listens: then it is listen that fails */
		if (errno != EADDRINUSE)
			die("bind");
		close(listener);
		listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		address = loopback(0);
		if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 128) != 0)
			die("bind");
	}
	if (getsockname(listener, (struct sockaddr *)&address, &size) != 0)
		die("getsockname");
	if (enter_namespace(argv[3]) != 0)
		die(argv[3]);
	length = snprintf(line, sizeof line, "ready %d\n", ntohs(address.sin_port));
	if (write(1, line, (size_t)length) != length)
		return 1;
	for (;;) {
		pid_t parent = getpid(), child;
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		while (serving > 0 && waitpid(-1, NULL, serving < CONNECTIONS ? WNOHANG : 0) > 0)
			serving--;
		if (client < 0)
			continue;
		child = fork();
		if (child == 0) {
			close(listener);
			serve(client, target, parent);
		}
		if (child > 0)
			serving++;
		close(client);
	}
}
