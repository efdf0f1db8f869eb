/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a shell script in a host's dom0, as ssh would.
 *
 *	call SECONDS SOCKET SCRIPT	the script's output and exit status
 *	call SECONDS SOCKET --clock	sets dom0's clock to this machine's
 *
 * SOCKET.0 to SOCKET.3 are the host's command ports; the first free one is
 * taken, so four calls may run at once and a fifth waits.  A host that is
 * still booting answers when its agent is up.  124: no answer in time; 255:
 * the host died or is off.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "call.h"

enum { STATUS_TIMEOUT = 124, STATUS_NO_HOST = 255 };

static uint64_t deadline_ms;

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int left_ms(void)
{
	uint64_t now = now_ms();

	if (now >= deadline_ms)
		exit(STATUS_TIMEOUT);
	return (int)(deadline_ms - now);
}

static void take_port(const char *base, char *path, size_t size)
{
	for (unsigned port = 0;; port = (port + 1) % CALL_PORTS) {
		int fd;

		snprintf(path, size, "%s.%u.lock", base, port);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			exit(STATUS_NO_HOST);
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			snprintf(path, size, "%s.%u", base, port);
			return; /* the lock lives as long as this process */
		}
		close(fd);
		if (port == CALL_PORTS - 1 && left_ms() > 0)
			usleep(5000);
	}
}

static int dial(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(to.sun_path))
		exit(STATUS_NO_HOST);
	strcpy(to.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		exit(STATUS_NO_HOST);
	return fd;
}

static void read_all(int fd, void *to, size_t bytes)
{
	char *at = to;

	while (bytes > 0) {
		struct pollfd in = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&in, 1, left_ms()) <= 0)
			continue;
		n = read(fd, at, bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			exit(STATUS_NO_HOST);
		at += n;
		bytes -= (size_t)n;
	}
}

static void write_all(int fd, const void *from, size_t bytes)
{
	const char *at = from;

	while (bytes > 0) {
		ssize_t n = send(fd, at, bytes, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			exit(STATUS_NO_HOST);
		at += n;
		bytes -= (size_t)n;
	}
}

static void ask(int fd, uint32_t id, const char *script)
{
	struct call_head head = { CALL_MAGIC, id, CALL_RUN, 0 };
	struct timespec t;
	uint64_t ns;

	if (strcmp(script, "--clock") == 0) {
		clock_gettime(CLOCK_REALTIME, &t);
		ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
		head.kind = CALL_CLOCK;
		head.bytes = sizeof(ns);
		write_all(fd, &head, sizeof(head));
		write_all(fd, &ns, sizeof(ns));
		return;
	}
	head.bytes = (uint32_t)strlen(script);
	write_all(fd, &head, sizeof(head));
	write_all(fd, script, head.bytes);
}

static int answer(int fd, uint32_t id)
{
	static char body[CALL_SCRIPT_MAX];

	for (;;) {
		struct call_head head;
		int status;

		read_all(fd, &head, sizeof(head));
		if (head.magic != CALL_MAGIC || head.bytes > sizeof(body)) {
			fprintf(stderr, "call: the agent speaks nonsense\n");
			exit(STATUS_NO_HOST);
		}
		read_all(fd, body, head.bytes);
		if (head.id != id)
			continue;
		if (head.kind == CALL_EXIT) {
			memcpy(&status, body, sizeof(status));
			return status;
		}
		fwrite(body, 1, head.bytes,
		       head.kind == CALL_ERR ? stderr : stdout);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	uint32_t id = (uint32_t)getpid() ^ (uint32_t)(now_ms() << 16);
	char path[256];
	int fd;

	if (argc != 4 || strlen(argv[3]) > CALL_SCRIPT_MAX) {
		fprintf(stderr, "usage: call SECONDS SOCKET SCRIPT\n");
		return 2;
	}
	deadline_ms = now_ms() + strtoull(argv[1], NULL, 10) * 1000;
	take_port(argv[2], path, sizeof(path));
	fd = dial(path);
	ask(fd, id, argv[3]);
	return answer(fd, id);
}
