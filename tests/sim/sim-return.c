/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that come back, and primaries that come back too late. */
#include "config.h"

#include "tests/sim/scenario.h"

static bool a_has_ended(const struct world *w)
{
	return !w->host[A].colod;
}

static bool image_is_blocked(const struct world *w)
{
	return w->primary.blocked;
}

static bool given_up(const struct world *w)
{
	return w->primary.resync_asked;
}

/* A reset: both come back, and begin with an image again. */
static void test_short_interruption(void **state)
{
	struct world *w = *state;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_BREAK, A, 2, 0);
	at_ms(when_a(w, PRIMARY_LOST), 1000);
	at_ms(when_b(w, SECONDARY_LOST), 1000);
	at_ms(when_a(w, PRIMARY_CONNECTING), 1100);
	at_ms(when_b(w, SECONDARY_DISCARDING), 1103.5);
	at_ms(when_a(w, PRIMARY_PROTECTED), 1357);
	assert_int_equal(w->primary.stats.losses, 0);
}

/*
 * Only the primary has noticed: for b the old connection lives, so the new one
 * is told that it is busy.  It is of the same protection, so b gives the old
 * one up, takes the next, and nobody is fenced.
 */
static void test_busy_with_old_connection(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;

	scenario(w, &cfg);
	up_to(w, 1000 * MS);
	deed(w, DEED_BREAK, A, 0, 0);
	at_ms(when_a(w, PRIMARY_LOST), 1000);
	at_ms(when_b(w, SECONDARY_LOST), 1103.5);
	at_ms(when_a(w, PRIMARY_PROTECTED), 1461);
	assert_true(w->host[A].up); /* nobody was fenced */
}

/* An epoch of the old connection arrives after that has been given up by a. */
static void test_late_frames(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;
	uint64_t before;

	cfg.fence_a = cfg.fence_b = 0;
	cfg.delay_us = 60 * MS;
	scenario(w, &cfg);
	up_to(w, 2000 * MS);
	before = w->secondary.committed;
	deed(w, DEED_BREAK, A, 0, 0);
	when_a(w, PRIMARY_LOST);
	up_to(w, 2060 * MS);
	assert_true(w->secondary.committed > before);
	when_a(w, PRIMARY_PROTECTED);
}

/* Without arbitration both run; who comes back yields. */
static void test_returning_primary_yields(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;

	cfg.fence_a = cfg.fence_b = 0;
	cfg.unsafe_b = 1;
	scenario(w, &cfg);
	up_to(w, 1000 * MS);
	deed(w, DEED_CUT, A, 0, 0);
	deed(w, DEED_CUT, B, 0, 0);
	at_ms(when_b(w, SECONDARY_ACTIVE), 1288.5);
	up_to(w, 5000 * MS);
	assert_int_equal(w->gate.mode, GATE_HOLDS);
	deed(w, DEED_MEND, A, 0, 0);
	deed(w, DEED_MEND, B, 0, 0);
	at_ms(when(w, a_has_ended), 10281);
	assert_int_equal(w->host[A].exit_status, EXIT_YIELDED);
	assert_true(w->host[A].guest.paused);
	assert_int_equal(w->gate.mode, GATE_DROPS);
	assert_true(guest_runs(&w->host[B]));
}

/* The same where the secondary has been started anew since. */
static void test_yields_to_a_new_colod(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;

	cfg.fence_a = cfg.fence_b = 0;
	cfg.unsafe_b = 1;
	scenario(w, &cfg);
	up_to(w, 1000 * MS);
	deed(w, DEED_CUT, A, 0, 0);
	deed(w, DEED_CUT, B, 0, 0);
	when_b(w, SECONDARY_ACTIVE);
	deed(w, DEED_CRASH, B, 0, 0);
	deed(w, DEED_START, B, 0, 0);
	deed(w, DEED_MEND, A, 0, 0);
	deed(w, DEED_MEND, B, 0, 0);
	when(w, a_has_ended);
	assert_int_equal(w->host[A].exit_status, EXIT_YIELDED);
	assert_true(w->host[A].guest.paused);
	assert_true(guest_runs(&w->host[B]));
}

/* A killed secondary leaves no standby that anybody could run. */
static void test_secondary_restarted(void **state)
{
	struct world *w = *state;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_CRASH, B, 0, 0);
	deed(w, DEED_START, B, 0, 0);
	at_ms(when_a(w, PRIMARY_LOST), 1001.5);
	at_ms(when_a(w, PRIMARY_PROTECTED), 1358.5);
}

/* B lives and removes its old standby: it takes nothing of the image. */
static void test_image_is_not_taken(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;

	cfg.ack_timeout_us = 500 * MS;
	cfg.image_blocks = 1;
	scenario(w, &cfg);
	up_to(w, 1000 * MS);
	deed(w, DEED_SLOW, B, ENV_JOB_DESTROY, 2 * SEC);
	deed(w, DEED_BREAK, A, 2, 0);
	at_ms(when_a(w, PRIMARY_SYNCING), 1102);
	at_ms(when(w, image_is_blocked), 1302);
	at_ms(when(w, given_up), 1901); /* a heartbeat looks */
	at_ms(when_a(w, PRIMARY_PROTECTED), 3390);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENARIO(test_short_interruption),
		SCENARIO(test_busy_with_old_connection),
		SCENARIO(test_late_frames),
		SCENARIO(test_returning_primary_yields),
		SCENARIO(test_yields_to_a_new_colod),
		SCENARIO(test_secondary_restarted),
		SCENARIO(test_image_is_not_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
