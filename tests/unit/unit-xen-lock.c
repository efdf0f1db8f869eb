/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock on a guest's suspend event channel, against another process that
 * locks as libxenguest does.
 */
#include "config.h"

#include "resume/xen/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/unit-xen-lock.XXXXXX";
static char path[PATH_MAX];

/* 0: another process gets the lock; else the error it gets. */
static int tried_by_another(void)
{
	struct flock lock = { .l_type = F_WRLCK,
			      .l_whence = SEEK_SET,
			      .l_len = 1 };
	pid_t child = fork();
	int status;

	if (child == 0) {
		int fd = open(path, O_CREAT | O_RDWR, 0600);

		_exit(fd < 0 ? errno : fcntl(fd, F_SETLK, &lock) ? errno : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* A process that holds the lock until it is killed. */
static pid_t another_holds(void)
{
	int ends[2];
	pid_t child;
	char c;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		if (xen_suspend_lock(dir, 7) < 0 || write(ends[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &c, 1), 1);
	close(ends[0]);
	return child;
}

static void held_keeps_others_out(void **state)
{
	int fd = xen_suspend_lock(dir, 7);

	(void)state;
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_not_equal(tried_by_another(), 0);
	xen_suspend_unlock(dir, 7, fd);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(tried_by_another(), 0);
}

static void another_keeps_us_out_until_it_dies(void **state)
{
	pid_t child = another_holds();
	int fd;

	(void)state;
	assert_int_equal(xen_suspend_lock(dir, 7), -EBUSY);
	fd = xen_suspend_lock(dir, 8); /* another domain */
	assert_true(fd >= 0);
	xen_suspend_unlock(dir, 8, fd);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	/* Its file is still there, and nobody's. */
	assert_int_equal(access(path, F_OK), 0);
	fd = xen_suspend_lock(dir, 7);
	assert_true(fd >= 0);
	xen_suspend_unlock(dir, 7, fd);
}

static void no_folder_no_lock(void **state)
{
	(void)state;
	assert_int_equal(xen_suspend_lock("/nonexistent", 7), -ENOENT);
	xen_suspend_unlock("/nonexistent", 7, -1);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/suspend-evtchn-7.lock", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(held_keeps_others_out),
		cmocka_unit_test(another_keeps_us_out_until_it_dies),
		cmocka_unit_test(no_folder_no_lock),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
