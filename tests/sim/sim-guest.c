/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's own doings: it ends, does not suspend, suspends late. */
#include "config.h"

#include "tests/sim/scenario.h"

static bool a_has_ended(const struct world *w)
{
	return !w->host[A].colod;
}

static bool stands(const struct world *w)
{
	return w->host[A].guest.suspended;
}

static bool runs(const struct world *w)
{
	return guest_runs(&w->host[A]);
}

static bool skipped(const struct world *w)
{
	return w->primary.stats.skipped > 0;
}

static void test_poweroff(void **state)
{
	struct world *w = *state;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_GUEST, A, 0, 0);
	at_ms(when_b(w, SECONDARY_LISTENING), 1013.5);
	at_ms(when(w, a_has_ended), 1014);
	assert_int_equal(w->host[A].exit_status, EXIT_ENDED);
	assert_false(w->twin.exists);
}

/* It runs anew, and is protected anew. */
static void test_reboot(void **state)
{
	struct world *w = *state;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_GUEST, A, 1, 0);
	at_ms(when_b(w, SECONDARY_LISTENING), 1013.5);
	at_ms(when_a(w, PRIMARY_PROTECTED), 1271);
}

/* This checkpoint does not happen, the next one does. */
static void test_does_not_suspend(void **state)
{
	struct world *w = *state;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_FAIL, A, ENV_JOB_CAPTURE, 1);
	at_ms(when(w, skipped), 1012);
	up_to(w, 2000 * MS);
	assert_int_equal(w->primary.stats.skipped, 1);
	assert_int_equal(w->primary.state, PRIMARY_PROTECTED);
}

/* Pages of it are on the other side by then: it is gone on with. */
static void test_does_not_suspend_behind_its_pages(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;

	cfg.ahead = 1;
	scenario(w, &cfg);
	up_to(w, 1000 * MS);
	deed(w, DEED_FAIL, A, ENV_JOB_CAPTURE, 1);
	when(w, skipped);
	assert_int_equal(w->primary.epoch_count, 1);
	assert_true(w->primary.epochs[0].waits);
	up_to(w, 2000 * MS);
	assert_int_equal(w->primary.stats.skipped, 1);
	assert_int_equal(w->primary.stats.synchronisations, 1);
	assert_int_equal(w->primary.state, PRIMARY_PROTECTED);
	assert_true(w->secondary.committed > 10);
}

/* Protection is lost meanwhile: it is looked for every 100 ms all the same. */
static void test_suspends_late(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;

	cfg.fence_a = 0;
	cfg.fence_b = 0;
	scenario(w, &cfg);
	up_to(w, 1000 * MS);
	deed(w, DEED_LATE, A, 0, 450 * MS);
	deed(w, DEED_SLOW, A, ENV_JOB_CAPTURE, 290 * MS);
	deed(w, DEED_OFF, B, 0, 0);
	at_ms(when(w, stands), 1749.001);
	assert_int_equal(w->primary.state, PRIMARY_WAITING);
	at_ms(when(w, runs), 1803);
}

/* Killed while the guest stands: the guard makes it run. */
static void test_killed_in_capture(void **state)
{
	struct world *w = *state;
	unsigned int point;

	for (point = 1; point <= 3; point++) {
		scenario(w, &sim_usual);
		up_to(w, 1000 * MS);
		deed(w, DEED_DIE, A, point, 0);
		at_ms(when(w, a_has_ended), 1009);
		assert_true(stands(w));
		at_ms(when_b(w, SECONDARY_LOST), 1010.5);
		at_ms(when(w, runs), 1109);
	}
}

/* The guest's memory has changed its shape: from the image again. */
static void test_resync(void **state)
{
	struct world *w = *state;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_FAIL, A, ENV_JOB_CAPTURE, 2);
	at_ms(when_b(w, SECONDARY_DISCARDING), 1012.5);
	at_ms(when_a(w, PRIMARY_UNPROTECTED), 1013);
	at_ms(when_a(w, PRIMARY_PROTECTED), 1370);
}

/* Its image takes ten times what the peer may take for its part. */
static void test_suspends_slowly_for_the_image(void **state)
{
	struct world *w = *state;
	struct sim_config cfg = sim_usual;

	cfg.ack_timeout_us = 500 * MS;
	cfg.image_blocks = 1;
	scenario(w, &cfg);
	deed(w, DEED_SLOW, A, ENV_JOB_SYNC, 5 * SEC);
	at_ms(when_a(w, PRIMARY_PROTECTED), 5257);
	assert_int_equal(w->primary.stats.synchronisations, 1);
}

/* Stopped in order: the answer of b lets the output go. */
static void test_stop(void **state)
{
	struct world *w = *state;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_SIGTERM, A, 0, 0);
	assert_int_equal(w->gate.mode, GATE_HOLDS);
	at_ms(when(w, a_has_ended), 1001);
	assert_int_equal(w->host[A].exit_status, EXIT_ENDED);
	assert_int_equal(w->gate.mode, GATE_OPEN);
}

/* The same, and b does not hear it: what is held stays held. */
static void test_stop_unheard(void **state)
{
	struct world *w = *state;

	scenario(w, &sim_usual);
	up_to(w, 1000 * MS);
	deed(w, DEED_CUT, A, 0, 0);
	deed(w, DEED_SIGTERM, A, 0, 0);
	at_ms(when(w, a_has_ended), 1268);
	assert_int_equal(w->host[A].exit_status, EXIT_UNPROTECTED);
	assert_int_equal(w->gate.mode, GATE_HOLDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENARIO(test_poweroff),
		SCENARIO(test_reboot),
		SCENARIO(test_does_not_suspend),
		SCENARIO(test_does_not_suspend_behind_its_pages),
		SCENARIO(test_suspends_late),
		SCENARIO(test_killed_in_capture),
		SCENARIO(test_resync),
		SCENARIO(test_suspends_slowly_for_the_image),
		SCENARIO(test_stop),
		SCENARIO(test_stop_unheard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
