/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's output: when it leaves, and while what it is held. */
#include "config.h"

#include "tests/sim/scenario.h"

static uint64_t visible(const struct world *w)
{
	return w->lives[0].visible;
}

static bool holds_output(const struct world *w)
{
	return w->gate.mode == GATE_HOLDS && w->gate.count > 0;
}

static uint64_t seen_before;

static bool more_is_seen(const struct world *w)
{
	return visible(w) > seen_before;
}

/*
 * Standing 3 ms, encoding 2, three frames of 1, the way 0.5, decoding 1, the
 * way back 0.5: what was put out before the checkpoint leaves.
 */
static void test_leaves_with_ack(void **state)
{
	struct world *w = *state;
	uint64_t barrier_us;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	barrier_us = when(w, holds_output);
	seen_before = visible(w);
	at_ms(when(w, more_is_seen) - barrier_us, 10);
	assert_int_equal(w->primary.state, PRIMARY_PROTECTED);
}

/* Without a fence command both hold, until they see each other again. */
static void test_cut_both_hold(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;

	cfg.fence_a = cfg.fence_b = 0;
	scenario(w, &cfg);
	up_to(w, 1000 * MS);
	deed(w, DEED_CUT, A, 0, 0);
	deed(w, DEED_CUT, B, 0, 0);
	at_ms(when_b(w, SECONDARY_WAITING), 1267.5);
	at_ms(when_a(w, PRIMARY_WAITING), 1269);
	seen_before = visible(w);
	up_to(w, 60 * SEC);
	assert_int_equal(visible(w), seen_before);
	assert_true(guest_runs(&w->host[A]));
	assert_false(guest_runs(&w->host[B]));
	deed(w, DEED_MEND, A, 0, 0);
	deed(w, DEED_MEND, B, 0, 0);
	at_ms(when_a(w, PRIMARY_PROTECTED), 66526);
	assert_true(visible(w) > seen_before);
}

/* The operator has switched b off. */
static void test_operator_on_primary(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;

	cfg.fence_a = cfg.fence_b = 0;
	scenario(w, &cfg);
	up_to(w, 1000 * MS);
	deed(w, DEED_OFF, B, 0, 0);
	at_ms(when_a(w, PRIMARY_WAITING), 1269);
	seen_before = visible(w);
	up_to(w, 2500 * MS);
	assert_int_equal(w->primary.state, PRIMARY_WAITING);
	assert_int_equal(visible(w), seen_before);
	deed(w, DEED_FAILOVER, A, 0, 0);
	assert_int_equal(w->primary.state, PRIMARY_UNPROTECTED);
	assert_true(visible(w) > seen_before);
}

static void test_secondary_dies(void **state)
{
	struct world *w = *state;
	uint64_t last;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_OFF, B, 0, 0);
	last = alive_a(w);
	at_ms(when_a(w, PRIMARY_LOST) - last, 300);
	seen_before = visible(w);
	at_ms(when_a(w, PRIMARY_UNPROTECTED) - last, 1300);
	assert_true(visible(w) > seen_before);
}

static void test_fence_of_primary_fails(void **state)
{
	struct world *w = *state;
	uint64_t last;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_FENCE, A, FENCE_FAILS, 0);
	deed(w, DEED_OFF, B, 0, 0);
	last = alive_a(w);
	at_ms(when_a(w, PRIMARY_WAITING) - last, 1300);
	assert_int_equal(w->gate.mode, GATE_HOLDS);
}

/* What it sends does not arrive, what it should hear does. */
static void test_one_way_cut(void **state)
{
	struct world *w = *state;
	uint64_t last;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_CUT, A, 0, 0);
	last = alive_b(w);
	at_ms(when_b(w, SECONDARY_LOST) - last, 300);
	at_ms(when_a(w, PRIMARY_LOST), 1268);
	at_ms(when_b(w, SECONDARY_ACTIVE) - last, 1321);
	assert_false(w->host[A].up);
}

/* The next colod finds the gate closed, and who closed it knew why. */
static void test_gate_found_held(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;

	cfg.fence_a = cfg.fence_b = 0;
	scenario(w, &cfg);
	up_to(w, 1000 * MS);
	deed(w, DEED_CUT, A, 0, 0);
	deed(w, DEED_CRASH, A, 0, 0);
	seen_before = visible(w);
	up_to(w, 1100 * MS);
	deed(w, DEED_START, A, 0, 0);
	up_to(w, 20 * SEC);
	assert_int_equal(visible(w), seen_before);
	assert_int_equal(w->gate.mode, GATE_HOLDS);
	deed(w, DEED_MEND, A, 0, 0);
	at_ms(when_a(w, PRIMARY_PROTECTED), 22357);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENARIO(test_leaves_with_ack),
		SCENARIO(test_cut_both_hold),
		SCENARIO(test_operator_on_primary),
		SCENARIO(test_secondary_dies),
		SCENARIO(test_fence_of_primary_fails),
		SCENARIO(test_one_way_cut),
		SCENARIO(test_gate_found_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
