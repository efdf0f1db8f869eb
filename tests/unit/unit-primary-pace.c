/* SPDX-License-Identifier: Apache-2.0 */
/* engine/primary_epochs.c: an interval that is adapted to the guest. */
#include "config.h"

#include "tests/unit/engine-script.h"

/* Protected, with an interval that may grow to ten times its least. */
static void to_adapted(struct script *s)
{
	script_primary(s);
	s->primary.cfg.pace = (struct pace_config){
		.min_us = INTERVAL_US,
		.max_us = 10 * INTERVAL_US,
		.overhead_percent = 10,
	};
	to_protected(s);
}

/* An acknowledged epoch, encoded and sent, in which it was paused so long. */
static void paced_epoch(struct script *s, uint64_t n, uint64_t paused_us,
			uint64_t pages)
{
	captured(s, n, 0, false);
	primary_epoch(&s->primary, n)->paused_us = paused_us;
	primary_epoch(&s->primary, n)->pages = pages;
	done(s, ENV_JOB_ENCODE, n, 0, NULL);
	ack(s, n, n - 1);
}

/* The checkpoint that is next comes by what the one before has told. */
static void test_the_pace_moves_the_next(void **state)
{
	struct script *s = *state;
	uint64_t interval;

	to_adapted(s);
	assert_int_equal(due(s, ENV_TIMER_EPOCH), INTERVAL_US);
	paced_epoch(s, 1, 100 * MS, 5000);
	interval = s->primary.pace.interval_us;
	assert_true(interval > INTERVAL_US);
	assert_int_equal(due(s, ENV_TIMER_EPOCH), interval);
	expect(s, "encode 1");
	run_alive_until(s, interval);
	expect(s, "capture 2");
	run_alive_until(s, interval + 20 * MS);
	for (unsigned int n = 2; n < 30; n++) {
		uint64_t from = elapsed(s);

		paced_epoch(s, n, 1 * MS, 5000);
		assert_true(due(s, ENV_TIMER_EPOCH) >= from);
		run_alive_until(s, due(s, ENV_TIMER_EPOCH));
		assert_true(s->jobs[ENV_JOB_CAPTURE]);
	}
	assert_int_equal(s->primary.pace.interval_us, INTERVAL_US);
	assert_int_equal(s->primary.stats.stretched, 0);
}

/* It was due before all that, and waits for its turn as it would have. */
static void test_the_pace_leaves_what_is_due(void **state)
{
	struct script *s = *state;

	to_adapted(s);
	run_alive_until(s, 2 * INTERVAL_US);
	captured(s, 1, 0, false);
	expect(s, "encode 1; capture 2");
	primary_epoch(&s->primary, 1)->paused_us = 100 * MS;
	run_alive_until(s, 4 * INTERVAL_US);
	assert_true(s->primary.epoch_due);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	ack(s, 1, 0);
	expect(s, "");
	captured(s, 2, 0, false);
	expect(s, "encode 2; capture 3");
}

/* A new image has a pace of its own. */
static void test_the_pace_begins_anew(void **state)
{
	struct script *s = *state;

	to_adapted(s);
	paced_epoch(s, 1, 100 * MS, 5000);
	assert_true(s->primary.pace.interval_us > INTERVAL_US);
	expect(s, "encode 1");
	link_down(s, "reset");
	run_for(s, RETRY_US);
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 8);
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	ack(s, 0, 0);
	expect_state(s, "protected");
	assert_int_equal(s->primary.pace.interval_us, INTERVAL_US);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_TEST(test_the_pace_moves_the_next),
		SCRIPT_TEST(test_the_pace_leaves_what_is_due),
		SCRIPT_TEST(test_the_pace_begins_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
