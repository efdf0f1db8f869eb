/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes what comes out of a host into files, each line with its time.
 *
 *	stamp SOCKET=FILE...
 *
 * Listens on each Unix socket; QEMU connects when the host is switched on, and
 * what it has passed on outlives it.  A line gets this machine's wall clock in
 * seconds and microseconds when its end arrives, so the lines of all files of
 * all hosts are on one clock.  Files are appended to; SIGHUP makes each be
 * opened anew by its name (they were moved away).  Ends when all connections
 * have ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS = 8, LINE = 8192 };

struct stream {
	const char *path;
	int out, in;
	int connected;
	size_t used;
	char line[LINE];
};

static struct stream streams[STREAMS];
static volatile sig_atomic_t moved;

static void on_hangup(int number)
{
	(void)number;
	moved = 1;
}

static void listen_on(struct stream *s, char *spec)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char *equals = strchr(spec, '=');

	if (!equals || equals - spec >= (int)sizeof(at.sun_path)) {
		fprintf(stderr, "stamp: %s: not SOCKET=FILE\n", spec);
		exit(2);
	}
	memcpy(at.sun_path, spec, (size_t)(equals - spec));
	s->path = equals + 1;
	s->out = -1;
	s->in = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unlink(at.sun_path);
	if (s->in < 0 || bind(s->in, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(s->in, 1) < 0) {
		perror(spec);
		exit(1);
	}
}

static void write_line(struct stream *s, size_t length)
{
	struct timespec t;

	if (s->out < 0)
		s->out = open(s->path,
			      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (s->out < 0)
		return;
	while (length > 0 && s->line[length - 1] == '\r')
		length--;
	clock_gettime(CLOCK_REALTIME, &t);
	dprintf(s->out, "%ld.%06ld %.*s\n", (long)t.tv_sec, t.tv_nsec / 1000,
		(int)length, s->line);
}

static void write_lines(struct stream *s)
{
	char *end;

	while ((end = memchr(s->line, '\n', s->used))) {
		size_t length = (size_t)(end - s->line);

		write_line(s, length);
		s->used -= length + 1;
		memmove(s->line, end + 1, s->used);
	}
	if (s->used == LINE) {
		write_line(s, LINE);
		s->used = 0;
	}
}

static void accept_or_read(struct stream *s)
{
	ssize_t n;

	if (!s->connected) {
		int in = accept4(s->in, NULL, NULL, SOCK_CLOEXEC);

		if (in < 0)
			return;
		close(s->in);
		s->in = in;
		s->connected = 1;
		return;
	}
	n = read(s->in, s->line + s->used, LINE - s->used);
	if (n < 0 && errno == EINTR)
		return;
	if (n > 0) {
		s->used += (size_t)n;
		write_lines(s);
		return;
	}
	if (s->used > 0)
		write_line(s, s->used);
	close(s->in);
	s->in = -1;
}

static void open_anew(int count)
{
	moved = 0;
	for (int i = 0; i < count; i++) {
		if (streams[i].out >= 0)
			close(streams[i].out);
		streams[i].out = -1;
	}
}

int main(int argc, char **argv)
{
	struct sigaction hangup = { .sa_handler = on_hangup };
	int count = argc - 1, open_count = count;

	if (count < 1 || count > STREAMS) {
		fprintf(stderr, "usage: stamp SOCKET=FILE...\n");
		return 2;
	}
	sigaction(SIGHUP, &hangup, NULL);
	signal(SIGINT, SIG_IGN); /* the lab ends it by ending the host */
	for (int i = 0; i < count; i++)
		listen_on(&streams[i], argv[1 + i]);
	printf("ready\n");
	fclose(stdout);
	while (open_count > 0) {
		struct pollfd p[STREAMS];

		for (int i = 0; i < count; i++)
			p[i] = (struct pollfd){ .fd = streams[i].in,
						.events = POLLIN };
		if (poll(p, (nfds_t)count, -1) < 0 && errno != EINTR)
			return 1;
		if (moved) {
			open_anew(count);
			continue;
		}
		open_count = 0;
		for (int i = 0; i < count; i++) {
			if (p[i].revents)
				accept_or_read(&streams[i]);
			open_count += streams[i].in >= 0;
		}
	}
	return 0;
}
