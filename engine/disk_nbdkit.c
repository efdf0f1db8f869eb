/* SPDX-License-Identifier: Apache-2.0 */
/* The nbdkit of a disk that is served (see disk_serve.h): its life and death.
 */
#include "config.h"

#include "engine/disk_served.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bounds.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

enum {
	/* One that has lived so long is started again at once. */
	LIVED_US = 5 * 1000 * 1000,
	BACK_OFF_MIN_MS = 100,
	BACK_OFF_MAX_MS = 5000,
	/* For a killed one to be gone. */
	KILLED_US = 10 * 1000 * 1000,
	STRANGER_US = 500 * 1000,
	HOLDER_TRY_US = 20 * 1000,
	NO_NBDKIT = 127, /* its exit status where it cannot be run */
};

static void run_nbdkit(const struct served *d)
{
	char disk_dir[PATH_MAX + 16], run_dir[PATH_MAX + 16];
	char name[DISK_NAME_MAX + 16];
	sigset_t set;

	served_sign(d);
	/* A terminal's interrupt is not for it, nor is anybody's SIGTERM. */
	setpgid(0, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_SETMASK, &set, NULL);
	snprintf(disk_dir, sizeof(disk_dir), "disk-dir=%s", d->disk_dir);
	snprintf(run_dir, sizeof(run_dir), "run-dir=%s", d->run_dir);
	snprintf(name, sizeof(name), "name=%s", d->name);
	execlp("nbdkit", "nbdkit", "-f", "-U", d->nbd_path, d->plugin, disk_dir,
	       run_dir, name, (char *)NULL);
	_exit(NO_NBDKIT);
}

void served_start(struct served *d)
{
	pid_t pid;

	/* Those of one that was killed. */
	unlink(d->nbd_path);
	unlink(d->control_path);
	d->started_us = clock_now_us();
	d->warned = d->dying = false;
	pid = fork();
	if (pid == 0)
		run_nbdkit(d);
	if (pid > 0) {
		d->pid = pid;
		return;
	}
	served_complain(d, "no process for nbdkit: %s", strerror(errno));
	d->ended_us = d->started_us;
	d->back_off_ms = BACK_OFF_MAX_MS;
}

void served_disconnect(struct served *d)
{
	d->connected = false;
	cleanup_fd(&d->connection);
	d->connection = -1;
}

static const char *how(int status, char text[32])
{
	if (WIFSIGNALED(status))
		snprintf(text, 32, "by signal %d", WTERMSIG(status));
	else
		snprintf(text, 32, "with status %d", WEXITSTATUS(status));
	return text;
}

void served_ended(struct served *d, int status)
{
	bool lived = clock_now_us() - d->started_us > LIVED_US;
	char text[32];

	d->pid = 0;
	d->ended_us = clock_now_us();
	served_disconnect(d);
	d->back_off_ms =
		lived ? 0
		      : at_most(at_least(d->back_off_ms * 2, BACK_OFF_MIN_MS),
				BACK_OFF_MAX_MS);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_NBDKIT)
		served_complain(d, "cannot run nbdkit: install it");
	else if (!d->told)
		served_complain(d, "nbdkit ended %s", how(status, text));
	else if (!d->ending)
		log_warn("disk %s: nbdkit ended %s; starting it again", d->name,
			 how(status, text));
}

void served_stop(struct served *d, int signal)
{
	int status;

	if (!d->pid)
		return;
	kill(d->pid, signal);
	while (waitpid(d->pid, &status, 0) < 0 && errno == EINTR)
		;
	d->pid = 0;
}

int served_kill_left(struct served *d)
{
	pid_t left = served_left(d);
	uint64_t until_us = clock_now_us() + (left ? KILLED_US : STRANGER_US);

	if (left) {
		log_warn("disk %s: killing process %d, the nbdkit of one that "
			 "was killed",
			 d->name, (int)left);
		kill(left, SIGKILL);
	}
	while (disk_meta_held(d->meta, DISK_HOLDER_SERVER) == 1) {
		if (clock_now_us() >= until_us) {
			served_complain(d, "another process serves it, with "
					   "another --run-dir or by hand");
			return -EBUSY;
		}
		clock_sleep_us(HOLDER_TRY_US);
	}
	return 0;
}
