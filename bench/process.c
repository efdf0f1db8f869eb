/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bench's processes: this program again, a program of the distribution, or
 * a helper for one measurement.
 *
 * Each is the leader of a process group, in which all that it starts stays (an
 * embedded guest does): so the whole of it can be ended, and a Ctrl-C of the
 * terminal reaches the bench alone, which then ends them in order.  Should the
 * bench be killed, the kernel tells them to end (PR_SET_PDEATHSIG): colod by
 * SIGTERM, which it obeys with all it has started, others by SIGKILL, since one
 * that stands still would take nothing else.
 */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

enum {
	LOOK_US = 10 * 1000,
	IN_ORDER_US = 10 * 1000 * 1000, /* after SIGTERM */
	KILLED_US = 5 * 1000 * 1000,	/* after SIGKILL */
	CHILD_FD = 3,
};

int bench_signals(struct bench *b)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &set, &b->signals_before);
	b->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return b->signal_fd < 0 ? -errno : 0;
}

/*
 * A signal that came since the last wait counts too.  After one they stay
 * blocked: a second Ctrl-C must not end what the first one began.
 */
void bench_signals_restore(struct bench *b)
{
	if (!b->interrupted)
		bench_wait(b, -1, 0);
	close(b->signal_fd);
	if (!b->interrupted)
		sigprocmask(SIG_SETMASK, &b->signals_before, NULL);
}

bool bench_wait(struct bench *b, int fd, uint64_t us)
{
	struct pollfd p[] = {
		{ .fd = b->signal_fd, .events = POLLIN },
		{ .fd = fd, .events = POLLIN },
	};
	struct signalfd_siginfo s;

	if (poll(p, 2, (int)((us + 999) / 1000)) <= 0)
		return false;
	if (p[0].revents && read(b->signal_fd, &s, sizeof(s)) == sizeof(s))
		b->interrupted = (int)s.ssi_signo;
	return p[1].revents != 0;
}

/* In the child, on its way to be something else. */
static void become(const struct bench *b, pid_t parent, int death_signal)
{
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, death_signal);
	if (getppid() != parent)
		_exit(1);
	close(b->signal_fd);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &b->signals_before, NULL);
}

/* A copy that is above all places that are filled below. */
static int above(int fd)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 64);
}

static int files(const struct bench_child *c)
{
	int log = open(c->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int none = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int in = above(c->in < 0 ? none : c->in);
	int out = above(c->out < 0 ? log : c->out);
	int err = above(log), fd = above(c->fd);

	if (in < 0 || out < 0 || err < 0)
		return -errno;
	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
	    dup2(err, STDERR_FILENO) < 0 || (fd >= 0 && dup2(fd, CHILD_FD) < 0))
		return -errno;
	return 0;
}

int bench_start(struct bench *b, const struct bench_child *child,
		struct bench_process *p)
{
	const char *path = child->program ? child->program : "/proc/self/exe";
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid) {
		become(b, parent, child->program ? SIGKILL : SIGTERM);
		bench_pin(child->cpu);
		if (!files(child))
			execv(path, (char *const *)(uintptr_t)child->words);
		_exit(127);
	}
	setpgid(pid, pid); /* whoever comes first */
	*p = (struct bench_process){ .pid = pid };
	return 0;
}

/* Ended, but not reaped: its number cannot be given to another group yet. */
bool bench_ended(struct bench_process *p)
{
	siginfo_t s = { 0 };

	if (!p->pid || p->ended)
		return p->ended;
	if (waitid(P_PID, (id_t)p->pid, &s, WEXITED | WNOHANG | WNOWAIT))
		p->ended = true;
	if (s.si_pid) {
		p->ended = true;
		p->killed_by = s.si_code == CLD_EXITED ? 0 : s.si_status;
	}
	return p->ended;
}

static void wait_ended(struct bench_process *p, uint64_t us)
{
	uint64_t until = clock_now_us() + us;

	while (!bench_ended(p) && clock_now_us() < until)
		clock_sleep_us(LOOK_US);
}

void bench_end(struct bench_process *p)
{
	uint64_t until;

	if (!p->pid)
		return;
	if (!bench_ended(p))
		kill(p->pid, SIGTERM);
	wait_ended(p, IN_ORDER_US);
	kill(-p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	/* What it started is reaped by others, soon. */
	until = clock_now_us() + KILLED_US;
	while (!kill(-p->pid, 0) && clock_now_us() < until)
		clock_sleep_us(LOOK_US);
	p->pid = 0;
}

int bench_call(struct bench *b, int (*fn)(void *arg, double *out), void *arg,
	       double *out, size_t count)
{
	const size_t bytes = count * sizeof(*out);
	struct bench_process p = { 0 };
	pid_t parent = getpid();
	int fds[2];
	ssize_t n;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	AUTO_FD int from = fds[0];

	p.pid = fork();
	if (!p.pid) {
		become(b, parent, SIGKILL);
		if (fn(arg, out) || write(fds[1], out, bytes) < 0)
			_exit(1);
		_exit(0);
	}
	close(fds[1]);
	if (p.pid < 0)
		return -EAGAIN;
	setpgid(p.pid, p.pid);
	while (!b->interrupted && !bench_wait(b, from, 1000 * 1000))
		;
	n = b->interrupted ? -1 : read(from, out, bytes);
	if (n != (ssize_t)bytes) {
		kill(p.pid, SIGKILL);
		wait_ended(&p, KILLED_US);
	}
	bench_end(&p);
	return b->interrupted ? -EINTR : n == (ssize_t)bytes ? 0 : -EIO;
}
