/* SPDX-License-Identifier: Apache-2.0 */
/* engine/spec.c, and lists among the options. */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "resume/embedded/spec.h"

static struct bench_workload got[BENCH_WORKLOADS_MAX];
static char why[256];

static void test_what_is_not_said(void **state)
{
	(void)state;
	assert_int_equal(bench_spec_parse("hot", got, why), 1);
	assert_string_equal(got[0].spec, "hot");
	assert_string_equal(got[0].pattern, "hot");
	assert_int_equal(got[0].pages, 1000);
	assert_int_equal(got[0].interval_ms, 50);
	assert_int_equal(got[0].mem_mib, 64);
	assert_int_equal(got[0].span_mib, 0);
	assert_int_equal(bench_spec_written_pages(&got[0]), 64 * 256);
	assert_int_equal(got[0].words, 8);
	assert_int_equal(got[0].whole, 5);
	assert_int_equal(got[0].vcpus, 1);
	assert_string_equal(got[0].fill, "random");
	assert_false(got[0].program);
	assert_int_equal(bench_spec_rate(&got[0]), 20000);
}

static void test_all_that_can_be_said(void **state)
{
	(void)state;
	assert_int_equal(
		bench_spec_parse("sequential,vcpus=2,whole=0,words=512,mem=9,"
				 "fill=zero,interval=60000,pages=1,span=4;"
				 "random",
				 got, why),
		2);
	assert_string_equal(got[0].pattern, "sequential");
	assert_int_equal(got[0].pages, 1);
	assert_int_equal(got[0].interval_ms, 60000);
	assert_int_equal(got[0].mem_mib, 9);
	assert_int_equal(got[0].span_mib, 4);
	assert_int_equal(bench_spec_written_pages(&got[0]), 4 * 256);
	assert_int_equal(got[0].words, 512);
	assert_int_equal(got[0].whole, 0);
	assert_int_equal(got[0].vcpus, 2);
	assert_string_equal(got[0].fill, "zero");
	assert_int_equal(bench_spec_rate(&got[0]), 1); /* never none */
	assert_string_equal(got[1].spec, "random");
}

static void test_the_default(void **state)
{
	(void)state;
	assert_true(bench_spec_parse(bench_workloads_default, got, why) >= 3);
}

static void test_the_suite(void **state)
{
	int n;

	(void)state;
	assert_null(bench_suite("none"));
	assert_null(bench_suite(""));
	n = bench_spec_parse(bench_suite("standard"), got, why);
	assert_int_equal(n, 10);
	for (int i = 0; i < n; i++) {
		assert_int_equal(got[i].program, i < 4);
		assert_int_equal(got[i].pages, i % 2 ? 10000 : 1000);
		assert_int_equal(bench_spec_rate(&got[i]), 20000);
	}
	assert_string_equal(got[0].pattern, "redis");
	assert_string_equal(got[2].pattern, "sqlite");
	assert_string_equal(got[4].fill, "zero");
	assert_int_equal(got[4].whole, 100);
	assert_string_equal(got[6].fill, "random");
	assert_int_equal(got[6].whole, 100);
	assert_int_equal(got[8].whole, 0);
	assert_int_equal(got[8].words, 1);
	assert_int_equal(got[8].warm_pages, 0);
	bench_spec_settle(&got[8]);
	assert_int_equal(got[8].warm_pages, 5 * 64 * 256);
}

/* The same writes whatever the guest's size; ever more pages in the largest. */
static void test_the_suite_of_scale(void **state)
{
	int n;

	(void)state;
	n = bench_spec_parse(bench_suite("scale"), got, why);
	assert_int_equal(n, 10);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(bench_spec_written_pages(&got[i]), 64 * 256);
		assert_int_equal(got[i].pages, i < 3 ? 1000 : 10000);
		assert_int_equal(bench_spec_rate(&got[i]), 20000);
	}
	assert_int_equal(got[0].mem_mib, 64);
	assert_int_equal(got[5].mem_mib, 8192);
	for (int i = 6; i < n; i++)
		assert_int_equal(got[i].mem_mib, 8192);
	assert_int_equal(got[9].pages, 200000);
}

/* The least memory is what the recording needs; more may be asked for. */
static void test_a_program(void **state)
{
	const struct bench_trace t = { .file = "/tmp/x/redis.trace",
				       .live = 300,
				       .entries = 7000,
				       .needs_mib = 50 };
	char words[BENCH_GUEST_BYTES];
	struct guest_error error;
	struct embedded_spec spec;

	(void)state;
	assert_int_equal(bench_spec_parse("redis,pages=3000,interval=10,mem=70;"
					  "sqlite,mem=4",
					  got, why),
			 2);
	assert_true(got[0].program && got[1].program);
	bench_spec_trace(&got[0], &t);
	bench_spec_trace(&got[1], &t);
	assert_int_equal(got[0].mem_mib, 70);
	assert_int_equal(got[1].mem_mib, 50);
	assert_int_equal(bench_spec_written_pages(&got[0]), 300);
	assert_int_equal(got[0].warm_pages, 7000);
	bench_spec_guest(&got[0], words);
	assert_int_equal(embedded_spec_parse(words + 9, &spec, &error), 0);
	assert_int_equal(spec.workload, EMBEDDED_REPLAY);
	assert_int_equal(spec.mem_bytes, 70 << 20);
	assert_int_equal(spec.rate, 300000);
	assert_string_equal(spec.file, t.file);
}

