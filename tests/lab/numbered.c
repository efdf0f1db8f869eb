/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The witness for the network: numbered datagrams, of which any may be lost and
 * none may come out of the past.
 *
 *	numbered send ADDRESS PORT MS	one every MS milliseconds, for ever
 *	numbered receive PORT		in the guest: counts them, sends back
 *
 * A datagram is its sender's run and a number.  The receiver knows the highest
 * number in its memory, so a failover takes that back too, and then newer ones
 * follow: `late' counts those not higher than one seen before, in any life.
 * Each side prints a line a second:
 *
 *	net line=.. seen=.. missing=.. late=.. last=..
 *	net sent=.. back=..
 *
 * A network that is not there for a while ends neither.  One thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	REPORT_US = 1000000,
	/* Large enough that a reconnect has buffers to lose. */
	BYTES = 704,
};

struct datagram {
	uint64_t run, number;
	uint8_t filling[BYTES - 16];
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int receive(const struct sockaddr_in *here, int fd)
{
	uint64_t seen = 0, missing = 0, late = 0, last = 0, run = 0, line = 0;
	uint64_t reported_us = now_us(), now;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct sockaddr_in from;
	struct datagram d;
	socklen_t size;

	if (bind(fd, (const struct sockaddr *)here, sizeof(*here)))
		return -errno;
	for (;;) {
		now = now_us();
		if (now - reported_us >= REPORT_US) {
			reported_us = now;
			printf("net line=%lu seen=%lu missing=%lu late=%lu "
			       "last=%lu\n",
			       ++line, seen, missing, late, last);
		}
		size = sizeof(from);
		if (poll(&p, 1, 200) != 1 ||
		    recvfrom(fd, &d, sizeof(d), 0, (struct sockaddr *)&from,
			     &size) != sizeof(d))
			continue;
		seen++;
		if (d.run != run) { /* a sender that was started anew */
			run = d.run;
			last = d.number - 1;
		}
		if (d.number <= last)
			late++;
		else
			missing += d.number - last - 1;
		if (d.number > last)
			last = d.number;
		sendto(fd, &d, sizeof(d), 0, (struct sockaddr *)&from, size);
	}
}

static void send_all(const struct sockaddr_in *to, int fd, int pause_ms)
{
	struct datagram d = { .run = now_us() }, answer;
	uint64_t back = 0, reported_us = now_us(), next_us = reported_us, now;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	for (;;) {
		now = now_us();
		if (now >= next_us) {
			d.number++;
			sendto(fd, &d, sizeof(d), 0,
			       (const struct sockaddr *)to, sizeof(*to));
			next_us = now + (uint64_t)pause_ms * 1000;
		}
		if (now - reported_us >= REPORT_US) {
			reported_us = now;
			printf("net sent=%lu back=%lu\n", d.number, back);
		}
		if (poll(&p, 1, (int)((next_us - now) / 1000) + 1) == 1 &&
		    recv(fd, &answer, sizeof(answer), 0) == sizeof(answer))
			back++;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 5 && !strcmp(argv[1], "send") &&
	    inet_aton(argv[2], &a.sin_addr) && atoi(argv[4]) > 0) {
		a.sin_port = htons((uint16_t)atoi(argv[3]));
		send_all(&a, fd, atoi(argv[4]));
	} else if (argc == 3 && !strcmp(argv[1], "receive")) {
		a.sin_port = htons((uint16_t)atoi(argv[2]));
		rc = receive(&a, fd);
	} else {
		fprintf(stderr, "usage: numbered send ADDRESS PORT MS | "
				"receive PORT\n");
		return 2;
	}
	fprintf(stderr, "numbered: %s\n", strerror(-rc));
	return 1;
}
