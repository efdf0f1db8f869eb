/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network cable between the two hosts.
 *
 *	wire FILE	writes two TCP ports of 127.0.0.1, for host a and b
 *
 * Each host's QEMU connects to its port (-netdev socket,connect=) and sends
 * Ethernet frames, each behind its length in four bytes of network order.  The
 * wire passes whole frames on.  SIGUSR1 cuts it: frames are lost in silence, as
 * when a cable is cut between two switches, and neither host sees its card go
 * down.  SIGUSR2 mends it.  Frames for a host that is off are lost too; a host
 * that is switched on again connects again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 1 << 19, FRAME_MAX = 70000 };

struct end {
	int listener, fd;
	size_t in_used, out_used;
	char in[BUFFER], out[BUFFER];
};

static struct end ends[2];
static volatile sig_atomic_t cut;

static void on_signal(int number)
{
	cut = number == SIGUSR1;
}

static uint16_t listen_anywhere(struct end *e)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t size = sizeof(at);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	e->fd = -1;
	e->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (e->listener < 0 ||
	    bind(e->listener, (struct sockaddr *)&at, size) < 0 ||
	    listen(e->listener, 1) < 0 ||
	    getsockname(e->listener, (struct sockaddr *)&at, &size) < 0) {
		perror("wire");
		exit(1);
	}
	return ntohs(at.sin_port);
}

static void unplug(struct end *e)
{
	close(e->fd);
	e->fd = -1;
	e->in_used = e->out_used = 0;
}

static void plug(struct end *e)
{
	int fd = accept4(e->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (e->fd >= 0)
		unplug(e);
	e->fd = fd;
}

/* Moves whole frames on, as many as the other end has room for. */
static void forward(struct end *from, struct end *to)
{
	size_t at = 0;

	while (from->in_used - at >= 4) {
		uint32_t length;
		size_t whole;

		memcpy(&length, from->in + at, 4);
		whole = 4 + (size_t)ntohl(length);
		if (whole > FRAME_MAX) {
			unplug(from);
			return;
		}
		if (from->in_used - at < whole)
			break;
		if (to->fd >= 0 && !cut) {
			if (to->out_used + whole > BUFFER)
				break;
			memcpy(to->out + to->out_used, from->in + at, whole);
			to->out_used += whole;
		}
		at += whole;
	}
	from->in_used -= at;
	memmove(from->in, from->in + at, from->in_used);
}

static void receive(struct end *e)
{
	ssize_t n = read(e->fd, e->in + e->in_used, BUFFER - e->in_used);

	if (n > 0)
		e->in_used += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		unplug(e);
}

static void transmit(struct end *e)
{
	ssize_t n = send(e->fd, e->out, e->out_used, MSG_NOSIGNAL);

	if (n > 0) {
		e->out_used -= (size_t)n;
		memmove(e->out, e->out + n, e->out_used);
	} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
		unplug(e);
	}
}

static void turn(void)
{
	struct pollfd p[4];

	for (int i = 0; i < 2; i++) {
		struct end *e = &ends[i];
		short events = 0;

		if (e->in_used < BUFFER)
			events |= POLLIN;
		if (e->out_used > 0)
			events |= POLLOUT;
		p[i] = (struct pollfd){ .fd = e->fd, .events = events };
		p[2 + i] =
			(struct pollfd){ .fd = e->listener, .events = POLLIN };
	}
	if (poll(p, 4, -1) < 0)
		return;
	for (int i = 0; i < 2; i++) {
		if (ends[i].fd >= 0 &&
		    p[i].revents & (POLLIN | POLLHUP | POLLERR))
			receive(&ends[i]);
		if (p[2 + i].revents)
			plug(&ends[i]);
	}
	for (int i = 0; i < 2; i++) {
		forward(&ends[i], &ends[!i]);
		if (ends[!i].fd >= 0 && ends[!i].out_used > 0)
			transmit(&ends[!i]);
	}
}

int main(int argc, char **argv)
{
	struct sigaction act = { .sa_handler = on_signal };
	unsigned a = listen_anywhere(&ends[0]), b = listen_anywhere(&ends[1]);
	FILE *ports;

	sigaction(SIGUSR1, &act, NULL);
	sigaction(SIGUSR2, &act, NULL);
	signal(SIGINT, SIG_IGN); /* the lab ends it */
	ports = argc == 2 ? fopen(argv[1], "we") : NULL;
	if (!ports || fprintf(ports, "%u %u\n", a, b) < 0 || fclose(ports)) {
		fprintf(stderr, "usage: wire FILE\n");
		return 2;
	}
	for (;;)
		turn();
}
