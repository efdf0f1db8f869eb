/* SPDX-License-Identifier: Apache-2.0 */
/* engine/secondary.c: the primary is gone, and who decides what then. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/engine-script.h"

enum { HOUR_S = 3600 };

static void an_hour(struct script *s)
{
	run_for(s, (uint64_t)HOUR_S * 1000 * MS);
}

static void to_fencing(struct script *s)
{
	script_secondary(s);
	s->secondary.cfg.fence = true;
	to_lost(s);
	run_for(s, LOST_US);
	expect(s, "fence");
	expect_state(s, "fencing");
}

static void to_waiting(struct script *s)
{
	script_secondary(s);
	to_lost(s);
	run_for(s, LOST_US);
	expect(s, "");
	expect_state(s, "waiting");
}

static void to_activating(struct script *s)
{
	to_fencing(s);
	done(s, ENV_JOB_FENCE, 0, 0, NULL);
	expect(s, "activate 1");
	expect_state(s, "activating");
}

static void to_active(struct script *s)
{
	to_activating(s);
	done(s, ENV_JOB_ACTIVATE, 1, 0, NULL);
	expect(s, "");
	expect_state(s, "active");
}

/* --- exact times -------------------------------------------------------- */

static void test_silence_then_fence(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.fence = true;
	to_standby(s);
	run_until(s, 130 * MS);
	simple(s, EVENT_ALIVE);
	run_until(s, 130 * MS + LOST_US - 1);
	expect(s, "");
	run_until(s, 130 * MS + LOST_US);
	expect(s, "disconnect -");
	expect_state(s, "standby"); /* until the connection has ended */
	link_down(s, "given up");
	expect_state(s, "lost");
	assert_string_equal(s->secondary.last_error,
			    "no sign of life from the primary for 300 ms");
	run_for(s, 0); /* the grace was the same silence */
	expect(s, "fence");
}

static void test_broken_link_has_grace(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.fence = true;
	to_standby(s);
	run_until(s, 130 * MS);
	simple(s, EVENT_ALIVE);
	run_until(s, 150 * MS);
	link_down(s, "reset");
	expect_state(s, "lost");
	run_until(s, 130 * MS + LOST_US - 1);
	expect(s, "");
	run_until(s, 130 * MS + LOST_US);
	expect(s, "fence");
}

static void test_no_heartbeats_once_lost(void **state)
{
	struct script *s = *state;
	unsigned int before;

	script_secondary(s);
	to_lost(s);
	before = s->heartbeats;
	an_hour(s);
	assert_int_equal(s->heartbeats, before);
}

/* --- who decides -------------------------------------------------------- */

static void test_fenced_takes_over(void **state)
{
	struct script *s = *state;

	to_fencing(s);
	an_hour(s);
	expect(s, "");
	done(s, ENV_JOB_FENCE, 0, 0, NULL);
	expect(s, "activate 1");
	done(s, ENV_JOB_ACTIVATE, 1, 0, NULL);
	expect_state(s, "active");
	assert_int_equal(s->secondary.stats.takeovers, 1);
	assert_int_equal(s->secondary.stats.activated_us, s->now_us);
}

static void test_failed_fence_waits(void **state)
{
	struct script *s = *state;

	to_fencing(s);
	done(s, ENV_JOB_FENCE, 0, -EIO, "exit status 1");
	an_hour(s);
	expect(s, "");
	expect_state(s, "waiting");
	assert_string_equal(s->secondary.last_error, "exit status 1");
	simple(s, EVENT_FAILOVER);
	expect(s, "activate 1");
}

static void test_no_fence_waits_for_the_operator(void **state)
{
	struct script *s = *state;

	to_waiting(s);
	an_hour(s);
	expect(s, "");
	expect_state(s, "waiting");
	simple(s, EVENT_FAILOVER);
	expect(s, "activate 1");
	done(s, ENV_JOB_ACTIVATE, 1, 0, NULL);
	expect_state(s, "active");
}

static void test_unsafe_takes_over_at_once(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.unsafe_no_fence = true;
	to_lost(s);
	run_for(s, LOST_US - 1);
	expect(s, "");
	run_for(s, 1);
	expect(s, "activate 1");
}

static void test_fence_goes_before_unsafe(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.unsafe_no_fence = true;
	s->secondary.cfg.fence = true;
	to_lost(s);
	run_for(s, LOST_US);
	expect(s, "fence");
	done(s, ENV_JOB_FENCE, 0, -ETIMEDOUT, "it did not end in time");
	an_hour(s);
	expect(s, "");
	expect_state(s, "waiting");
}

