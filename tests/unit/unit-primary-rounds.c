/* SPDX-License-Identifier: Apache-2.0 */
/* engine/primary_epochs.c: epochs that are taken in several rounds. */
#include "config.h"

#include <errno.h>

#include "tests/unit/engine-script.h"

static void test_partial_epoch_has_another_round(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, true);
	expect(s, "encode 1");
	run_until(s, 2 * INTERVAL_US);
	expect(s, ""); /* due, but the round before is not encoded */
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	expect(s, "capture 1");
	captured(s, 1, 0, true);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	expect(s, "encode 1; capture 1");
	captured(s, 1, 0, false);
	expect(s, "encode 1; capture 2"); /* long due */
	assert_int_equal(primary_epoch(&s->primary, 1)->rounds, 3);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	ack(s, 1, 0);
	expect(s, "");
	assert_int_equal(s->primary.stats.captured, 1);
	assert_int_equal(s->primary.stats.acknowledged, 1);
}

static void test_ack_of_a_partial_epoch_is_unexpected(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, true);
	ack(s, 1, 0);
	expect(s, "encode 1; disconnect PROTOCOL");

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, true);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	expect(s, "encode 1; capture 1");
	ack(s, 1, 0);
	expect(s, "disconnect PROTOCOL");
	assert_int_equal(s->primary.stats.acknowledged, 0);
}

/* Its pages are with the peer, so it is gone on with, in its turn. */
static void test_a_round_that_is_skipped_comes_later(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, true);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	run_until(s, 10 * MS);
	captured(s, 1, -ETIMEDOUT, false);
	expect(s, "encode 1; capture 1");
	run_until(s, INTERVAL_US - 1);
	expect(s, "");
	run_until(s, INTERVAL_US);
	expect(s, "capture 1");
	captured(s, 1, -ETIMEDOUT, false);
	run_alive_until(s, 2 * INTERVAL_US);
	expect(s, "capture 1");
	assert_int_equal(s->primary.stats.skipped, 2);
	assert_int_equal(s->in_flight_max, 1);
	captured(s, 1, 0, false);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	ack(s, 1, 0);
	expect(s, "encode 1");
	run_alive_until(s, 3 * INTERVAL_US);
	expect(s, "capture 2; status");
	assert_int_equal(s->primary.stats.captured, 1);
	expect_state(s, "protected");
}

/* It waits for the encoder too, as any round. */
static void test_a_round_that_is_skipped_behind_another_epoch(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, false);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	run_until(s, INTERVAL_US);
	captured(s, 2, 0, true);
	done(s, ENV_JOB_ENCODE, 2, 0, NULL);
	captured(s, 2, -EBUSY, false);
	expect(s, "encode 1; capture 2; encode 2; capture 2");
	ack(s, 1, 0);
	expect(s, "");
	run_alive_until(s, 2 * INTERVAL_US);
	expect(s, "capture 2");
	captured(s, 2, -ESTALE, false);
	expect(s, "send BYE RESYNC");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_TEST(test_partial_epoch_has_another_round),
		SCRIPT_TEST(test_ack_of_a_partial_epoch_is_unexpected),
		SCRIPT_TEST(test_a_round_that_is_skipped_comes_later),
		SCRIPT_TEST(test_a_round_that_is_skipped_behind_another_epoch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
