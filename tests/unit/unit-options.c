/* SPDX-License-Identifier: Apache-2.0 */
/* engine/options.c: defaults, bounds, and what belongs to which command. */
#include "config.h"

#include "engine/options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "resume/guest.h"

enum { WORDS_MAX = 16 };

static char said[8192]; /* on standard error, by the call before */

static int silently(unsigned int command, int argc, char **argv,
		    struct settings *s)
{
	int log = memfd_create("log", MFD_CLOEXEC), kept = dup(STDERR_FILENO);
	int first;
	ssize_t n;

	fflush(stderr);
	dup2(log, STDERR_FILENO);
	first = options_parse(command, argc, argv, s);
	fflush(stderr);
	dup2(kept, STDERR_FILENO);
	close(kept);
	n = pread(log, said, sizeof(said) - 1, 0);
	said[n > 0 ? n : 0] = '\0';
	close(log);
	return first;
}

/* Words with single spaces between them, the first is the command. */
static int parse(unsigned int command, const char *line, struct settings *s)
{
	static char copy[512];
	char *argv[WORDS_MAX + 1] = { 0 }, *rest = NULL, *word;
	int argc = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	for (word = strtok_r(copy, " ", &rest); word;
	     word = strtok_r(NULL, " ", &rest)) {
		assert_true(argc < WORDS_MAX);
		argv[argc++] = word;
	}
	return silently(command, argc, argv, s);
}

static void refused(unsigned int command, const char *line, const char *words)
{
	struct settings s;

	assert_int_equal(parse(command, line, &s), -EINVAL);
	if (!strstr(said, words))
		fail_msg("'%s': %s", line, said);
	assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
	settings_fini(&s);
}

static void test_defaults(void **state)
{
	struct settings s;

	(void)state;
	assert_int_equal(parse(ON_PRIMARY, "primary web beta", &s), 1);
	assert_int_equal(s.interval_ms.min, 100);
	assert_int_equal(s.interval_ms.max, 100);
	assert_int_equal(s.heartbeat_ms, 100);
	assert_int_equal(s.lost_after, 3);
	assert_int_equal(s.inflight, 2);
	assert_int_equal(s.compress, 1);
	assert_int_equal(s.suspend_timeout_ms, 2000);
	assert_int_equal(s.suspend, GUEST_ASK_AUTO);
	assert_int_equal(s.resume, GUEST_RESUME_SLOW);
	assert_string_equal(s.cert, "/etc/colod/host.crt");
	assert_string_equal(s.run_dir, RUNSTATEDIR "/colod");
	assert_null(s.fence);
	assert_null(s.log_file);
	assert_false(s.unsafe_no_fence);
	assert_string_equal(said, "");
	settings_fini(&s);
	assert_null(s.cert);
}

static void test_all_types(void **state)
{
	struct settings s;

	(void)state;
	assert_int_equal(parse(ON_PRIMARY,
			       "primary --interval 20 --fence=true -v "
			       "--unsafe-no-fence --cert a --cert b",
			       &s),
			 10);
	assert_int_equal(s.interval_ms.min, 20);
	assert_int_equal(s.interval_ms.max, 20);
	assert_string_equal(s.fence, "true");
	assert_string_equal(s.cert, "b"); /* the last one counts */
	assert_true(s.verbose);
	assert_true(s.unsafe_no_fence);
	settings_fini(&s);
}

static void test_options_may_follow_operands(void **state)
{
	char primary[] = "primary", web[] = "web", beta[] = "beta",
	     interval[] = "--interval", number[] = "33";
	char *argv[] = { primary, web, beta, interval, number, NULL };
	struct settings s;
	int first;

	(void)state;
	first = silently(ON_PRIMARY, 5, argv, &s);
	assert_int_equal(first, 3);
	assert_string_equal(argv[first], "web");
	assert_string_equal(argv[first + 1], "beta");
	assert_int_equal(s.interval_ms.min, 33);
	settings_fini(&s);
}

static void test_operands_that_look_like_options(void **state)
{
	struct settings s;
	int first;

	(void)state;
	first = parse(ON_STATUS, "status -- --json", &s);
	assert_int_equal(first, 2);
	assert_false(s.json);
	settings_fini(&s);
}

/* Every number: its bounds are taken, one beyond is not. */
static void test_bounds(void **state)
{
	char line[128];
	size_t i;

	(void)state;
	for (i = 0; i < options_count; i++) {
		const struct option_spec *o = &options_table[i];
		unsigned int command = o->commands & -o->commands;
		struct settings s;

		if (o->type != OPTION_NUMBER && o->type != OPTION_RANGE)
			continue;
		snprintf(line, sizeof(line), "x --%s %llu", o->name,
			 (unsigned long long)o->min);
		assert_int_equal(parse(command, line, &s), 3);
		settings_fini(&s);
		snprintf(line, sizeof(line), "x --%s %llu", o->name,
			 (unsigned long long)o->max);
		assert_int_equal(parse(command, line, &s), 3);
		settings_fini(&s);
		snprintf(line, sizeof(line), "x --%s %llu", o->name,
			 (unsigned long long)o->max + 1);
		refused(command, line, "takes a whole number from");
		if (!o->min)
			continue;
		snprintf(line, sizeof(line), "x --%s %llu", o->name,
			 (unsigned long long)o->min - 1);
		refused(command, line, "takes a whole number from");
	}
}