static void test_operator_need_not_wait_for_the_grace(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_lost(s);
	simple(s, EVENT_FAILOVER);
	expect(s, "activate 1");
	an_hour(s);
	expect(s, "");
}

static void test_failover_only_of_a_lost_primary(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	simple(s, EVENT_FAILOVER);
	expect_state(s, "listening");
	to_building(s);
	simple(s, EVENT_FAILOVER);
	expect(s, "");
	expect_state(s, "building");
	script_secondary(s);
	to_standby(s);
	simple(s, EVENT_FAILOVER);
	expect(s, "");
	expect_state(s, "standby");
	to_fencing(s);
	simple(s, EVENT_FAILOVER);
	expect(s, "");
	to_active(s);
	simple(s, EVENT_FAILOVER);
	expect(s, "");
	expect_state(s, "active");
}

static void test_malformed_link_waits(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.unsafe_no_fence = true;
	to_standby(s);
	event(s, &(struct event){ .type = EVENT_LINK_DOWN,
				  .error = -EPROTO,
				  .text = "a frame with a bad header" });
	an_hour(s);
	expect(s, "");
	expect_state(s, "waiting");
}

/* --- what is activated -------------------------------------------------- */

static void test_stored_epochs_are_applied_first(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.unsafe_no_fence = true;
	to_standby(s);
	stored(s, 1, 0, NULL);
	stored(s, 2, 0, NULL);
	simple(s, EVENT_ALIVE);
	link_down(s, "reset");
	run_for(s, LOST_US);
	/* The guest's thread does them in this order. */
	expect(s, "send ACK 1 applied 0; apply 1; "
		  "send ACK 2 applied 0; apply 2; activate 2");
	done(s, ENV_JOB_APPLY, 1, 0, NULL);
	done(s, ENV_JOB_APPLY, 2, 0, NULL);
	done(s, ENV_JOB_ACTIVATE, 2, 0, NULL);
	expect_state(s, "active");
	assert_int_equal(s->secondary.applied, 2);
}

static void test_activation_from_the_image_alone(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.unsafe_no_fence = true;
	to_standby(s);
	link_down(s, "reset");
	run_for(s, LOST_US);
	expect(s, "activate 0");
}

static void test_activation_fails(void **state)
{
	struct script *s = *state;

	to_activating(s);
	done(s, ENV_JOB_ACTIVATE, 1, -EIO, "no such device");
	expect(s, "");
	expect_state(s, "waiting");
	assert_string_equal(s->secondary.last_error, "no such device");
	assert_int_equal(s->secondary.stats.takeovers, 0);
	simple(s, EVENT_FAILOVER); /* the operator may have mended it */
	expect(s, "activate 1");
}

/* --- the primary is back ------------------------------------------------ */

static void is_rebuilt(struct script *s)
{
	domain_of(s, "web", 1);
	expect(s, "destroy");
	expect_state(s, "discarding");
	run_for(s, 200 * MS); /* it sees that we live */
	assert_int_equal(due(s, ENV_TIMER_HEARTBEAT),
			 elapsed(s) + HEARTBEAT_US);
	done(s, ENV_JOB_DESTROY, 0, 0, NULL);
	expect(s, "build");
	expect_state(s, "building");
	assert_int_equal(s->secondary.committed, 0);
	image_end(s, 0);
	done(s, ENV_JOB_BUILD, 0, 0, NULL);
	expect(s, "send ACK 0 applied 0");
	stored(s, 1, 0, NULL);
	expect(s, "send ACK 1 applied 0; apply 1");
	expect_state(s, "standby");
}

static void test_back_within_grace(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_lost(s);
	run_for(s, LOST_US - 1);
	is_rebuilt(s);
}

static void test_back_while_waiting(void **state)
{
	struct script *s = *state;

	to_waiting(s);
	an_hour(s);
	is_rebuilt(s);
}

static void test_back_and_gone_again(void **state)
{
	struct script *s = *state;

	to_waiting(s);
	domain_of(s, "web", 1);
	link_down(s, "reset");
	done(s, ENV_JOB_DESTROY, 0, 0, NULL);
	expect(s, "destroy");
	expect_state(s, "listening");
	to_building(s);
}

/* --- the guest runs here ------------------------------------------------ */

