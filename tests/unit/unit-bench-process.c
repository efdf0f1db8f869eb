/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/process.c, dir.c: nothing is left.  This program is what
 * is started again: with a word it plays a child.
 */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

static struct bench b;

static int begin(void **state)
{
	(void)state;
	memset(&b, 0, sizeof(b));
	bench_cpus(b.cpu);
	assert_int_equal(bench_signals(&b), 0);
	assert_int_equal(bench_dir_make(&b), 0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	bench_dir_remove(&b);
	bench_signals_restore(&b);
	return 0;
}

static void start(struct bench_process *p, const char *word, int fd)
{
	const char *const words[] = { "child", word, NULL };
	char log[sizeof(b.dir) + 8];
	struct bench_child c = bench_child_of(words, log);

	snprintf(log, sizeof(log), "%s/log", b.dir);
	c.fd = fd;
	assert_int_equal(bench_start(&b, &c, p), 0);
}

static bool wait_ended(struct bench_process *p)
{
	int i;

	for (i = 0; i < 1000 && !bench_ended(p); i++)
		clock_sleep_us(10000);
	return bench_ended(p);
}

/* It ignores SIGTERM, and so does the one that it has started. */
static void test_a_family_that_does_not_want_to_end(void **state)
{
	struct bench_process p;
	int fds[2];
	pid_t pids[2] = { 0 };

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	start(&p, "stubborn", fds[1]);
	close(fds[1]);
	assert_int_equal(read(fds[0], pids, sizeof(pids)), sizeof(pids));
	close(fds[0]);
	assert_int_equal(pids[0], p.pid);
	assert_int_equal(getpgid(pids[1]), p.pid);
	assert_int_equal(kill(pids[1], 0), 0);
	assert_false(bench_ended(&p));
	bench_end(&p);
	assert_int_equal(kill(pids[0], 0), -1);
	assert_int_equal(kill(pids[1], 0), -1);
	bench_end(&p); /* and once more */
}

static void test_what_one_said_and_how_it_ended(void **state)
{
	struct bench_process p;

	(void)state;
	start(&p, "error", -1);
	assert_true(wait_ended(&p));
	assert_int_equal(p.killed_by, 0);
	assert_string_equal(bench_dir_last_line(&b, "log"), "no luck");
	bench_end(&p);
	start(&p, "die", -1);
	assert_true(wait_ended(&p));
	assert_int_equal(p.killed_by, SIGKILL);
	bench_end(&p);
	assert_non_null(strstr(bench_dir_last_line(&b, "none"), "nothing"));
}

/* Another program: its own ends of two pipes, its processor, its own log. */
static void test_another_program(void **state)
{
	const char *const words[] = {
		"sh", "-c",
		"read a; echo \"<$a>\"; grep Cpus_allowed_list "
		"/proc/self/status; echo oops >&2; sleep 60",
		NULL
	};
	char log[sizeof(b.dir) + 8], said[256] = "", allowed[32];
	struct bench_child c = bench_child_of(words, log);
	struct bench_process p;
	int in[2], out[2], i;
	size_t n = 0;

	(void)state;
	snprintf(log, sizeof(log), "%s/sh", b.dir);
	assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
	c.program = "/bin/sh";
	c.in = in[0];
	c.out = out[1];
	c.cpu = b.cpu[BENCH_SECONDARY];
	assert_int_equal(bench_start(&b, &c, &p), 0);
	close(in[0]);
	close(out[1]);
	assert_int_equal(write(in[1], "hello\n", 6), 6);
	for (i = 0; i < 1000 && !strchr(said, '\t'); i++)
		if (bench_wait(&b, out[0], 10000))
			n += (size_t)read(out[0], said + n,
					  sizeof(said) - 1 - n);
	assert_non_null(strstr(said, "<hello>\n"));
	snprintf(allowed, sizeof(allowed), "\t%d\n", c.cpu);
	if (c.cpu >= 0)
		assert_non_null(strstr(said, allowed));
	for (i = 0; i < 1000 && strcmp(bench_dir_last_line(&b, "sh"), "oops");
	     i++)
		clock_sleep_us(10000);
	assert_string_equal(bench_dir_last_line(&b, "sh"), "oops");
	/* Standing still, it ends too. */
	kill(p.pid, SIGSTOP);
	kill(p.pid, SIGKILL);
	assert_true(wait_ended(&p));
	bench_end(&p);
	close(in[1]);
	close(out[0]);
}

/* An epoch of several rounds may count a page twice. */
static void test_more_pages_than_there_are(void **state)
{
	struct bench_result r = {
		.workload = { .mem_mib = 4 },
		.limits = { .pages = 3000 },
	};

	(void)state;
	assert_int_equal(bench_copy_limit(&b, &r), 0);
	assert_true(r.limits.copy_us > 0);
}

/* The second one must not end what the first one began. */
static void test_two_signals(void **state)
{
	sigset_t before = b.signals_before;
	struct bench own = { 0 };

	(void)state;
	bench_signals_restore(&b);
	assert_int_equal(bench_signals(&own), 0);
	kill(getpid(), SIGTERM);
	assert_false(bench_wait(&own, -1, 0));
	assert_int_equal(own.interrupted, SIGTERM);
	kill(getpid(), SIGTERM);
	bench_signals_restore(&own);

	/* One that nobody has waited for is taken, too. */
	own.interrupted = 0;
	assert_int_equal(bench_signals(&own), 0);
	bench_signals_restore(&own);
	assert_int_equal(own.interrupted, SIGTERM);

	/* This program needs them as they were. */
	assert_int_equal(bench_signals(&b), 0);
	b.signals_before = before;
}

static int seven(void *arg, double *out)
{
	out[0] = *(int *)arg;
	out[1] = 7;
	return 0;
}

static int fails(void *arg, double *out)
{
	(void)arg;
	(void)out;
	return -EIO;
}

static int never(void *arg, double *out)
{
	(void)out;
	kill(*(pid_t *)arg, SIGTERM);
	for (;;)
		pause();
	return 0;
}

static void test_calls(void **state)
{
	pid_t self = getpid();
	double out[2] = { 0, 0 };
	int three = 3;

	(void)state;
	assert_int_equal(bench_call(&b, seven, &three, out, 2), 0);
	assert_true(out[0] == 3 && out[1] == 7);
	assert_int_equal(bench_call(&b, fails, NULL, out, 2), -EIO);
	assert_int_equal(b.interrupted, 0);
	assert_int_equal(bench_call(&b, never, &self, out, 2), -EINTR);
	assert_int_equal(b.interrupted, SIGTERM);
}

static void test_the_folder_goes_with_all_that_is_in_it(void **state)
{
	char dir[sizeof(b.dir)], path[sizeof(b.dir) + 16];
	struct stat st;

	(void)state;
	strcpy(dir, b.dir);
	snprintf(path, sizeof(path), "%s/certs/a.key", dir);
	assert_int_equal(stat(path, &st), 0);
	snprintf(path, sizeof(path), "%s/more", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	bench_dir_remove(&b);
	assert_int_equal(stat(dir, &st), -1);
	assert_int_equal(errno, ENOENT);
	bench_dir_remove(&b); /* and once more */
}

/* --- the child -------------------------------------------------------------
 */

static void stubborn(void)
{
	pid_t pids[2] = { getpid(), 0 };

	signal(SIGTERM, SIG_IGN);
	pids[1] = fork();
	if (pids[1] && write(3, pids, sizeof(pids)) != sizeof(pids))
		_exit(1);
	alarm(60); /* where the test fails */
	for (;;)
		pause();
}

static int child(const char *word)
{
	if (!strcmp(word, "stubborn"))
		stubborn();
	if (!strcmp(word, "die"))
		kill(getpid(), SIGKILL);
	fprintf(stderr, "12:34:56.789 hello\n12:34:56.790 error: no luck\n");
	return 1;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_family_that_does_not_want_to_end),
		cmocka_unit_test(test_what_one_said_and_how_it_ended),
		cmocka_unit_test(test_another_program),
		cmocka_unit_test(test_more_pages_than_there_are),
		cmocka_unit_test(test_two_signals),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_the_folder_goes_with_all_that_is_in_it),
	};

	if (argc > 1)
		return child(argv[1]);
	alarm(120); /* SIGTERM is not taken here */
	return cmocka_run_group_tests(tests, begin, end);
}