static void test_what_is_not_a_number(void **state)
{
	static const char *const wrong[] = {
		"ten", "10ms", "-10",
		"+10", "1e2",  "0x10",
		"1.5", "--",   "99999999999999999999999"
	};
	char line[128];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(line, sizeof(line), "primary --interval=%s", wrong[i]);
		refused(ON_PRIMARY, line, wrong[i]);
	}
	refused(ON_PRIMARY, "primary --interval=", "whole number");
}

static void expect_range(const char *line, uint64_t min, uint64_t max)
{
	struct settings s;

	assert_int_equal(parse(ON_PRIMARY, line, &s), 2);
	assert_int_equal(s.interval_ms.min, min);
	assert_int_equal(s.interval_ms.max, max);
	settings_fini(&s);
}

static void test_ranges(void **state)
{
	static const char *const wrong[] = {
		"20..", "..20",	 "20..10",   "20...30",	 "20..30..40", "20.30",
		"4..9", "20-30", "5..60001", "20..30ms", "-1..30",     "20..+30"
	};
	char line[128];

	(void)state;
	expect_range("primary --interval=20..1000", 20, 1000);
	expect_range("primary --interval=5..60000", 5, 60000);
	expect_range("primary --interval=30..30", 30, 30);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(line, sizeof(line), "primary --interval=%s", wrong[i]);
		refused(ON_PRIMARY, line, "or two as MIN..MAX, not");
	}
}

/* A place in the words: the order is that of the enumerations. */
static void test_choices(void **state)
{
	static const char *const asks[] = { "auto", "evtchn", "xenstore",
					    "toolstack" };
	struct settings s;
	char line[80];

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		snprintf(line, sizeof(line), "primary --suspend=%s", asks[i]);
		assert_true(parse(ON_PRIMARY, line, &s) > 0);
		assert_int_equal(s.suspend, i);
		assert_string_equal(guest_ask_text((enum guest_ask)i), asks[i]);
		settings_fini(&s);
	}
	assert_true(parse(ON_PRIMARY, "primary --resume=fast", &s) > 0);
	assert_int_equal(s.resume, GUEST_RESUME_FAST);
	settings_fini(&s);
	refused(ON_PRIMARY, "primary --resume=slo", "fast|slow, not 'slo'");
	refused(ON_PRIMARY, "primary --resume=slow|fast", "takes one of");
	refused(ON_PRIMARY, "primary --suspend=", "takes one of");
	refused(ON_PRIMARY, "primary --suspend=|", "takes one of");
}

static void test_options_of_another_command(void **state)
{
	(void)state;
	refused(ON_SECONDARY, "secondary --interval 20",
		"unknown or incomplete option '--interval'");
	refused(ON_PRIMARY, "primary --listen x", "see 'colod primary --help'");
	refused(ON_STATUS, "status --fence x", "unknown");
	refused(ON_STATUS, "status -v", "unknown");
	refused(ON_CERTS, "certs --json", "unknown");
}

static void test_unknown_and_incomplete(void **state)
{
	(void)state;
	refused(ON_PRIMARY, "primary --nonsense", "'--nonsense'");
	refused(ON_PRIMARY, "primary -x", "'-x'");
	refused(ON_PRIMARY, "primary -vx", "'-x'");
	refused(ON_PRIMARY, "primary -xv web", "'-x'");
	refused(ON_PRIMARY, "primary --interval", "'--interval'");
	refused(ON_STATUS, "status --json=yes", "'--json=yes'");
}

static void test_help_names_every_option(void **state)
{
	static const unsigned int commands[] = { ON_PRIMARY, ON_SECONDARY,
						 ON_STATUS,  ON_CONTROL,
						 ON_CHECK,   ON_CERTS,
						 ON_RELEASE };
	size_t i, c;

	(void)state;
	for (c = 0; c < sizeof(commands) / sizeof(commands[0]); c++) {
		char *text = NULL, name[64];
		size_t length = 0;
		FILE *out = open_memstream(&text, &length);

		options_help(commands[c], out);
		fclose(out);
		for (i = 0; i < options_count; i++) {
			const struct option_spec *o = &options_table[i];

			snprintf(name, sizeof(name), "--%s%s", o->name,
				 o->argument ? "=" : " ");
			assert_int_equal(strstr(text, name) != NULL,
					 (o->commands & commands[c]) != 0);
		}
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_all_types),
		cmocka_unit_test(test_options_may_follow_operands),
		cmocka_unit_test(test_operands_that_look_like_options),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_what_is_not_a_number),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_choices),
		cmocka_unit_test(test_options_of_another_command),
		cmocka_unit_test(test_unknown_and_incomplete),
		cmocka_unit_test(test_help_names_every_option),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
