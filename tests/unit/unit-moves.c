/* SPDX-License-Identifier: Apache-2.0 */
/* engine/moves.c, and the invariants that abort: each in a child process. */
#include "config.h"

#include "engine/moves.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/epochs.h"

enum { RED, GREEN, BLUE, COLOURS };

static const char *const names[] = { "red", "green", "blue" };
static const uint32_t allowed[COLOURS] = {
	[RED] = MOVE_TO(GREEN) | MOVE_TO(BLUE),
	[GREEN] = MOVE_TO(RED),
};
static const struct move_table table = {
	.machine = "light",
	.names = names,
	.allowed = allowed,
	.states = COLOURS,
	.level = LOG_LEVEL_INFO,
};

static char said[16384]; /* by the child before */

/* True where run() aborts; what it logs is in `said`. */
static bool aborts(void (*run)(void))
{
	int log = memfd_create("log", MFD_CLOEXEC), status;
	ssize_t n;
	pid_t pid = fork();

	assert_true(log >= 0 && pid >= 0);
	if (!pid) {
		const struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL); /* cmocka would catch it */
		dup2(log, STDERR_FILENO);
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	n = pread(log, said, sizeof(said) - 1, 0);
	said[n > 0 ? n : 0] = '\0';
	close(log);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void disallowed(void)
{
	unsigned int state = RED;

	move(&table, &state, GREEN, "north", "go");
	move(&table, &state, BLUE, "north", "why not");
}

static void test_disallowed_move_aborts(void **state)
{
	(void)state;
	assert_true(aborts(disallowed));
	assert_non_null(strstr(said, "broken invariant: light north: green -> "
				     "blue (why not)"));
	/* The trace tells how it came to that. */
	assert_non_null(strstr(said, "before: light north: red -> green (go)"));
}

static void out_of_range(void)
{
	unsigned int state = RED;

	move(&table, &state, COLOURS, "north", "%s", "");
}

static void from_out_of_range(void)
{
	unsigned int state = COLOURS + 7;

	move(&table, &state, RED, "north", "%s", "");
}

static void test_unknown_states_abort(void **state)
{
	(void)state;
	assert_true(aborts(out_of_range));
	assert_true(aborts(from_out_of_range));
}

static void many(void)
{
	unsigned int state = RED, i;

	for (i = 0; i < 500; i++) {
		move(&table, &state, GREEN, "north", "turn %u", i);
		move(&table, &state, RED, "north", "back %u", i);
	}
	invariant_broken("enough");
}

static void test_trace_holds_the_last_moves(void **state)
{
	char *before;
	int lines = 0;

	(void)state;
	assert_true(aborts(many));
	before = strstr(said, "before:");
	assert_null(before); /* the log itself is longer than what we read */
	log_set_level(LOG_LEVEL_ERROR);
	assert_true(aborts(many));
	log_set_level(LOG_LEVEL_INFO);
	for (before = said; (before = strstr(before, "before:")); before++)
		lines++;
	assert_int_equal(lines, 64);
	assert_non_null(strstr(said, "(back 499)"));
	assert_null(strstr(said, "(turn 467)"));
	assert_non_null(strstr(said, "(turn 468)"));
}

static void one_line(void)
{
	unsigned int state = RED;

	move(&table, &state, GREEN, "north", "go");
	move(&table, &state, RED, "north", "%s", "");
}

static void test_a_move_is_one_line(void **state)
{
	(void)state;
	assert_false(aborts(one_line));
	assert_non_null(strstr(said, "light north: red -> green (go)\n"));
	assert_non_null(strstr(said, "light north: green -> red\n"));
}

static void test_allowed(void **state)
{
	unsigned int from, to;

	(void)state;
	for (from = 0; from < COLOURS + 2; from++)
		for (to = 0; to < COLOURS + 2; to++)
			assert_int_equal(move_allowed(&table, from, to),
					 (from == RED && to == GREEN) ||
						 (from == RED && to == BLUE) ||
						 (from == GREEN && to == RED));
}

/* --- the invariants of an epoch ----------------------------------------- */

static void released_unacknowledged(void)
{
	struct epoch_run r = { .number = 1, .state = EPOCH_WAIT_ACK };

	epoch_move(&r, EPOCH_RELEASE, NULL);
}

static void partial_waits_for_ack(void)
{
	struct epoch_run r = { .number = 1,
			       .state = EPOCH_SEND,
			       .partial = true };

	epoch_move(&r, EPOCH_WAIT_ACK, NULL);
}

static void left_suspended(void)
{
	struct epoch_run r = { .number = 1,
			       .state = EPOCH_CAPTURE,
			       .guest_suspended = true };

	epoch_move(&r, EPOCH_RESUME, NULL);
}

static void captured_running(void)
{
	struct epoch_run r = { .number = 1, .state = EPOCH_SUSPEND };

	epoch_move(&r, EPOCH_CAPTURE, NULL);
}

static void back_from_abort(void)
{
	struct epoch_run r = { .number = 1, .state = EPOCH_ABORT };

	epoch_move(&r, EPOCH_SUSPEND, NULL);
}

static void test_epoch_invariants_abort(void **state)
{
	(void)state;
	assert_true(aborts(released_unacknowledged));
	assert_non_null(strstr(said, "nothing is released before"));
	assert_true(aborts(partial_waits_for_ack));
	assert_non_null(strstr(said, "a partial epoch is never offered"));
	assert_true(aborts(left_suspended));
	assert_true(aborts(captured_running));
	assert_non_null(strstr(said, "suspended in CAPTURE and only there"));
	assert_true(aborts(back_from_abort));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disallowed_move_aborts),
		cmocka_unit_test(test_unknown_states_abort),
		cmocka_unit_test(test_trace_holds_the_last_moves),
		cmocka_unit_test(test_a_move_is_one_line),
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_epoch_invariants_abort),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
