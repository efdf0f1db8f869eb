/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `xl remus' has its stream carried by, in place of ssh: a TCP connection
 * without encryption, with buffers that do not slow it down.
 *
 *	relay listen PORT PROGRAM WORDS...	the connection becomes its input
 *						and output
 *	relay connect ADDRESS PORT		between it and our own
 *
 * Exit status 0 at an end on either side, 1 after an error.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char buffer[256 * 1024];

static int give_up(const char *what)
{
	perror(what);
	return 1;
}

static void at_once(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static int become(int port, char **words)
{
	struct sockaddr_in any = { .sin_family = AF_INET,
				   .sin_port = htons((uint16_t)port) };
	int one = 1, fd, ls = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (ls < 0 || bind(ls, (struct sockaddr *)&any, sizeof(any)) ||
	    listen(ls, 1))
		return give_up("listen");
	fd = accept(ls, NULL, NULL);
	if (fd < 0)
		return give_up("accept");
	at_once(fd);
	close(ls);
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	execvp(words[0], words);
	return give_up(words[0]);
}

/* What there is to read, all of it written; false at the end. */
static bool carry(int from, int to)
{
	ssize_t n = read(from, buffer, sizeof(buffer)), done = 0;

	while (done < n) {
		ssize_t m = write(to, buffer + done, (size_t)(n - done));

		if (m <= 0)
			return false;
		done += m;
	}
	return n > 0;
}

static int between(const char *address, int port)
{
	struct sockaddr_in there = { .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct pollfd p[] = { { .fd = STDIN_FILENO, .events = POLLIN },
			      { .fd = fd, .events = POLLIN } };

	if (inet_pton(AF_INET, address, &there.sin_addr) != 1 ||
	    connect(fd, (struct sockaddr *)&there, sizeof(there)))
		return give_up(address);
	at_once(fd);
	signal(SIGPIPE, SIG_IGN);
	while (poll(p, 2, -1) > 0) {
		if (p[0].revents && !carry(STDIN_FILENO, fd)) {
			shutdown(fd, SHUT_WR);
			p[0].fd = -1;
		}
		if (p[1].revents && !carry(fd, STDOUT_FILENO))
			return 0;
	}
	return 1;
}

int main(int argc, char **argv)
{
	if (argc > 3 && !strcmp(argv[1], "listen"))
		return become(atoi(argv[2]), argv + 3);
	if (argc == 4 && !strcmp(argv[1], "connect"))
		return between(argv[2], atoi(argv[3]));
	fprintf(stderr, "relay: what is to be done?\n");
	return 1;
}
