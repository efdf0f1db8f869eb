/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of servers in a protected guest: what has been confirmed to one must
 * still be there after a takeover, and its connection as well.
 *
 *	clients redis NAME ADDRESS PORT		over one TCP connection
 *	clients udp NAME ADDRESS PORT
 *	clients serve-udp PORT			in the guest
 *
 * A client sends the next number when the last one was confirmed, so of what
 * it has sent one number at most is not confirmed.
 *
 * Redis is told "SET k<NAME> n".  On SIGUSR1 the client asks on a second
 * connection what k<NAME> is: the number last confirmed, or the one sent since.
 * The first connection is never made anew.
 *
 * A datagram is repeated until its answer comes.  Each says what its sender
 * knows to be confirmed, and the answer what the server had before: it is a
 * check by itself.
 *
 * Every second a line:
 *
 *	clients NAME sent=.. confirmed=.. asked=.. wait_ms=..
 *
 * wait_ms is how long a confirmation took at most.  "clients NAME ERROR ..." is
 * a violation, after which the client ends with status 1.  One thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	REPORT_US = 1000000,
	/* For a datagram's answer, which waits for its epoch. */
	REPEAT_US = 1000000,
	/* Without a gate a confirmation comes at once. */
	REST_US = 20000,
	/* Between two attempts to reach a server for the first time. */
	RETRY_US = 500000,
	/* A second connection and each of its answers, on a slow host. */
	ASK_S = 120,
	LINE = 128,
};

struct client {
	const char *name;
	struct sockaddr_storage server;
	socklen_t server_size;
	uint64_t sent, confirmed, asked;
	uint64_t sent_us, waited_us, reported_us;
};

static volatile sig_atomic_t told_to_ask;

static void on_user1(int number)
{
	(void)number;
	told_to_ask = 1;
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void report(struct client *c)
{
	uint64_t now = now_us();

	if (now - c->reported_us < REPORT_US)
		return;
	c->reported_us = now;
	printf("clients %s sent=%lu confirmed=%lu asked=%lu wait_ms=%lu\n",
	       c->name, c->sent, c->confirmed, c->asked, c->waited_us / 1000);
}

__attribute__((format(printf, 2, 3), noreturn)) static void
violated(const struct client *c, const char *format, ...)
{
	va_list args;

	printf("clients %s ERROR ", c->name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(", sent=%lu confirmed=%lu\n", c->sent, c->confirmed);
	exit(1);
}

static void next(struct client *c)
{
	usleep(REST_US);
	c->sent = c->confirmed + 1;
	c->sent_us = now_us();
}

static void confirm(struct client *c)
{
	uint64_t us = now_us() - c->sent_us;

	if (us > c->waited_us)
		c->waited_us = us;
	c->confirmed = c->sent;
}

/* The server said so at a moment since `confirmed` was the number confirmed. */
static void check(struct client *c, const char *what, uint64_t has,
		  uint64_t confirmed)
{
	if (has < confirmed || has > c->sent)
		violated(c, "%s has %lu, and %lu was confirmed", what, has,
			 confirmed);
	c->asked++;
}

static void find_server(struct client *c, const char *address, const char *port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&c->server;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&c->server;
	uint16_t number = htons((uint16_t)atoi(port));

	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = number;
		c->server_size = sizeof(*v4);
	} else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = number;
		c->server_size = sizeof(*v6);
	} else {
		fprintf(stderr, "clients: %s is no address\n", address);
		exit(2);
	}
}

/* --- redis -----------------------------------------------------------------
 */