/* What a bench accepts its guest does, too, with whatever it adds to it. */
static void test_the_guest_understands_it(void **state)
{
	static const char *const texts[] = {
		"random,pages=500000,interval=5,mem=262144,words=512,"
		"whole=100,vcpus=16",
		"sequential,pages=1,interval=60000,mem=4,words=1,whole=0,"
		"vcpus=1",
		"random,whole=100,fill=zero",
		"random,mem=8192,span=1024",
		"hot",
	};
	char words[BENCH_GUEST_BYTES];
	struct guest_error error;
	struct embedded_spec spec;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(bench_spec_parse(texts[i], got, why), 1);
		bench_spec_guest(&got[0], words);
		assert_int_equal(strncmp(words, "embedded:", 9), 0);
		if (embedded_spec_parse(words + 9, &spec, &error))
			fail_msg("%s: %s", words, error.text);
		assert_int_equal(spec.mem_bytes, got[0].mem_mib << 20);
		assert_int_equal(spec.span_bytes,
				 bench_spec_written_pages(&got[0]) << 12);
		assert_int_equal(spec.rate, bench_spec_rate(&got[0]));
		assert_int_equal(spec.words, got[0].words);
		assert_int_equal(spec.whole, got[0].whole);
		assert_int_equal(spec.fill == EMBEDDED_FILL_ZERO,
				 !strcmp(got[0].fill, "zero"));
		assert_int_equal(spec.vcpus, got[0].vcpus);
	}
}

static void refused(const char *text, const char *words)
{
	why[0] = '\0';
	assert_int_equal(bench_spec_parse(text, got, why), -EINVAL);
	if (!strstr(why, words))
		fail_msg("'%s' is refused by: %s", text, why);
	assert_null(strchr(why, '\n'));
}

static void test_refused(void **state)
{
	char many[4 * BENCH_WORKLOADS_MAX + 8] = "", longer[200];
	int i;

	(void)state;
	refused("", "empty");
	refused("hot;", "empty");
	refused(";hot", "empty");
	refused(",", "not a pattern");
	refused("cold", "'cold' is not a pattern");
	refused("pages=10", "not a pattern");
	refused("hot,pages", "'pages' is not KEY=VALUE");
	refused("hot,rate=3", "there is no 'rate'");
	refused("hot,pages=", "not ''");
	refused("hot,pages=0", "from 1 to");
	refused("hot,pages=-1", "not '-1'");
	refused("hot,pages= 1", "not ' 1'");
	refused("hot,pages=10x", "not '10x'");
	refused("hot,pages=99999999999999999999999", "from 1 to");
	refused("hot,interval=4", "from 5 to 60000");
	refused("hot,whole=101", "from 0 to 100");
	refused("hot,pages=1000000,interval=9,mem=9999", "a second");
	refused("hot,vcpus=17", "from 1 to 16");
	refused("hot,fill=one", "fill takes random or zero, not 'one'");
	refused("hot,fill=", "not ''");
	refused("redis,words=3", "there is no 'words' (pages, interval, mem)");
	refused("sqlite,vcpus=1", "there is no 'vcpus'");
	refused("redis,fill=zero", "there is no 'fill'");
	refused("redis,pages=1000000,interval=5", "a second");
	refused("redis-server", "not a pattern");
	refused("hot,mem=262145", "from 4 to 262144");
	refused("hot,mem=4,pages=1025", "no more than 1024 pages");
	refused("hot,mem=64,span=65", "span=65 is more than mem=64");
	refused("hot,span=4,pages=1025", "span=4 has no more than 1024 pages");
	refused("redis,span=4", "there is no 'span'");
	memset(longer, 'a', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	refused(longer, "too long");
	for (i = 0; i <= BENCH_WORKLOADS_MAX; i++)
		strcat(many, i ? ";hot" : "hot");
	refused(many, "more than");
}

static void test_an_option_given_twice(void **state)
{
	char *argv[] = { (char *)"bench",
			 (char *)"--workload=hot",
			 (char *)"--for=7",
			 (char *)"--runs=3",
			 (char *)"--workload=random;sequential",
			 NULL };
	struct settings set;

	(void)state;
	assert_int_equal(options_parse(ON_BENCH, 5, argv, &set), 5);
	assert_string_equal(set.workload, "hot;random;sequential");
	assert_int_equal(set.seconds, 7);
	assert_int_equal(set.runs, 3);
	assert_null(set.suite);
	settings_fini(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_not_said),
		cmocka_unit_test(test_all_that_can_be_said),
		cmocka_unit_test(test_the_default),
		cmocka_unit_test(test_the_suite),
		cmocka_unit_test(test_the_suite_of_scale),
		cmocka_unit_test(test_a_program),
		cmocka_unit_test(test_the_guest_understands_it),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_an_option_given_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
