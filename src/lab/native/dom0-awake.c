/*
 * Run in dom0 right after a snapshot was restored: the clock and the random pool are those of the moment the snapshot was taken.
 * Argument: the time in microseconds since 1970. Standard input: at least 32 fresh random bytes, mixed in and credited, after which
 * the kernel is told to take a new key at once.
 */
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct {
		struct rand_pool_info info;
		unsigned char bytes[64];
	} seed;
	struct timeval now;
	long long micros;
	ssize_t got;
	int fd;

	if (argc != 2 || (micros = atoll(argv[1])) <= 0) {
		fprintf(stderr, "usage: awake MICROSECONDS-SINCE-1970 < RANDOM-BYTES\n");
		return 2;
	}
	now.tv_sec = micros / 1000000;
	now.tv_usec = micros % 1000000;
	if (settimeofday(&now, NULL) != 0) {
		perror("settimeofday");
		return 1;
	}
	got = read(0, seed.info.buf, sizeof seed.bytes);
	fd = open("/dev/urandom", O_RDWR);
	if (got < 32 || fd < 0) {
		fprintf(stderr, "awake: no random bytes\n");
		return 1;
	}
	seed.info.buf_size = (int)got;
	seed.info.entropy_count = (int)got * 8;
	if (ioctl(fd, RNDADDENTROPY, &seed.info) != 0 || ioctl(fd, RNDRESEEDCRNG) != 0) {
		perror("reseed");
		return 1;
	}
	return 0;
}