static int try_connect(const struct client *c)
{
	int fd = socket(c->server.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (const struct sockaddr *)&c->server, c->server_size)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void say(const struct client *c, int fd, const char *line)
{
	size_t size = strlen(line);

	if (send(fd, line, size, MSG_NOSIGNAL) != (ssize_t)size)
		violated(c, "the connection is lost (send: %s)",
			 strerror(errno));
}

/* Its next line, without its end.  False: none within that time. */
static int hear(const struct client *c, int fd, char *line, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t used = 0;
	ssize_t n;

	if (poll(&p, 1, ms) != 1)
		return 0;
	/* Lines come whole, or nearly; and no byte of the next one is taken. */
	while (used < LINE - 1) {
		n = recv(fd, line + used, 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			violated(c, "the connection is lost (%s)",
				 n ? strerror(errno) : "it was ended");
		if (line[used] == '\n')
			break;
		used++;
	}
	while (used && line[used - 1] == '\r')
		used--;
	line[used] = '\0';
	return 1;
}

static void must_hear(const struct client *c, int fd, char *line)
{
	for (uint64_t end = now_us() + (uint64_t)ASK_S * 1000000;
	     now_us() < end;)
		if (hear(c, fd, line, 1000))
			return;
	violated(c, "no answer on a second connection");
}

/* A host that cannot be reached for a while is no violation, here neither. */
static int second_connection(const struct client *c)
{
	uint64_t end = now_us() + (uint64_t)ASK_S * 1000000;
	int fd;

	while ((fd = try_connect(c)) < 0) {
		if (now_us() > end)
			violated(c, "no second connection: %s",
				 strerror(errno));
		usleep(RETRY_US);
	}
	return fd;
}

/*
 * The number that is on its way meanwhile may reach the server before the
 * question or after it.
 */
static void ask_if_told(struct client *c)
{
	uint64_t confirmed = c->confirmed, has = 0;
	char line[LINE];
	int fd;

	if (!told_to_ask)
		return;
	told_to_ask = 0;
	fd = second_connection(c);
	snprintf(line, sizeof(line), "GET k%s\r\n", c->name);
	say(c, fd, line);
	must_hear(c, fd, line);
	if (line[0] != '$')
		violated(c, "the server answers \"%s\"", line);
	/* "$3" and then "123", or "$-1": nothing. */
	if (line[1] != '-') {
		must_hear(c, fd, line);
		has = strtoul(line, NULL, 10);
	}
	close(fd);
	check(c, "the server", has, confirmed);
}

static void redis(struct client *c)
{
	char line[LINE];
	int fd;

	while ((fd = try_connect(c)) < 0)
		usleep(RETRY_US);
	for (;;) {
		next(c);
		snprintf(line, sizeof(line), "SET k%s %lu\r\n", c->name,
			 c->sent);
		say(c, fd, line);
		do {
			report(c);
			ask_if_told(c);
		} while (!hear(c, fd, line, 100));
		if (strcmp(line, "+OK") != 0)
			violated(c, "the server answers \"%s\"", line);
		confirm(c);
	}
}

/* --- datagrams -------------------------------------------------------------
 */

struct datagram {
	uint64_t run; /* of a client */
	uint64_t number;
	uint64_t confirmed; /* as of when it was sent, and so in its answer */
	uint64_t had;	    /* answers: what the server had before it */
};

static int serve_udp(const char *port)
{
	struct sockaddr_in6 here = { .sin6_family = AF_INET6 }, from;
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), no = 0;
	uint64_t run = 0, highest = 0;
	struct datagram d;
	socklen_t size;

	here.sin6_port = htons((uint16_t)atoi(port));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	if (bind(fd, (const struct sockaddr *)&here, sizeof(here))) {
		perror("clients: bind");
		return 1;
	}
	for (;;) {
		size = sizeof(from);
		if (recvfrom(fd, &d, sizeof(d), 0, (struct sockaddr *)&from,
			     &size) != sizeof(d))
			continue;
		if (d.run != run) {
			run = d.run;
			highest = 0;
		}
		d.had = highest;
		if (d.number > highest)
			highest = d.number;
		d.number = highest;
		sendto(fd, &d, sizeof(d), 0, (struct sockaddr *)&from, size);
	}
}

/* True: the number sent is confirmed.  An answer may be a late one's. */
static int take_answer(struct client *c, int fd, uint64_t run)
{
	struct datagram d;

	if (recv(fd, &d, sizeof(d), MSG_DONTWAIT) != sizeof(d) || d.run != run)
		return 0;
	check(c, "before it was told anew, the server", d.had, d.confirmed);
	if (d.number > c->sent)
		violated(c, "the server has %lu, which was never sent",
			 d.number);
	return d.number == c->sent;
}

/* A host that cannot be reached for a while is no violation. */
static void udp(struct client *c)
{
	int fd = socket(c->server.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t run = now_us(), repeat_us;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct datagram d;

	for (;;) {
		next(c);
		repeat_us = 0;
		do {
			if (now_us() >= repeat_us) {
				d = (struct datagram){ .run = run,
						       .number = c->sent,
						       .confirmed =
							       c->confirmed };
				sendto(fd, &d, sizeof(d), 0,
				       (const struct sockaddr *)&c->server,
				       c->server_size);
				repeat_us = now_us() + REPEAT_US;
			}
			report(c);
		} while (poll(&p, 1, 100) != 1 || !take_answer(c, fd, run));
		confirm(c);
	}
}

int main(int argc, char **argv)
{
	struct sigaction asked = { .sa_handler = on_user1,
				   .sa_flags = SA_RESTART };
	struct client c = { .reported_us = now_us() };

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGUSR1, &asked, NULL);
	if (argc == 3 && !strcmp(argv[1], "serve-udp"))
		return serve_udp(argv[2]);
	if (argc == 5 && !strcmp(argv[1], "redis")) {
		c.name = argv[2];
		find_server(&c, argv[3], argv[4]);
		redis(&c);
	} else if (argc == 5 && !strcmp(argv[1], "udp")) {
		c.name = argv[2];
		find_server(&c, argv[3], argv[4]);
		udp(&c);
	}
	fprintf(stderr, "usage: clients redis|udp NAME ADDRESS PORT | "
			"serve-udp PORT\n");
	return 2;
}
