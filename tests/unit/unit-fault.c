/* SPDX-License-Identifier: Apache-2.0 */
/* base/fault.c */
#include "config.h"

#include "base/fault.h"

#include <stdarg.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

static int quiet_stderr(void **state)
{
	(void)state;
	return freopen("/dev/null", "w", stderr) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	fault_fini();
	return 0;
}

#ifdef ENABLE_FAULTS

static void test_nothing_is_asked(void **state)
{
	(void)state;
	unsetenv("COLOD_FAULT");
	assert_int_equal(fault_init(NULL), 0);
	assert_int_equal(fault_armed, 0);
	assert_int_equal(fault_at(FAULT_MEMORY), 0);
}

static void test_the_count(void **state)
{
	(void)state;
	assert_int_equal(fault_init("mid-store:error:3"), 0);
	assert_int_equal(fault_at(FAULT_MID_STORE), 0);
	assert_int_equal(fault_at(FAULT_MID_APPLY), 0);
	assert_int_equal(fault_at(FAULT_MID_STORE), 0);
	assert_int_equal(fault_at(FAULT_MID_STORE), -EIO);
	assert_int_equal(fault_at(FAULT_MID_STORE), 0);

	assert_int_equal(fault_init("mid-store:error=ENOSPC:2+"), 0);
	assert_int_equal(fault_at(FAULT_MID_STORE), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(fault_at(FAULT_MID_STORE), -ENOSPC);
}

static void test_several_at_once(void **state)
{
	(void)state;
	assert_int_equal(
		fault_init("read:error=104,mid-store:error:2,read:error=5:2"),
		0);
	assert_int_equal(fault_at(FAULT_READ), -ECONNRESET);
	assert_int_equal(fault_at(FAULT_READ), -EIO);
	assert_int_equal(fault_at(FAULT_READ), 0);
	assert_int_equal(fault_at(FAULT_MID_STORE), 0);
	assert_int_equal(fault_at(FAULT_MID_STORE), -EIO);
}

static void test_short(void **state)
{
	size_t n = 100;

	(void)state;
	assert_int_equal(fault_init("write:short:2"), 0);
	assert_int_equal(fault_at_io(FAULT_WRITE, &n), 0);
	assert_int_equal(n, 100);
	assert_int_equal(fault_at_io(FAULT_WRITE, &n), 0);
	assert_int_equal(n, 1);
}

static void test_memory(void **state)
{
	void *p;

	(void)state;
	assert_int_equal(fault_init("memory:error:2"), 0);
	p = memory_new(1);
	assert_non_null(p);
	free(p);
	assert_null(memory_zeroed(1));
	p = memory_zeroed(1);
	assert_non_null(p);
	free(p);
	assert_int_equal(fault_init("memory:error"), 0);
	assert_int_equal(fault_at(FAULT_MEMORY), -ENOMEM);
}

static void test_malformed(void **state)
{
	static const char *const bad[] = {
		"",
		",",
		"mid-store",
		"mid-store:",
		"mid-store:kill,",
		"mid-store:explode",
		"mid-store:kill:0",
		"mid-store:kill:-1",
		"mid-store:kill:",
		"mid-store:kill:+",
		"mid-store:kill:1++",
		"mid-store:kill:99999999999",
		"mid-store:kill:1:2",
		"mid-store:kill=3",
		"mid-store:error=",
		"mid-store:error=ENONSENSE",
		"mid-store:error=0",
		"mid-store:error=5000",
		"mid-store:short",
		"mid-storey:kill",
		"MID_STORE:kill",
		" mid-store:kill",
	};
	char many[600];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (fault_init(bad[i]) != -EINVAL)
			fail_msg("taken: '%s'", bad[i]);
		assert_int_equal(fault_armed, 0);
	}
	memset(many, 'x', sizeof(many) - 1);
	many[sizeof(many) - 1] = '\0';
	assert_int_equal(fault_init(many), -EINVAL);
	many[0] = '\0';
	for (i = 0; i < 17; i++)
		strcat(many, i ? ",read:kill" : "read:kill");
	assert_int_equal(fault_init(many), -EINVAL);
	many[16 * 10 - 1] = '\0';
	assert_int_equal(fault_init(many), 0);
}

static pid_t child(const char *words)
{
	pid_t pid = fork();

	if (pid == 0) {
		fault_init(words);
		fault_at(FAULT_MID_STORE);
		_exit(7);
	}
	return pid;
}

static void test_kill(void **state)
{
	int status;

	(void)state;
	assert_true(waitpid(child("mid-store:kill"), &status, 0) > 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_stop(void **state)
{
	pid_t pid = child("mid-store:stop");
	int status;

	(void)state;
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	kill(pid, SIGCONT);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void test_hang(void **state)
{
	pid_t pid = child("mid-store:hang");
	int status;

	(void)state;
	clock_sleep_us(50000);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void count(void *arg, const char *name, const char *side,
		  unsigned int flags, const char *what)
{
	char words[80];

	++*(unsigned int *)arg;
	assert_true(*side && *what);
	assert_int_equal(!strncmp(name, "slow-", 5) ||
				 !strncmp(name, "model-", 6),
			 flags == FAULT_XEN);
	assert_int_equal(!strncmp(name, "disk-", 5), flags == FAULT_DISK);
	snprintf(words, sizeof(words), "%s:error", name);
	assert_int_equal(fault_init(words), 0);
}

static void test_every_point_is_told_and_taken(void **state)
{
	unsigned int n = 0;

	(void)state;
	fault_each_point(count, &n);
	assert_int_equal(n, FAULT_COUNT);
}

#else

static void test_none_in_this_build(void **state)
{
	(void)state;
	assert_int_equal(fault_init("memory:error:1+"), 0);
	assert_int_equal(fault_at(FAULT_MEMORY), 0);
}

#endif

#define TEST(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
#ifdef ENABLE_FAULTS
		TEST(test_nothing_is_asked),
		TEST(test_the_count),
		TEST(test_several_at_once),
		TEST(test_short),
		TEST(test_memory),
		TEST(test_malformed),
		TEST(test_kill),
		TEST(test_stop),
		TEST(test_hang),
		TEST(test_every_point_is_told_and_taken),
#else
		TEST(test_none_in_this_build),
#endif
	};

	return cmocka_run_group_tests(tests, quiet_stderr, NULL);
}
