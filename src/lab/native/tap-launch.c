/*
 * Starts a program with an open TAP device of another network namespace.
 *
 *   tap-launch NAMESPACE-PATH TAP-NAME FD -- PROGRAM ARGUMENT...
 *
 * The emulator needs both: a lab NIC on a bridge inside the lab's namespace, and its management ports on the loopback of the
 * machine. So only the TAP is opened over there; the program itself runs where it was started. The TAP must exist already.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "tap-launch: %s: %s\n", what, strerror(errno));
	exit(111);
}

int main(int argc, char **argv)
{
	struct ifreq ifr;
	int home, there, tap, wanted;

	if (argc < 6 || strcmp(argv[4], "--") != 0 || strlen(argv[2]) >= IFNAMSIZ) {
		fprintf(stderr, "usage: tap-launch NAMESPACE-PATH TAP-NAME FD -- PROGRAM ARGUMENT...\n");
		return 2;
	}
	wanted = atoi(argv[3]);
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	there = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (home < 0 || there < 0)
		die(argv[1]);
	if (setns(there, CLONE_NEWNET) != 0)
		die("setns");
	tap = open("/dev/net/tun", O_RDWR);
	if (tap < 0)
		die("/dev/net/tun");
	memset(&ifr, 0, sizeof ifr);
	strcpy(ifr.ifr_name, argv[2]);
	/* with the virtio header, checksums and segmentation are left undone between guest and kernel */
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	if (ioctl(tap, TUNSETIFF, &ifr) != 0)
		die(argv[2]);
	if (setns(home, CLONE_NEWNET) != 0)
		die("setns back");
	if (tap != wanted && (dup2(tap, wanted) < 0 || close(tap) != 0))
		die("dup2");
	execvp(argv[5], argv + 5);
	die(argv[5]);
}
