/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard process (see resume/guard.h).
 *
 * The happy path:
 *   - guard_start() forks; the child keeps one end of a socket pair;
 *   - guard_stop() writes one byte, the child reads it and leaves.
 * Failure: the parent dies, the socket ends without a byte, and the child calls
 * `rescue` until it succeeds or RESCUE_GIVE_UP_US has passed.
 *
 * The child uses nothing it inherited but the socket, stderr and `keep_fd`: the
 * rescue opens its own handles.  One thread, in both processes.
 */
#include "config.h"

#include "resume/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

/* A suspend that had been acknowledged may come this late. */
#define RESCUE_PATIENCE_US UINT64_C(60000000)
#define RESCUE_GIVE_UP_US UINT64_C(120000000)
#define RESCUE_RETRY_US UINT64_C(20000)

struct guard {
	pid_t pid;
	int fd; /* the parent's end */
};

/* Closes all but 0..2 and the two given; 0 and 1 become /dev/null. */
static void keep_only(int a, int b)
{
	unsigned int low = (unsigned int)(a < b ? a : b);
	unsigned int high = (unsigned int)(a < b ? b : a);
	int null = open("/dev/null", O_RDWR);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	if (b < 0)
		low = high = (unsigned int)a;
	if (low > 3)
		close_range(3, low - 1, 0);
	if (high > low + 1)
		close_range(low + 1, high - 1, 0);
	close_range(high + 1, ~0U, 0);
}

/* Best effort: without privilege the guard is weaker, not absent. */
static void harden(void)
{
	static const int ignored[] = { SIGHUP,	SIGINT,	 SIGTERM, SIGQUIT,
				       SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM };
	static const char score[] = "-1000";
	sigset_t none;
	AUTO_FD int fd = -1;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	prctl(PR_SET_NAME, "colod-guard");
	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		log_debug("guard: locking memory: %s", strerror(errno));
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, score, sizeof(score) - 1) < 0)
		log_debug("guard: oom_score_adj: %s", strerror(errno));
}

static int rescue_until(const struct guest_kind *kind, const char *words)
{
	uint64_t end_us = clock_now_us() + RESCUE_GIVE_UP_US;
	int rc;

	for (;;) {
		rc = kind->source->rescue(words, RESCUE_PATIENCE_US);
		if (rc == 0 || rc == -ENOENT || clock_now_us() >= end_us)
			return rc;
		clock_sleep_us(RESCUE_RETRY_US);
	}
}

static void guard_main(const struct guest_kind *kind, const char *words, int fd)
	__attribute__((noreturn));

static void guard_main(const struct guest_kind *kind, const char *words, int fd)
{
	ssize_t n;
	char byte;
	int rc;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		_exit(0);
	rc = rescue_until(kind, words);
	if (rc == 0)
		log_warn("guard: colod died; guest %s was seen to run on",
			 words);
	else if (rc == -ENOENT)
		log_warn("guard: colod died; there is no guest %s", words);
	else
		log_error("guard: colod died and guest %s may be stopped: %s;"
			  " start colod again or resume it by hand",
			  words, strerror(-rc));
	_exit(rc ? 1 : 0);
}

int guard_start(const struct guest_kind *kind, const char *words, int keep_fd,
		struct guard **out)
{
	AUTO_FREE struct guard *g = calloc(1, sizeof(*g));
	sigset_t all, old;
	int ends[2];
	int err;

	if (!g)
		return -ENOMEM;
	/* A socket, since send() can be told not to raise SIGPIPE. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	/* A signal to the whole group must find the child ready for it. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	g->pid = fork();
	err = errno;
	if (g->pid != 0)
		sigprocmask(SIG_SETMASK, &old, NULL);
	if (g->pid < 0) {
		close(ends[0]);
		close(ends[1]);
		return -err;
	}
	if (g->pid == 0) {
		keep_only(ends[0], keep_fd);
		harden();
		guard_main(kind, words, ends[0]);
	}
	close(ends[0]);
	g->fd = ends[1];
	*out = TAKE_PTR(g);
	return 0;
}

void guard_stop(struct guard *g)
{
	ssize_t n;

	if (!g)
		return;
	do
		n = send(g->fd, "q", 1, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	close(g->fd);
	while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(g);
}

pid_t guard_pid(const struct guard *g)
{
	return g->pid;
}
