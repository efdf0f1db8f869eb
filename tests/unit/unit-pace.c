/* SPDX-License-Identifier: Apache-2.0 */
/* engine/pace.c: when the next checkpoint starts. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/pace.h"

enum { MS = 1000, BUSY = 5000, IDLE = 40, MANY = 200 };

/* Paused, pages, bytes, and until it was acknowledged. */
#define EPOCH(paused, n, sent, commit)                          \
	{                                                       \
		.paused_us = paused, .pages = n, .bytes = sent, \
		.commit_us = commit                             \
	}

static const struct pace_config range = {
	.min_us = 20 * MS,
	.max_us = 1000 * MS,
	.overhead_percent = 10,
};

/* Many epochs that are all the same. */
static struct pace settle(const struct pace_config *cfg, struct pace p,
			  struct pace_epoch seen)
{
	for (int i = 0; i < MANY; i++)
		p = pace_next(cfg, &p, &seen);
	return p;
}

static struct pace settled(const struct pace_config *cfg,
			   struct pace_epoch seen)
{
	return settle(cfg, pace_start(cfg), seen);
}

static void expect_pace(struct pace p, uint64_t us, enum pace_rule rule)
{
	assert_int_equal(p.interval_us, us);
	assert_string_equal(pace_rule_text(p.rule), pace_rule_text(rule));
}

static void test_one_number_is_never_adapted(void **state)
{
	static const struct pace_config fixed = {
		.min_us = 100 * MS,
		.max_us = 100 * MS,
		.overhead_percent = 1,
		.latency_us = 1,
		.bytes_per_s = 1,
	};
	static const struct pace_epoch hard =
		EPOCH(90 * MS, BUSY, 1 << 30, 500 * MS);

	(void)state;
	expect_pace(pace_start(&fixed), 100 * MS, PACE_FIXED);
	expect_pace(settled(&fixed, hard), 100 * MS, PACE_FIXED);
}

static void test_begins_with_the_shortest(void **state)
{
	(void)state;
	expect_pace(pace_start(&range), 20 * MS, PACE_MIN);
}

static void test_a_light_pause_leaves_the_shortest(void **state)
{
	static const struct pace_epoch seen = EPOCH(1999, BUSY, 0, 5 * MS);

	(void)state;
	expect_pace(settled(&range, seen), 20 * MS, PACE_MIN);
}

static void test_overhead_is_kept(void **state)
{
	static const struct pace_epoch seen = EPOCH(12 * MS, BUSY, 0, 5 * MS);
	struct pace_config half = range;

	(void)state;
	half.overhead_percent = 50;
	expect_pace(settled(&range, seen), 120 * MS, PACE_OVERHEAD);
	expect_pace(settled(&half, seen), 24 * MS, PACE_OVERHEAD);
}

static void test_rate_is_kept(void **state)
{
	static const struct pace_epoch seen =
		EPOCH(1 * MS, BUSY, 3000000, 5 * MS);
	struct pace_config slow = range;

	(void)state;
	slow.bytes_per_s = 10000000;
	expect_pace(settled(&slow, seen), 300 * MS, PACE_RATE);
}

/* What is too much to count is too much. */
static void test_no_overflow(void **state)
{
	static const struct pace_epoch seen =
		EPOCH(1 * MS, BUSY, UINT64_MAX / 1000000 + 1, 5 * MS);
	struct pace_config slow = range;

	(void)state;
	slow.bytes_per_s = 1000;
	expect_pace(settled(&slow, seen), 1000 * MS, PACE_RATE);
}

/* Whichever asks for more. */
static void test_overhead_and_rate(void **state)
{
	static const struct pace_epoch seen =
		EPOCH(40 * MS, BUSY, 3000000, 5 * MS);
	struct pace_config slow = range;

	(void)state;
	slow.bytes_per_s = 10000000;
	expect_pace(settled(&slow, seen), 400 * MS, PACE_OVERHEAD);
}

static void test_never_beyond_the_bounds(void **state)
{
	static const struct pace_epoch seen =
		EPOCH(900 * MS, BUSY, UINT64_MAX, UINT64_MAX);
	struct pace_config all = range;

	(void)state;
	expect_pace(settled(&range, seen), 1000 * MS, PACE_OVERHEAD);
	all.bytes_per_s = 1;
	all.latency_us = 1;
	all.max_us = 60000 * MS;
	assert_int_equal(settled(&all, seen).interval_us, 60000 * MS);
}

