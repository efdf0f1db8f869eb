/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the process that a mark names still lives. */
#include "config.h"

#include "resume/holder.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A child that waits, and its mark. */
static pid_t start_child(char mark[HOLDER_BYTES])
{
	int ends[2];
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		holder_self(mark);
		if (write(ends[1], mark, HOLDER_BYTES) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ends[0], mark, HOLDER_BYTES),
			 HOLDER_BYTES);
	close(ends[0]);
	close(ends[1]);
	return child;
}

static void this_process_is_itself_and_lives(void **state)
{
	char mark[HOLDER_BYTES];

	(void)state;
	holder_self(mark);
	assert_true(holder_is_self(mark));
	assert_true(holder_lives(mark));
}

static void another_process_lives_until_it_dies(void **state)
{
	char mark[HOLDER_BYTES] = "";
	pid_t child = start_child(mark);

	(void)state;
	assert_false(holder_is_self(mark));
	assert_true(holder_lives(mark));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	assert_false(holder_lives(mark));
}

static void a_zombie_is_dead(void **state)
{
	char mark[HOLDER_BYTES] = "";
	pid_t child = start_child(mark);
	siginfo_t info;

	(void)state;
	kill(child, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT),
			 0);
	assert_false(holder_lives(mark));
	waitpid(child, NULL, 0);
}

static void a_pid_used_again_is_another_process(void **state)
{
	char mark[HOLDER_BYTES];

	(void)state;
	snprintf(mark, sizeof(mark), "%d 1", (int)getpid());
	assert_false(holder_lives(mark));
}

static void nonsense_is_dead(void **state)
{
	(void)state;
	assert_false(holder_lives(""));
	assert_false(holder_lives("standby"));
	assert_false(holder_lives("12"));
	assert_false(holder_lives("-1 0"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(this_process_is_itself_and_lives),
		cmocka_unit_test(another_process_lives_until_it_dies),
		cmocka_unit_test(a_zombie_is_dead),
		cmocka_unit_test(a_pid_used_again_is_another_process),
		cmocka_unit_test(nonsense_is_dead),
	};

	return cmocka_run_group_tests_name("holder", tests, NULL, NULL);
}
