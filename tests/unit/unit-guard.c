/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard: it rescues when its parent dies, and only then.
 *
 * The guarded parent is a child of the test; the fake guest's rescue tells of
 * itself by bytes on a pipe, which the guard keeps as its `keep_fd`.
 */
#include "config.h"

#include "resume/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 20000, QUIET_MS = 200 };

static int told = -1; /* where the fake rescue writes to */
static int refusals;  /* how often it fails first */

static int fake_rescue(const char *words, const char *run_dir,
		       uint64_t patience_us)
{
	assert_string_equal(run_dir, "/run/of/colod");
	ssize_t n;

	(void)patience_us;
	if (refusals-- > 0)
		return -EIO;
	/* Proof of what it inherited: its name, its session, its signals. */
	n = write(told, strcmp(words, "guest") ? "W" : "R", 1);
	return n == 1 ? 0 : -EIO;
}

static const struct guest_source_ops fake_source = { .rescue = fake_rescue };
static const struct guest_kind fake = { .source = &fake_source };

struct pair {
	pid_t parent; /* of the guard */
	pid_t guard;
	int rescued; /* readable once rescue was called */
};

/* A process with a guard, that then does `act` and would wait for ever. */
static void start(struct pair *p, void (*act)(struct guard *))
{
	int told_ends[2], pid_ends[2];
	struct guard *g;
	pid_t pid;

	assert_int_equal(pipe(told_ends), 0);
	assert_int_equal(pipe(pid_ends), 0);
	p->parent = fork();
	assert_true(p->parent >= 0);
	if (p->parent == 0) {
		/* A test that fails must not leave it behind. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(told_ends[0]);
		told = told_ends[1];
		if (guard_start(&fake, "guest", "/run/of/colod", told, &g) < 0)
			_exit(1);
		close(told);
		pid = guard_pid(g);
		if (write(pid_ends[1], &pid, sizeof(pid)) != sizeof(pid))
			_exit(1);
		if (act)
			act(g);
		for (;;)
			pause();
	}
	close(told_ends[1]);
	close(pid_ends[1]);
	p->rescued = told_ends[0];
	assert_int_equal(read(pid_ends[0], &p->guard, sizeof(p->guard)),
			 sizeof(p->guard));
	close(pid_ends[0]);
}

static void stop_guard(struct guard *g)
{
	guard_stop(g);
	_exit(0);
}

/* 'R', 'W', 0 at the end of the pipe, -1 where nothing came in time. */
static int rescued(struct pair *p, int ms)
{
	struct pollfd fd = { .fd = p->rescued, .events = POLLIN };
	char c = 0;

	if (poll(&fd, 1, ms) <= 0)
		return -1;
	return read(p->rescued, &c, 1) == 1 ? c : 0;
}

static void finish(struct pair *p)
{
	kill(p->parent, SIGKILL);
	waitpid(p->parent, NULL, 0);
	close(p->rescued);
}

static void killed_parent_is_rescued(void **state)
{
	struct pair p;

	(void)state;
	start(&p, NULL);
	assert_int_equal(rescued(&p, QUIET_MS), -1);
	kill(p.parent, SIGKILL);
	assert_int_equal(rescued(&p, WAIT_MS), 'R');
	assert_int_equal(rescued(&p, WAIT_MS), 0);
	finish(&p);
}

static void orderly_stop_is_not_rescued(void **state)
{
	struct pair p;

	(void)state;
	start(&p, stop_guard);
	assert_int_equal(rescued(&p, WAIT_MS), 0);
	finish(&p);
}

static void failing_rescue_is_tried_again(void **state)
{
	struct pair p;

	(void)state;
	refusals = 3;
	start(&p, NULL);
	refusals = 0;
	kill(p.parent, SIGKILL);
	assert_int_equal(rescued(&p, WAIT_MS), 'R');
	finish(&p);
}

static bool is_called(pid_t pid, const char *name)
{
	char path[64], line[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	return strcmp(line, name) == 0;
}

/* It has its name last: from then on it is ready. */
static void is_ready(struct pair *p)
{
	int ms;

	for (ms = 0; !is_called(p->guard, "colod-guard\n"); ms++) {
		assert_in_range(ms, 0, WAIT_MS);
		poll(NULL, 0, 1);
	}
}

static void signals_do_not_end_it(void **state)
{
	struct pair p;

	(void)state;
	start(&p, NULL);
	/* Until then they would end it as they end any process. */
	is_ready(&p);
	kill(p.guard, SIGTERM);
	kill(p.guard, SIGINT);
	kill(p.guard, SIGHUP);
	assert_int_equal(rescued(&p, QUIET_MS), -1);
	kill(p.parent, SIGKILL);
	assert_int_equal(rescued(&p, WAIT_MS), 'R');
	finish(&p);
}

static void it_has_a_session_and_a_name_of_its_own(void **state)
{
	struct pair p;

	(void)state;
	start(&p, NULL);
	is_ready(&p);
	assert_int_equal(getsid(p.guard), p.guard);
	kill(p.parent, SIGKILL);
	assert_int_equal(rescued(&p, WAIT_MS), 'R');
	finish(&p);
}

/* Leaves the guard to a parent that holds this pipe's writing end too. */
static void other_descriptors_are_closed(void **state)
{
	struct pollfd fd = { .events = POLLIN };
	int ends[2];
	struct pair p;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	start(&p, NULL);
	close(ends[1]);
	kill(p.parent, SIGSTOP);
	assert_int_equal(rescued(&p, QUIET_MS), -1);
	/* Only the stopped parent holds it now: with it the last one goes. */
	fd.fd = ends[0];
	assert_int_equal(poll(&fd, 1, 0), 0);
	kill(p.parent, SIGKILL);
	waitpid(p.parent, NULL, 0);
	assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
	assert_true(fd.revents & POLLHUP);
	assert_int_equal(rescued(&p, WAIT_MS), 'R');
	close(ends[0]);
	finish(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_parent_is_rescued),
		cmocka_unit_test(orderly_stop_is_not_rescued),
		cmocka_unit_test(failing_rescue_is_tried_again),
		cmocka_unit_test(signals_do_not_end_it),
		cmocka_unit_test(it_has_a_session_and_a_name_of_its_own),
		cmocka_unit_test(other_descriptors_are_closed),
	};

	return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