static void test_idle_guest_has_the_longest(void **state)
{
	static const struct pace_epoch seen = EPOCH(1 * MS, IDLE, 1000, 5 * MS);

	(void)state;
	expect_pace(settled(&range, seen), 1000 * MS, PACE_IDLE);
}

/*
 * By the time that has passed: one whose epochs take a second, for its devices,
 * is as idle as one whose interval is that long.
 */
static void test_idle_by_the_second(void **state)
{
	struct pace_epoch seen = EPOCH(1 * MS, 900, 0, 5 * MS);

	(void)state;
	seen.span_us = 1000 * MS;
	expect_pace(settled(&range, seen), 1000 * MS, PACE_IDLE);
	seen.span_us = 900 * MS;
	expect_pace(settled(&range, seen), 20 * MS, PACE_MIN);
}

static void test_latency_bounds_the_idle(void **state)
{
	static const struct pace_epoch seen = EPOCH(1 * MS, IDLE, 0, 30 * MS);
	struct pace_config prompt = range;

	(void)state;
	prompt.latency_us = 200 * MS;
	expect_pace(settled(&prompt, seen), 170 * MS, PACE_LATENCY);
	prompt.latency_us = 5000 * MS; /* more than may be */
	expect_pace(settled(&prompt, seen), 1000 * MS, PACE_IDLE);
	prompt.latency_us = 10 * MS; /* cannot be kept */
	expect_pace(settled(&prompt, seen), 20 * MS, PACE_MIN);
}

/* The guest's time counts more than what its output waits for. */
static void test_overhead_before_latency(void **state)
{
	static const struct pace_epoch seen = EPOCH(30 * MS, IDLE, 0, 30 * MS);
	struct pace_config prompt = range;

	(void)state;
	prompt.latency_us = 200 * MS;
	expect_pace(settled(&prompt, seen), 300 * MS, PACE_OVERHEAD);
}

static void test_load_is_answered_at_once(void **state)
{
	static const struct pace_epoch idle = EPOCH(1 * MS, IDLE, 0, 5 * MS);
	static const struct pace_epoch busy = EPOCH(1 * MS, BUSY, 0, 5 * MS);
	struct pace p = settled(&range, idle);

	(void)state;
	p = pace_next(&range, &p, &busy);
	expect_pace(p, 20 * MS, PACE_MIN);
}

/* A single long pause is not a change of load. */
static void test_grows_by_a_quarter(void **state)
{
	static const struct pace_epoch light = EPOCH(1 * MS, BUSY, 0, 5 * MS);
	static const struct pace_epoch odd = EPOCH(500 * MS, BUSY, 0, 5 * MS);
	struct pace p = settled(&range, light);

	(void)state;
	p = pace_next(&range, &p, &odd);
	expect_pace(p, 25 * MS + 1, PACE_OVERHEAD);
	p = pace_next(&range, &p, &odd);
	assert_in_range(p.interval_us, 31 * MS, 32 * MS);
	assert_int_equal(settle(&range, p, light).interval_us, 20 * MS);
}

/* The first epoch is all that is known; later ones count a quarter. */
static void test_mean(void **state)
{
	static const struct pace_epoch first = EPOCH(800, 400, 40, 4000);
	static const struct pace_epoch second = EPOCH(400, 800, 80, 8000);
	struct pace p = pace_start(&range);

	(void)state;
	p = pace_next(&range, &p, &first);
	assert_memory_equal(&p.mean, &first, sizeof(first));
	p = pace_next(&range, &p, &second);
	assert_int_equal(p.mean.paused_us, 700);
	assert_int_equal(p.mean.pages, 500);
	assert_int_equal(p.mean.bytes, 50);
	assert_int_equal(p.mean.commit_us, 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_number_is_never_adapted),
		cmocka_unit_test(test_begins_with_the_shortest),
		cmocka_unit_test(test_a_light_pause_leaves_the_shortest),
		cmocka_unit_test(test_overhead_is_kept),
		cmocka_unit_test(test_rate_is_kept),
		cmocka_unit_test(test_no_overflow),
		cmocka_unit_test(test_overhead_and_rate),
		cmocka_unit_test(test_never_beyond_the_bounds),
		cmocka_unit_test(test_idle_guest_has_the_longest),
		cmocka_unit_test(test_idle_by_the_second),
		cmocka_unit_test(test_latency_bounds_the_idle),
		cmocka_unit_test(test_overhead_before_latency),
		cmocka_unit_test(test_load_is_answered_at_once),
		cmocka_unit_test(test_grows_by_a_quarter),
		cmocka_unit_test(test_mean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
