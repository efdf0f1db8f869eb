/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard process (see resume/guard.h).
 *
 * The happy path:
 *   - guard_start() forks; the child keeps one end of a socket pair;
 *   - each checkpoint is an order with its limit, and one that takes it back;
 *   - guard_stop() orders the child to leave.
 * Failure: the parent dies, or is killed at the end of a limit; the socket ends
 * without a farewell, and the child calls `rescue` until it succeeds or
 * RESCUE_GIVE_UP_US has passed.
 *
 * The child uses nothing it inherited but the socket, stderr and `keep_fd`: the
 * rescue opens its own handles.  One thread, in both processes.
 */
#include "config.h"

#include "resume/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
#include "base/fault.h"
#include "base/log.h"

/* A suspend that had been acknowledged may come this late. */
#define RESCUE_PATIENCE_US UINT64_C(60000000)
#define RESCUE_GIVE_UP_US UINT64_C(120000000)
#define RESCUE_RETRY_US UINT64_C(20000)

/* Between a SIGKILL and the end of a process that is inside of a hypercall. */
#define DEATH_US UINT64_C(10000000)

/* One message of the socket: a limit in microseconds, or one of these. */
enum { ORDER_REST = 0 };
#define ORDER_LEAVE UINT64_MAX

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

static int rescue_until(const struct guest_kind *kind, const char *words,
			const char *run_dir)
{
	uint64_t end_us = clock_now_us() + RESCUE_GIVE_UP_US;
	int rc;

	for (;;) {
		rc = kind->source->rescue(words, run_dir, RESCUE_PATIENCE_US);
		if (rc == 0 || rc == -ENOENT || clock_now_us() >= end_us)
			return rc;
		clock_sleep_us(RESCUE_RETRY_US);
	}
}

/* False when the end (0: none) has come first. */
static bool readable_until(int fd, uint64_t end_us)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now_us;
	int n, ms = -1;

	do {
		now_us = clock_now_us();
		if (end_us)
			ms = now_us < end_us
				     ? (int)((end_us - now_us) / 1000 + 1)
				     : 0;
		n = poll(&p, 1, ms);
	} while (n < 0 && errno == EINTR);
	return n != 0;
}

/* False when the parent is gone. */
static bool next_order(int fd, uint64_t *what)
{
	ssize_t n;

	do
		n = recv(fd, what, sizeof(*what), 0);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*what);
}

/* Until the parent takes leave (true) or is gone. */
static bool obey(const char *words, pid_t parent, int fd)
{
	uint64_t what, end_us = 0;

	for (;;) {
		if (!readable_until(fd, end_us))
			break;
		if (!next_order(fd, &what))
			return false;
		if (what == ORDER_LEAVE)
			return true;
		end_us = what == ORDER_REST ? 0 : clock_now_us() + what;
	}
	log_error("guard: colod hangs in a checkpoint of %s: killing it so that"
		  " the guest runs on",
		  words);
	/* Not one that is gone, whose number another may have by now. */
	if (getppid() == parent)
		kill(parent, SIGKILL);
	end_us = clock_now_us() + DEATH_US;
	while (readable_until(fd, end_us) && next_order(fd, &what))
		;
	return false;
}

static void guard_main(const struct guest_kind *kind, const char *words,
		       const char *run_dir, pid_t parent, int fd)
	__attribute__((noreturn));

static void guard_main(const struct guest_kind *kind, const char *words,
		       const char *run_dir, pid_t parent, int fd)
{
	int rc;

	if (obey(words, parent, fd))
		_exit(0);
	rc = rescue_until(kind, words, run_dir);
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

int guard_start(const struct guest_kind *kind, const char *words,
		const char *run_dir, int keep_fd, struct guard **out)
{
	AUTO_FREE struct guard *g = calloc(1, sizeof(*g));
	const pid_t parent = getpid();
	sigset_t all, old;
	int ends[2];
	int err;

	if (!g)
		return -ENOMEM;
	/* A socket, since send() can be told not to raise SIGPIPE. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
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
		fault_fini();
		keep_only(ends[0], keep_fd);
		harden();
		guard_main(kind, words, run_dir, parent, ends[0]);
	}
	close(ends[0]);
	g->fd = ends[1];
	*out = TAKE_PTR(g);
	return 0;
}

/* To a guard that is stopped nothing is said: it could do nothing. */
static void order(struct guard *g, uint64_t what)
{
	ssize_t n;

	do
		n = send(g->fd, &what, sizeof(what),
			 MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
}

void guard_watch(struct guard *g, uint64_t limit_us)
{
	order(g, limit_us);
}

void guard_rest(struct guard *g)
{
	order(g, ORDER_REST);
}

void guard_stop(struct guard *g)
{
	if (!g)
		return;
	order(g, ORDER_LEAVE);
	close(g->fd);
	while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(g);
}

pid_t guard_pid(const struct guard *g)
{
	return g->pid;
}
