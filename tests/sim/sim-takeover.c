/* SPDX-License-Identifier: Apache-2.0 */
/* The primary's host is gone, or seems to be: when the standby takes over. */
#include "config.h"

#include "tests/sim/scenario.h"

static uint64_t visible(const struct world *w)
{
	return w->lives[0].visible;
}

/* Silence is noticed 300 ms after the last frame, then the fence command. */
static void test_host_dies(void **state)
{
	struct world *w = *state;
	uint64_t last;

	scenario(w, &sim_usual);
	at_ms(when_a(w, PRIMARY_PROTECTED), 257);
	up_to(w, 1000 * MS);
	deed(w, DEED_OFF, A, 0, 0);
	last = alive_b(w);
	at_ms(last, 967.5);
	at_ms(when_b(w, SECONDARY_LOST) - last, 300);
	at_ms(when_b(w, SECONDARY_FENCING) - last, 300);
	at_ms(when_b(w, SECONDARY_ACTIVATING) - last, 1300);
	at_ms(when_b(w, SECONDARY_ACTIVE) - last, 1321);
	assert_true(guest_runs(&w->host[B]));
}

/* A reset tells at once; the primary keeps its time to come back. */
static void test_process_dies(void **state)
{
	struct world *w = *state;
	uint64_t last;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_CRASH, A, 0, 0);
	last = alive_b(w);
	at_ms(when_b(w, SECONDARY_LOST), 1001.5);
	at_ms(when_b(w, SECONDARY_FENCING) - last, 300);
	at_ms(when_b(w, SECONDARY_ACTIVE) - last, 1321);
	assert_false(w->host[A].up);
}

static bool epoch_is_filling(const struct world *w)
{
	return w->filling && w->filling_epoch == 5 && w->filling_pages;
}

/* What was on its way and not whole is not part of what takes over. */
static void test_partial_epoch(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;
	uint64_t whole;

	cfg.bulk_us = 10 * MS;
	scenario(w, &cfg);
	when(w, epoch_is_filling);
	whole = w->committed_at.count;
	link_break(w, false, false, 0); /* the rest is lost with the host */
	w->message_count = 0;
	deed(w, DEED_OFF, A, 0, 0);
	when_b(w, SECONDARY_ACTIVATING);
	assert_int_equal(w->secondary.committed, 4);
	assert_int_equal(w->committed_at.count, whole);
	when_b(w, SECONDARY_ACTIVE);
	assert_true(visible(w) <= whole);
}

/* All that is committed is applied before the standby runs. */
static void test_applied_first(void **state)
{
	struct world *w = *state;

	scenario(w, &sim_usual);
	up_to(w, 900 * MS);
	deed(w, DEED_SLOW, B, ENV_JOB_APPLY, 5 * SEC);
	up_to(w, 1000 * MS);
	deed(w, DEED_OFF, A, 0, 0);
	when_b(w, SECONDARY_ACTIVATING);
	assert_true(w->secondary.applied < w->secondary.committed);
	at_ms(when_b(w, SECONDARY_ACTIVE), 5943.5);
	assert_int_equal(w->secondary.applied, w->secondary.committed);
}

/* A command that hangs decides nothing when its time is over. */
static void test_fence_hangs(void **state)
{
	struct world *w = *state;
	uint64_t last;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_FENCE, B, FENCE_HANGS, 0);
	deed(w, DEED_OFF, A, 0, 0);
	last = alive_b(w);
	at_ms(when_b(w, SECONDARY_WAITING) - last, 30300);
	up_to(w, 60 * SEC);
	assert_false(guest_runs(&w->host[B]));
	deed(w, DEED_FAILOVER, B, 0, 0);
	at_ms(when_b(w, SECONDARY_ACTIVE), 60021);
}

static void test_fence_fails(void **state)
{
	struct world *w = *state;
	uint64_t last;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_FENCE, B, FENCE_FAILS, 0);
	deed(w, DEED_OFF, A, 0, 0);
	last = alive_b(w);
	at_ms(when_b(w, SECONDARY_WAITING) - last, 1300);
}

static void test_no_fence(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;
	uint64_t last;

	cfg.fence_a = cfg.fence_b = 0;
	scenario(w, &cfg);
	up_to(w, 1000 * MS);
	deed(w, DEED_OFF, A, 0, 0);
	last = alive_b(w);
	at_ms(when_b(w, SECONDARY_WAITING) - last, 300);
	up_to(w, 20 * SEC);
	deed(w, DEED_FAILOVER, B, 0, 0);
	at_ms(when_b(w, SECONDARY_ACTIVE), 20021);
}

/* A clock that is 2 % fast counts 300 ms in 294.2. */
static void test_fast_clock(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;
	uint64_t lost_us;

	cfg.drift_b_ppm = 20000;
	scenario(w, &cfg);
	up_to(w, 1000 * MS);
	deed(w, DEED_OFF, A, 0, 0);
	lost_us = when_b(w, SECONDARY_LOST);
	at_ms(lost_us, 1261.618);
	at_ms(when_b(w, SECONDARY_ACTIVE) - lost_us, 1021);
}

/* Whoever is first wins: the other host is down before its command ends. */
static void test_both_fence(void **state)
{
	struct world *w = *state;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_CUT, A, 0, 0);
	deed(w, DEED_CUT, B, 0, 0);
	at_ms(when_b(w, SECONDARY_FENCING), 1267.5);
	at_ms(when_a(w, PRIMARY_FENCING), 1269);
	at_ms(when_b(w, SECONDARY_ACTIVE), 2288.5);
	assert_false(w->host[A].up);
	assert_int_equal(w->lives[0].visible, w->lives[1].branch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENARIO(test_host_dies),     SCENARIO(test_process_dies),
		SCENARIO(test_partial_epoch), SCENARIO(test_applied_first),
		SCENARIO(test_fence_hangs),   SCENARIO(test_fence_fails),
		SCENARIO(test_no_fence),      SCENARIO(test_fast_clock),
		SCENARIO(test_both_fence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
