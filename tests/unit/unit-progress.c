/* SPDX-License-Identifier: Apache-2.0 */
/* engine/progress.c */
#include "config.h"

#include "engine/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)
enum { SECOND_US = 1000 * 1000 };

static void test_line(void **state)
{
	struct progress p;
	char line[256];

	(void)state;
	progress_start(&p, "sending web to beta", 512 * MIB, 5 * SECOND_US);
	assert_string_equal(progress_line(&p, 128 * MIB, 7 * SECOND_US, 0, line,
					  sizeof(line)),
			    "sending web to beta: 25 %, 128 of 512 MiB, "
			    "64.0 MiB/s");
	assert_string_equal(progress_line(&p, 128 * MIB, 7 * SECOND_US, 8, line,
					  sizeof(line)),
			    "[##......] sending web to beta: 25 %, 128 of 512 "
			    "MiB, 64.0 MiB/s");
}

/* A busy guest is sent in part twice: it is over when the caller says so. */
static void test_never_whole(void **state)
{
	struct progress p;
	char line[256];

	(void)state;
	progress_start(&p, "x", 100 * MIB, 0);
	assert_string_equal(
		progress_line(&p, 100 * MIB, SECOND_US, 4, line, sizeof(line)),
		"[###.] x: 99 %, 100 of 100 MiB, 100.0 MiB/s");
	assert_string_equal(
		progress_line(&p, 300 * MIB, SECOND_US, 4, line, sizeof(line)),
		"[###.] x: 99 %, 300 of 100 MiB, 300.0 MiB/s");
}

static void test_nothing_known_yet(void **state)
{
	struct progress p;
	char line[256];

	(void)state;
	progress_start(&p, "x", 0, 7);
	assert_string_equal(progress_line(&p, 0, 7, 2, line, sizeof(line)),
			    "[..] x: 0 %, 0 of 0 MiB, 0.0 MiB/s");
}

/* Never past the end of the room, whatever its size. */
static void test_short_room(void **state)
{
	struct progress p;
	char line[64];
	unsigned int room, i;

	(void)state;
	progress_start(&p, "sending", 10 * MIB, 0);
	for (room = 1; room < sizeof(line); room++) {
		memset(line, '~', sizeof(line));
		progress_line(&p, MIB, SECOND_US, 24, line, room);
		assert_non_null(memchr(line, '\0', room));
		for (i = room; i < sizeof(line); i++)
			assert_int_equal(line[i], '~');
	}
}

static int lines_logged(const struct progress *from, uint64_t until_us,
			uint64_t step_us)
{
	int log = memfd_create("log", MFD_CLOEXEC), kept = dup(STDERR_FILENO);
	struct progress p = *from;
	char text[4096], *at;
	uint64_t now;
	int count = 0;
	ssize_t n;

	dup2(log, STDERR_FILENO);
	for (now = p.started_us; now <= until_us; now += step_us)
		progress_update(&p, now, now);
	dup2(kept, STDERR_FILENO);
	close(kept);
	n = pread(log, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	close(log);
	for (at = text; (at = strchr(at, '\n')); at++)
		count++;
	return count;
}

static void test_a_line_every_three_seconds_in_a_log(void **state)
{
	struct progress p;

	(void)state;
	progress_start(&p, "x", 100 * MIB, SECOND_US);
	assert_int_equal(lines_logged(&p, 4 * SECOND_US - 1, 1000), 0);
	assert_int_equal(lines_logged(&p, 4 * SECOND_US, 1000), 1);
	assert_int_equal(lines_logged(&p, 31 * SECOND_US, 1000), 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_never_whole),
		cmocka_unit_test(test_nothing_known_yet),
		cmocka_unit_test(test_short_room),
		cmocka_unit_test(test_a_line_every_three_seconds_in_a_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
