/* SPDX-License-Identifier: Apache-2.0 */
/* bench/stats.c, samples.c, runs.c: from lines to percentiles and medians. */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SECOND_US = 1000 * 1000 };

static void expect(uint64_t *values, size_t count, uint64_t min, uint64_t p50,
		   uint64_t p90, uint64_t p99, uint64_t max)
{
	struct bench_summary s;

	bench_summarize(values, count, &s);
	assert_int_equal(s.min, min);
	assert_int_equal(s.p50, p50);
	assert_int_equal(s.p90, p90);
	assert_int_equal(s.p99, p99);
	assert_int_equal(s.max, max);
}

/* Nearest rank: a value that was measured, and never above the last. */
static void test_percentiles(void **state)
{
	uint64_t one[] = { 7 }, two[] = { 9, 3 }, many[1000];
	uint64_t ten[] = { 10, 9, 8, 7, 6, 5, 4, 3, 2, 1 };
	uint64_t large[] = { UINT64_MAX, 0, UINT64_MAX - 1 };
	size_t i;

	(void)state;
	expect(one, 1, 7, 7, 7, 7, 7);
	expect(two, 2, 3, 3, 9, 9, 9);
	expect(ten, 10, 1, 5, 9, 10, 10);
	expect(large, 3, 0, UINT64_MAX - 1, UINT64_MAX, UINT64_MAX, UINT64_MAX);
	for (i = 0; i < 1000; i++)
		many[i] = i * 7919 % 1000 + 1;
	expect(many, 1000, 1, 500, 900, 990, 1000);
}

static void test_limit(void **state)
{
	double three[] = { 5, 1, 3 }, many[100];
	int i;

	(void)state;
	for (i = 0; i < 100; i++)
		many[i] = 100 - i;
	assert_true(bench_limit_of(three, 3) == 1);
	assert_true(bench_limit_of(many, 100) == 10);
}

static int take(struct bench_samples *s, const char *text)
{
	return bench_samples_line(s, text, strlen(text));
}

static const char *acknowledged(uint64_t time_us, unsigned int paused_us)
{
	static char line[512];

	snprintf(line, sizeof(line),
		 "{\"epoch\":1,\"end\":\"acknowledged\",\"time_us\":%" PRIu64
		 ",\"rounds\":1,\"dirty_pages\":10,\"raw_bytes\":40960,"
		 "\"sent_bytes\":4096,\"ahead_us\":1,\"suspend_us\":1,\"scan_"
		 "us\":100,"
		 "\"copy_us\":3,\"state_us\":4,\"resume_us\":5,"
		 "\"paused_us\":%u,\"encode_us\":6,\"send_us\":7,"
		 "\"ack_us\":600,\"commit_us\":9,\"applied\":2}",
		 time_us, paused_us);
	return line;
}

/* Five epochs, and what begins in the first half second. */
static void test_the_first_are_thrown_away(void **state)
{
	struct bench_samples s = { 0 };
	uint64_t i;

	(void)state;
	for (i = 0; i < 10; i++)
		assert_int_equal(
			take(&s, acknowledged(SECOND_US + i * 100000, 200)), 0);
	assert_int_equal(s.count, 5);
	assert_int_equal(s.warming, 5);
	bench_samples_fini(&s);
	for (i = 0; i < 10; i++)
		assert_int_equal(
			take(&s, acknowledged(SECOND_US + i * 60000, 200)), 0);
	assert_int_equal(s.count, 1);
	assert_int_equal(s.warming, 9);
	bench_samples_fini(&s);
	for (i = 0; i < 10; i++)
		assert_int_equal(
			take(&s, acknowledged((i + 1) * SECOND_US, 200)), 0);
	assert_int_equal(s.count, 5);
	bench_samples_fini(&s);
}

/* Ten pages a line: where more are wanted, until these were there. */
static void test_warm_by_pages(void **state)
{
	struct bench_samples s = { .warm_pages = 81 };
	uint64_t i;

	(void)state;
	for (i = 0; i < 12; i++)
		assert_int_equal(
			take(&s, acknowledged(SECOND_US + i * 200000, 200)), 0);
	assert_int_equal(s.warming, 9);
	assert_int_equal(s.count, 3);
	bench_samples_fini(&s);
	/* But not for ever. */
	s.warm_pages = 1000000;
	for (i = 0; i < 13; i++)
		assert_int_equal(
			take(&s, acknowledged((i + 1) * SECOND_US, 200)), 0);
	assert_int_equal(s.warming, 10);
	assert_int_equal(s.count, 3);
	bench_samples_fini(&s);
}

