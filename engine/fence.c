/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/fence.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

extern char **environ;

struct fence {
	struct loop *loop;
	struct loop_op exited;
	struct loop_timer timeout;
	pid_t pid;
	int pidfd;
	struct loop_call not_started;
	int err; /* not even started, out of time, or cancelled */
	void (*done)(void *arg, int err, const char *text);
	void *arg;
};

static void finish(struct fence *f, int err, const char *text)
{
	loop_timer_stop(f->loop, &f->timeout);
	if (f->pidfd >= 0)
		close(f->pidfd);
	f->done(f->arg, err, text);
	free(f);
}

static void not_started(void *arg)
{
	struct fence *f = arg;

	finish(f, f->err, strerror(-f->err));
}

static void timed_out(void *arg)
{
	struct fence *f = arg;

	if (f->err)
		return;
	f->err = -ETIMEDOUT;
	kill(-f->pid, SIGKILL);
}

static void exited(void *arg, int res)
{
	struct fence *f = arg;
	char text[80];
	int status = 0;

	(void)res;
	waitpid(f->pid, &status, 0);
	if (f->err)
		finish(f, f->err,
		       f->err == -ETIMEDOUT ? "it did not end in time"
					    : "it was cancelled");
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		finish(f, 0, NULL);
	else if (WIFEXITED(status)) {
		snprintf(text, sizeof(text), "exit status %d",
			 WEXITSTATUS(status));
		finish(f, -EIO, text);
	} else {
		snprintf(text, sizeof(text), "killed by signal %d",
			 WTERMSIG(status));
		finish(f, -EIO, text);
	}
}

static bool is_set_by(const char *variable, char *const *own, size_t count)
{
	size_t length = strcspn(variable, "=") + 1, i;

	for (i = 0; i < count; i++)
		if (strncmp(variable, own[i], length) == 0)
			return true;
	return false;
}

/*
 * Our environment with these variables instead of what it says of them.  The
 * caller frees the array, not the strings.
 */
static char **environment(char *const *own, size_t count)
{
	size_t n = 0, i;
	char **all;

	while (environ[n])
		n++;
	all = calloc(n + count + 1, sizeof(*all));
	if (!all)
		return NULL;
	memcpy(all, own, count * sizeof(*all));
	n = count;
	for (i = 0; environ[i]; i++)
		if (!is_set_by(environ[i], own, count))
			all[n++] = environ[i];
	return all;
}

static int spawn(struct fence *f, const struct fence_request *r)
{
	char domain[300], peer[400], role[40];
	char *const own[] = { domain, peer, role };
	char sh[] = "sh", dash_c[] = "-c";
	char *argv[] = { sh, dash_c, (char *)(uintptr_t)r->command, NULL };
	posix_spawnattr_t attr;
	sigset_t none, ignored;
	char **env;
	int err;

	snprintf(domain, sizeof(domain), "COLOD_DOMAIN=%s", r->domain);
	snprintf(peer, sizeof(peer), "COLOD_PEER=%s", r->peer);
	snprintf(role, sizeof(role), "COLOD_ROLE=%s", r->role);
	env = environment(own, sizeof(own) / sizeof(own[0]));
	if (!env)
		return -ENOMEM;
	sigemptyset(&none);
	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE); /* by us; its pipes rely on it */
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP |
						POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &ignored);
	err = posix_spawn(&f->pid, "/bin/sh", NULL, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	free(env);
	if (err)
		return -err;
	f->pidfd = (int)syscall(SYS_pidfd_open, f->pid, 0);
	return f->pidfd < 0 ? -errno : 0;
}

struct fence *fence_run(struct loop *loop, const struct fence_request *request,
			void (*done)(void *arg, int err, const char *text),
			void *arg)
{
	struct fence *f = memory_zeroed(sizeof(*f));

	if (!f)
		return NULL;
	f->loop = loop;
	f->pidfd = -1;
	f->done = done;
	f->arg = arg;
	f->exited.fn = exited;
	f->exited.arg = f;
	f->timeout.fn = timed_out;
	f->timeout.arg = f;
	log_info("%s: running the fence command against %s", request->domain,
		 request->peer);
	f->err = spawn(f, request);
	if (f->err) {
		loop_post_call(loop, &f->not_started, not_started, f);
		return f;
	}
	loop_poll(loop, &f->exited, f->pidfd, POLLIN);
	loop_timer_start(loop, &f->timeout,
			 clock_now_us() + request->timeout_us);
	return f;
}

void fence_cancel(struct fence *f)
{
	if (f->err)
		return; /* it has not started, or is being killed */
	f->err = -ECANCELED;
	kill(-f->pid, SIGKILL);
}
