/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the scripts that `call` sends, in dom0; one process for each command
 * port, found by its name "call.N".
 *
 * A command whose caller goes away is killed with its process group, but not
 * what it started in a session of its own (setsid).  The end of a command is
 * the end of its shell, even where a child of it still holds the output.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "call.h"

/*
 * The driver reports hang-ups late: one seen just after a new caller's request
 * may still be the last caller's.
 */
enum { HANGUP_MS = 300, IDLE_US = 10000 };

struct command {
	pid_t pid;
	int pidfd, out, err;
};

static bool read_all(int port, void *to, size_t bytes)
{
	char *at = to;

	while (bytes > 0) {
		ssize_t n = read(port, at, bytes);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		if (n <= 0) {
			usleep(IDLE_US);
			continue;
		}
		at += n;
		bytes -= (size_t)n;
	}
	return true;
}

static void say(int port, uint32_t id, enum call_kind kind, const void *body,
		size_t bytes)
{
	struct call_head head = { CALL_MAGIC, id, kind, (uint32_t)bytes };
	char piece[sizeof(head) + 4096];
	size_t all = sizeof(head) + bytes, done = 0;

	memcpy(piece, &head, sizeof(head));
	memcpy(piece + sizeof(head), body, bytes);
	while (done < all) {
		ssize_t n = write(port, piece + done, all - done);

		if (n < 0 && errno != EINTR)
			return;
		if (n > 0)
			done += (size_t)n;
	}
}

/* Passes on what is there; false at the end of the pipe. */
static bool pass_on(int port, uint32_t id, enum call_kind kind, int from)
{
	char text[4096];
	ssize_t n = read(from, text, sizeof(text));

	if (n > 0)
		say(port, id, kind, text, (size_t)n);
	return n > 0 || (n < 0 && errno == EAGAIN);
}

static void child(const char *script, int out, int err)
{
	setsid();
	dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	execl("/bin/sh", "sh", "-c", script, (char *)NULL);
	_exit(127);
}

static bool start(struct command *c, const char *script)
{
	int out[2], err[2];

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		return false;
	c->pid = fork();
	if (c->pid == 0)
		child(script, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	c->out = out[0];
	c->err = err[0];
	fcntl(c->out, F_SETFL, O_NONBLOCK);
	fcntl(c->err, F_SETFL, O_NONBLOCK);
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	return c->pid > 0 && c->pidfd >= 0;
}

static int finish(struct command *c)
{
	int status = 0;

	waitpid(c->pid, &status, 0);
	close(c->pidfd);
	close(c->out);
	close(c->err);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status)
				   : WEXITSTATUS(status);
}

static int run(int port, uint32_t id, const char *script)
{
	struct command c;
	int hangup_ms = 0;

	if (!start(&c, script))
		return 126;
	for (;;) {
		struct pollfd p[] = {
			{ .fd = c.pidfd, .events = POLLIN },
			{ .fd = c.out, .events = POLLIN },
			{ .fd = c.err, .events = POLLIN },
			{ .fd = hangup_ms ? -1 : port, .events = 0 },
		};

		poll(p, 4, hangup_ms ? 20 : 1000);
		if (p[1].revents && !pass_on(port, id, CALL_OUT, c.out))
			c.out = (close(c.out), -1);
		if (p[2].revents && !pass_on(port, id, CALL_ERR, c.err))
			c.err = (close(c.err), -1);
		if (p[0].revents) {
			while (c.out >= 0 && poll(&p[1], 1, 0) > 0 &&
			       p[1].revents & POLLIN)
				pass_on(port, id, CALL_OUT, c.out);
			while (c.err >= 0 && poll(&p[2], 1, 0) > 0 &&
			       p[2].revents & POLLIN)
				pass_on(port, id, CALL_ERR, c.err);
			return finish(&c);
		}
		struct pollfd now = { .fd = port };
		poll(&now, 1, 0);
		hangup_ms = now.revents & POLLHUP ? hangup_ms + 20 : 0;
		if (hangup_ms > HANGUP_MS)
			kill(-c.pid, SIGKILL);
	}
}

static int set_clock(const char *body)
{
	struct timespec t;
	uint64_t ns;

	memcpy(&ns, body, sizeof(ns));
	t.tv_sec = (time_t)(ns / 1000000000);
	t.tv_nsec = (long)(ns % 1000000000);
	return clock_settime(CLOCK_REALTIME, &t) < 0;
}

static void serve(int port)
{
	static char body[CALL_SCRIPT_MAX + 1];

	for (;;) {
		struct call_head head;
		int status;

		if (!read_all(port, &head.magic, sizeof(head.magic)))
			return;
		if (head.magic != CALL_MAGIC)
			continue;
		if (!read_all(port, &head.id, sizeof(head) - 4) ||
		    head.bytes > CALL_SCRIPT_MAX ||
		    !read_all(port, body, head.bytes))
			return;
		body[head.bytes] = '\0';
		if (head.kind == CALL_CLOCK)
			status = set_clock(body);
		else
			status = run(port, head.id, body);
		say(port, head.id, CALL_EXIT, &status, sizeof(status));
	}
}

int main(void)
{
	static const char class[] = "/sys/class/virtio-ports";
	DIR *dir = opendir(class);
	struct dirent *d;

	signal(SIGPIPE, SIG_IGN);
	while (dir && (d = readdir(dir))) {
		char path[512], name[64] = "";
		FILE *f;
		int port;

		snprintf(path, sizeof(path), "%s/%s/name", class, d->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (!fgets(name, sizeof(name), f))
			name[0] = '\0';
		fclose(f);
		if (strncmp(name, "call.", 5) != 0 || fork() != 0)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", d->d_name);
		port = open(path, O_RDWR | O_CLOEXEC);
		if (port >= 0)
			serve(port);
		perror(path);
		return 1;
	}
	while (wait(NULL) > 0)
		;
	return 0;
}