static void test_a_result(void **state)
{
	struct bench_result r = {
		.limits = { .pages = 100, .copy_us = 50, .wire_us = 300 },
		.cpu = { .pages = 2000, .us = { 4000, 2000 } },
	};
	uint64_t i;

	(void)state;
	for (i = 0; i < 1000; i++)
		assert_int_equal(take(&r.samples,
				      acknowledged((i + 1) * SECOND_US, 200)),
				 0);
	assert_int_equal(take(&r.samples, "{\"end\":\"skipped\",\"time_us\":1,"
					  "\"why\":\"late\"}"),
			 0);
	assert_int_equal(r.samples.count, 995);
	assert_int_equal(r.samples.skipped, 1);
	assert_int_equal(r.samples.aborted, 0);
	assert_int_equal(bench_result_summarize(&r), 0);
	bench_result_ratios(&r);
	assert_int_equal(r.summary[BENCH_pause_unscanned_us].p50, 100);
	assert_int_equal(r.summary[BENCH_suspend_us].max, 1);
	assert_int_equal(r.summary[BENCH_commit_us].p99, 9);
	assert_true(r.ratios.pause_to_copy == 2);
	assert_true(r.ratios.commit_to_wire == 2);
	assert_true(r.ratios.sent_to_raw == 0.1);
	assert_true(bench_result_cpu_us(&r) == 3);
	assert_true(r.ratios.cpu_to_copy == 6);
	assert_int_equal(r.runs, 1);
	assert_true(r.smallest.cpu_to_copy == 6 && r.largest.cpu_to_copy == 6);
	bench_samples_fini(&r.samples);
}

/* A run in which all is `n`, or follows from it. */
static void make_run(struct bench_result *r, unsigned int n)
{
	size_t f;

	memset(r, 0, sizeof(*r));
	r->samples.at = calloc(n, sizeof(*r->samples.at));
	r->samples.count = r->samples.room = n;
	r->samples.skipped = n;
	r->samples.aborted = 2 * n;
	r->samples.warming = 3 * n;
	for (f = 0; f < BENCH_FIGURE_COUNT; f++)
		r->summary[f] = (struct bench_summary){ n, 10 * n + f, 20 * n,
							30 * n, 40 * n };
	r->limits = (struct bench_limits){ 100 + n, n, 2 * n, 3 * n };
	r->cpu = (struct bench_cpu){ n, { 10 * n, 20 * n } };
	r->ratios = (struct bench_ratios){ n, 10 - n, 2 * n, 3 * n };
}

/* Each figure by itself: the median is not that of the median run. */
static void test_runs(void **state)
{
	static const unsigned int order[] = { 4, 1, 5, 2, 3 };
	struct bench_result runs[5], r = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < 5; i++)
		make_run(&runs[i], order[i]);
	assert_int_equal(bench_result_of_runs(&r, runs, 5), 0);
	assert_int_equal(r.runs, 5);
	for (i = 0; i < BENCH_FIGURE_COUNT; i++) {
		assert_int_equal(r.summary[i].min, 1);
		assert_int_equal(r.summary[i].p50, 30 + i);
		assert_int_equal(r.summary[i].p90, 60);
		assert_int_equal(r.summary[i].p99, 90);
		assert_int_equal(r.summary[i].max, 200);
	}
	assert_int_equal(r.limits.pages, 103);
	assert_true(r.limits.copy_us == 3 && r.limits.wire_us == 6 &&
		    r.limits.round_trip_us == 9);
	assert_true(r.ratios.pause_to_copy == 3 &&
		    r.smallest.pause_to_copy == 1 &&
		    r.largest.pause_to_copy == 5);
	assert_true(r.ratios.commit_to_wire == 7 &&
		    r.smallest.commit_to_wire == 5 &&
		    r.largest.commit_to_wire == 9);
	assert_true(r.ratios.cpu_to_copy == 9 && r.smallest.cpu_to_copy == 3 &&
		    r.largest.cpu_to_copy == 15);
	assert_int_equal(r.cpu.pages, 15);
	assert_int_equal(r.cpu.us[BENCH_PRIMARY], 150);
	assert_int_equal(r.cpu.us[BENCH_SECONDARY], 300);
	assert_int_equal(r.samples.count, 15);
	assert_int_equal(r.samples.skipped, 15);
	assert_int_equal(r.samples.aborted, 30);
	assert_int_equal(r.samples.warming, 45);
	for (i = 0; i < 5; i++)
		assert_null(runs[i].samples.at);
	bench_samples_fini(&r.samples);
}

/* Of an even number the lower of the two in the middle, which was measured. */
static void test_an_even_number_of_runs(void **state)
{
	struct bench_result runs[2], r = { 0 };

	(void)state;
	make_run(&runs[0], 5);
	make_run(&runs[1], 2);
	assert_int_equal(bench_result_of_runs(&r, runs, 2), 0);
	assert_int_equal(r.summary[0].p50, 20);
	assert_true(r.ratios.pause_to_copy == 2);
	bench_samples_fini(&r.samples);
}

static void test_no_epoch_log(void **state)
{
	static const char *const lines[] = {
		"",
		"{",
		"[]",
		"{\"end\":\"acknowledged\"}",
		"{\"end\":7,\"time_us\":1}",
		"{\"end\":\"acknowledged\",\"time_us\":1,\"scan_us\":\"x\"}",
	};
	struct bench_samples s = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_int_equal(take(&s, lines[i]), -EBADMSG);
	assert_int_equal(s.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_percentiles),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_the_first_are_thrown_away),
		cmocka_unit_test(test_warm_by_pages),
		cmocka_unit_test(test_a_result),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_an_even_number_of_runs),
		cmocka_unit_test(test_no_epoch_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