static void test_active_guest_is_watched(void **state)
{
	struct script *s = *state;

	to_active(s);
	run_for(s, 1000 * MS - 1);
	expect(s, "");
	run_for(s, 1);
	expect(s, "status");
	done_guest(s, ENV_JOB_STATUS, 0, GUEST_RUNNING);
	run_for(s, 1000 * MS);
	expect(s, "status");
	done_guest(s, ENV_JOB_STATUS, 0, GUEST_REBOOT);
	expect(s, "after-shutdown");
	done_again(s, true);
	run_for(s, 1000 * MS);
	expect(s, "status");
	done_guest(s, ENV_JOB_STATUS, 0, GUEST_POWEROFF);
	expect(s, "after-shutdown");
	done_again(s, false);
	expect_state(s, "listening");
	to_building(s);
}

/* --- the operator stops it ---------------------------------------------- */

/* Two requests within ten seconds; the second does what `then` says. */
static void refused_once(struct script *s, const char *then)
{
	const char *state = script_state(s);

	simple(s, EVENT_STOP);
	expect(s, "");
	expect_state(s, state);
	run_for(s, 10 * 1000 * MS); /* too late for a second */
	simple(s, EVENT_STOP);
	expect(s, "");
	expect_state(s, state);
	run_for(s, 10 * 1000 * MS - 1);
	simple(s, EVENT_STOP);
	expect(s, then);
}

static void ends_after_destroy(struct script *s)
{
	expect_state(s, "discarding");
	done(s, ENV_JOB_DESTROY, 0, 0, NULL);
	expect(s, "finish 0");
}

static void test_stop_is_refused_once_while_waiting(void **state)
{
	struct script *s = *state;

	to_waiting(s);
	refused_once(s, "destroy");
	ends_after_destroy(s);
}

static void test_stop_is_refused_once_while_fencing(void **state)
{
	struct script *s = *state;

	to_fencing(s);
	refused_once(s, "cancel fence");
	done(s, ENV_JOB_FENCE, 0, -ECANCELED, "it was cancelled");
	expect(s, "destroy");
	ends_after_destroy(s);
}

static void test_stop_is_refused_once_while_lost(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_lost(s);
	simple(s, EVENT_STOP);
	expect(s, "");
	expect_state(s, "lost");
	run_for(s, 100 * MS);
	simple(s, EVENT_STOP);
	expect(s, "destroy");
	an_hour(s);
	expect(s, "");
	done(s, ENV_JOB_DESTROY, 0, 0, NULL);
	expect(s, "finish 0");
}

/* The command was faster than its cancellation. */
static void test_fence_that_succeeds_after_the_stop(void **state)
{
	struct script *s = *state;

	to_fencing(s);
	simple(s, EVENT_STOP);
	simple(s, EVENT_STOP);
	done(s, ENV_JOB_FENCE, 0, 0, NULL);
	expect(s, "cancel fence; destroy");
	ends_after_destroy(s);
}

static void test_stop_does_not_interrupt_a_takeover(void **state)
{
	struct script *s = *state;

	to_activating(s);
	simple(s, EVENT_STOP);
	expect(s, "");
	done(s, ENV_JOB_ACTIVATE, 1, 0, NULL);
	expect(s, "finish 0"); /* and the guest runs on */
	expect_state(s, "ended");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_TEST(test_silence_then_fence),
		SCRIPT_TEST(test_broken_link_has_grace),
		SCRIPT_TEST(test_no_heartbeats_once_lost),
		SCRIPT_TEST(test_fenced_takes_over),
		SCRIPT_TEST(test_failed_fence_waits),
		SCRIPT_TEST(test_no_fence_waits_for_the_operator),
		SCRIPT_TEST(test_unsafe_takes_over_at_once),
		SCRIPT_TEST(test_fence_goes_before_unsafe),
		SCRIPT_TEST(test_operator_need_not_wait_for_the_grace),
		SCRIPT_TEST(test_failover_only_of_a_lost_primary),
		SCRIPT_TEST(test_malformed_link_waits),
		SCRIPT_TEST(test_stored_epochs_are_applied_first),
		SCRIPT_TEST(test_activation_from_the_image_alone),
		SCRIPT_TEST(test_activation_fails),
		SCRIPT_TEST(test_back_within_grace),
		SCRIPT_TEST(test_back_while_waiting),
		SCRIPT_TEST(test_back_and_gone_again),
		SCRIPT_TEST(test_active_guest_is_watched),
		SCRIPT_TEST(test_stop_is_refused_once_while_waiting),
		SCRIPT_TEST(test_stop_is_refused_once_while_fencing),
		SCRIPT_TEST(test_stop_is_refused_once_while_lost),
		SCRIPT_TEST(test_fence_that_succeeds_after_the_stop),
		SCRIPT_TEST(test_stop_does_not_interrupt_a_takeover),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
