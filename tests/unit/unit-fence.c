/* SPDX-License-Identifier: Apache-2.0 */
/* engine/fence.c: what the operator's command says, and how it is run. */
#include "config.h"

#include "engine/fence.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/engine-loop.h"

struct rig {
	struct loop *loop;
	char dir[32];
	unsigned int calls;
	int err;
	char text[128];
};

static int setup(void **state)
{
	static struct rig r;

	memset(&r, 0, sizeof(r));
	strcpy(r.dir, "/tmp/colod-XXXXXX");
	*state = &r;
	setenv("COLOD_TEST_DIR", mkdtemp(r.dir) ? r.dir : "", 1);
	return !r.dir[0] || loop_open(&r.loop);
}

static int teardown(void **state)
{
	struct rig *r = *state;
	char command[64];

	loop_close(r->loop);
	assert_int_equal(strncmp(r->dir, "/tmp/colod-", 11), 0);
	snprintf(command, sizeof(command), "rm -rf %s", r->dir);
	return system(command);
}

static void fenced(void *arg, int err, const char *text)
{
	struct rig *r = arg;

	r->calls++;
	r->err = err;
	snprintf(r->text, sizeof(r->text), "%s", text ? text : "");
	assert_null(strchr(r->text, '\n'));
}

static bool called(void *arg)
{
	return ((struct rig *)arg)->calls;
}

static void fence(struct rig *r, const char *command, uint64_t timeout_us)
{
	const struct fence_request request = {
		.command = command,
		.domain = "web",
		.peer = "alpha",
		.role = "secondary",
		.timeout_us = timeout_us,
	};

	fence_run(r->loop, &request, fenced, r);
	assert_int_equal(r->calls, 0); /* never from inside the call */
	loop_until(r->loop, called, r);
	loop_for(r->loop, 2000);
	assert_int_equal(r->calls, 1);
	/* Nobody is left for somebody else to wait for. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void test_success(void **state)
{
	struct rig *r = *state;

	fence(r, "exit 0", 5000 * 1000);
	assert_int_equal(r->err, 0);
	assert_string_equal(r->text, "");
}

static void test_failure(void **state)
{
	struct rig *r = *state;

	fence(r, "exit 3", 5000 * 1000);
	assert_int_equal(r->err, -EIO);
	assert_string_equal(r->text, "exit status 3");
}

static void test_no_such_command(void **state)
{
	struct rig *r = *state;

	fence(r, "/nonexistent/fence 2>/dev/null", 5000 * 1000);
	assert_int_equal(r->err, -EIO);
	assert_string_equal(r->text, "exit status 127");
}

static void test_killed(void **state)
{
	struct rig *r = *state;

	fence(r, "kill -9 $$", 5000 * 1000);
	assert_int_equal(r->err, -EIO);
	assert_string_equal(r->text, "killed by signal 9");
}

/* The children of the command go with it. */
static void test_timeout(void **state)
{
	struct rig *r = *state;
	uint64_t started = clock_now_us();
	char path[64];
	long pid = 0;
	FILE *f;

	fence(r, "sleep 30 & echo $! >$COLOD_TEST_DIR/pid; wait; exit 0",
	      1000 * 1000);
	assert_int_equal(r->err, -ETIMEDOUT);
	assert_string_equal(r->text, "it did not end in time");
	assert_true(clock_now_us() - started >= 1000 * 1000);
	assert_true(clock_now_us() - started < 25 * 1000 * 1000);
	snprintf(path, sizeof(path), "%s/pid", r->dir);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld", &pid), 1);
	fclose(f);
	assert_true(pid > 1);
	/* It may be a zombie yet, which is as good as gone. */
	snprintf(path, sizeof(path),
		 "grep -q '^State:.[^Z]' /proc/%ld/status 2>/dev/null", pid);
	assert_int_not_equal(system(path), 0);
}

static void test_cancel(void **state)
{
	const struct fence_request request = {
		.command = "sleep 30",
		.domain = "web",
		.peer = "alpha",
		.role = "primary",
		.timeout_us = 20 * 1000 * 1000,
	};
	struct rig *r = *state;
	struct fence *f = fence_run(r->loop, &request, fenced, r);

	loop_for(r->loop, 5000);
	fence_cancel(f);
	fence_cancel(f); /* once is enough */
	loop_until(r->loop, called, r);
	loop_for(r->loop, 2000);
	assert_int_equal(r->calls, 1);
	assert_int_equal(r->err, -ECANCELED);
	assert_string_equal(r->text, "it was cancelled");
}

static void test_environment(void **state)
{
	struct rig *r = *state;

	setenv("COLOD_PEER", "an older one", 1);
	setenv("COLOD_TEST_OURS", "kept", 1);
	fence(r,
	      "test \"$COLOD_DOMAIN $COLOD_PEER $COLOD_ROLE "
	      "$COLOD_TEST_OURS\" = 'web alpha secondary kept'",
	      5000 * 1000);
	unsetenv("COLOD_PEER");
	assert_int_equal(r->err, 0);
}

/* The daemon blocks the signals that its loop takes; the command must not. */
static void test_signals_are_not_blocked(void **state)
{
	struct rig *r = *state;
	sigset_t term, before;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &term, &before);
	fence(r, "kill -TERM $$; exit 0", 5000 * 1000);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	assert_string_equal(r->text, "killed by signal 15");
}

/* The daemon ignores SIGPIPE; a pipeline in the command relies on it. */
static void test_sigpipe_is_not_ignored(void **state)
{
	struct rig *r = *state;

	signal(SIGPIPE, SIG_IGN);
	fence(r, "kill -PIPE $$; exit 0", 5000 * 1000);
	signal(SIGPIPE, SIG_DFL);
	assert_string_equal(r->text, "killed by signal 13");
}

static void test_process_group_of_its_own(void **state)
{
	struct rig *r = *state;
	char command[96];

	snprintf(command, sizeof(command),
		 "test \"$(ps -o pgid= -p $$ | tr -d ' ')\" = $$ && test $$ != "
		 "%d",
		 (int)getpgrp());
	fence(r, command, 5000 * 1000);
	assert_int_equal(r->err, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_success),
		TEST(test_failure),
		TEST(test_no_such_command),
		TEST(test_killed),
		TEST(test_timeout),
		TEST(test_cancel),
		TEST(test_environment),
		TEST(test_signals_are_not_blocked),
		TEST(test_sigpipe_is_not_ignored),
		TEST(test_process_group_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
