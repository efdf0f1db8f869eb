/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary and its guest's output: what is let go, and when.
 *
 * The rule: output leaves when its epoch is acknowledged; all of it flows when
 * it is certain that no standby can take over; otherwise it is held.
 */
#include "config.h"

#include "tests/unit/engine-script.h"

#include <errno.h>

static void gated(struct script *s)
{
	script_primary(s);
	s->primary.cfg.gate = true;
}

/* An epoch is acknowledged at 0 ms, the peer lives until 10 ms. */
static void gated_protected(struct script *s)
{
	simple(s, EVENT_START);
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	expect(s, "connect; send HELLO; sync");
	ack(s, 0, 0);
	expect(s, "release 0; capture 1");
	one_epoch(s, 1);
	expect(s, "encode 1; release 1");
	run_until(s, 10 * MS);
	simple(s, EVENT_ALIVE);
}

static void refuse_until(struct script *s, uint64_t elapsed_us)
{
	while (elapsed(s) < elapsed_us) {
		run_for(s, 10 * MS);
		if (s->link == CONNECTING)
			link_down(s, "refused");
	}
	s->actions[0] = '\0';
}

static void gated_lost(struct script *s)
{
	gated_protected(s);
	link_down(s, "reset");
	expect(s, "");
	expect_state(s, "lost");
}

static void gated_waiting(struct script *s)
{
	gated(s);
	gated_lost(s);
	refuse_until(s, 10 * MS + LOST_US);
	expect_state(s, "waiting");
}

/* --- while protected ---------------------------------------------------- */

static void test_released_by_the_acknowledgement_only(void **state)
{
	struct script *s = *state;

	gated(s);
	gated_protected(s);
	run_until(s, INTERVAL_US);
	expect(s, "capture 2");
	captured(s, 2, 0, false);
	done(s, ENV_JOB_ENCODE, 2, 0, NULL);
	run_for(s, 10 * MS);
	expect(s, "encode 2");
	ack(s, 2, 1);
	expect(s, "release 2");
}

static void test_wrong_acknowledgement_releases_nothing(void **state)
{
	struct script *s = *state;

	gated(s);
	gated_protected(s);
	ack(s, 2, 1);
	expect(s, "disconnect PROTOCOL");
}

static void test_without_a_gate_there_are_no_orders(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	one_epoch(s, 1);
	expect(s, "encode 1");
}

/* --- the peer is lost --------------------------------------------------- */

static void test_undecided_holds(void **state)
{
	struct script *s = *state;

	gated_waiting(s);
	assert_int_equal(s->primary.stats.losses, 1);
	refuse_until(s, 20 * RETRY_US);
	expect_state(s, "waiting");
	assert_int_equal(s->primary.stats.losses, 1);
	assert_true(s->primary.gate_closed);
}

/* A disk was attached while it was not protected, or to be again. */
static void test_a_guest_that_is_gated_later_holds(void **state)
{
	struct script *s = *state;

	script_primary(s);
	simple(s, EVENT_START);
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	primary_gated(&s->primary);
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	ack(s, 0, 0);
	expect(s, "connect; send HELLO; sync; release 0; capture 1");
	link_down(s, "reset");
	refuse_until(s, LOST_US + 10 * MS);
	expect_state(s, "waiting");
}

static void test_operator_decides(void **state)
{
	struct script *s = *state;

	gated_waiting(s);
	simple(s, EVENT_FAILOVER);
	expect(s, "open the gate");
	expect_state(s, "unprotected");
	simple(s, EVENT_FAILOVER);
	expect(s, "");
}

static void test_operator_decides_during_an_attempt(void **state)
{
	struct script *s = *state;

	gated_waiting(s);
	run_until(s, due(s, ENV_TIMER_RETRY));
	expect_state(s, "connecting");
	s->actions[0] = '\0';
	simple(s, EVENT_FAILOVER);
	expect(s, "disconnect -");
	link_down(s, "given up");
	expect(s, "open the gate");
	expect_state(s, "unprotected");
}

static void test_operator_is_faster_than_the_fence(void **state)
{
	struct script *s = *state;

	gated(s);
	s->primary.cfg.fence = true;
	gated_lost(s);
	refuse_until(s, 10 * MS + LOST_US);
	expect_state(s, "fencing");
	simple(s, EVENT_FAILOVER);
	expect(s, "cancel fence");
	done(s, ENV_JOB_FENCE, 0, -ECANCELED, "cancelled");
	expect(s, "open the gate");
	expect_state(s, "unprotected");
}

static void test_operator_decides_at_once(void **state)
{
	struct script *s = *state;

	gated(s);
	gated_lost(s);
	simple(s, EVENT_FAILOVER);
	expect(s, "open the gate");
	expect_state(s, "unprotected");
	assert_int_equal(due(s, ENV_TIMER_LOST), 0);
}

static void fence_ends(struct script *s, int err)
{
	gated(s);
	s->primary.cfg.fence = true;
	gated_lost(s);
	refuse_until(s, 10 * MS + LOST_US);
	done(s, ENV_JOB_FENCE, 0, err, err ? "exit status 1" : NULL);
}

static void test_fenced_opens(void **state)
{
	struct script *s = *state;

	fence_ends(s, 0);
	expect(s, "open the gate");
	expect_state(s, "unprotected");
}

static void test_failed_fence_holds(void **state)
{
	struct script *s = *state;

	fence_ends(s, -EIO);
	expect(s, "");
	expect_state(s, "waiting");
}

static void test_unsafe_opens(void **state)
{
	struct script *s = *state;

	gated(s);
	s->primary.cfg.unsafe_no_fence = true;
	gated_lost(s);
	while (elapsed(s) < 10 * MS + LOST_US) {
		run_for(s, 10 * MS);
		if (s->link == CONNECTING) {
			s->actions[0] = '\0';
			link_down(s, "refused");
		}
	}
	expect(s, "open the gate");
}

/* The peer is back, builds anew, and that is acknowledged. */
static void test_held_until_the_new_standby_is_there(void **state)
{
	struct script *s = *state;

	gated_waiting(s);
	run_until(s, due(s, ENV_TIMER_RETRY));
	s->actions[0] = '\0';
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	expect(s, "send HELLO; sync");
	ack(s, 0, 0);
	expect(s, "release 0; capture 1");
}

/* It is lost again in the middle: the old standby may be what is left. */
static void test_lost_again_while_synchronising_holds(void **state)
{
	struct script *s = *state;

	gated_waiting(s);
	run_until(s, due(s, ENV_TIMER_RETRY));
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	s->actions[0] = '\0';
	link_down(s, "reset");
	expect(s, "cancel sync");
	expect_state(s, "lost");
	done(s, ENV_JOB_SYNC, 0, -ECANCELED, NULL);
	expect(s, "");
}

/* --- the peer says that it has none ------------------------------------- */

static void test_stopped_peer_opens(void **state)
{
	struct script *s = *state;

	gated(s);
	gated_protected(s);
	bye_with(s, WIRE_REASON_ENDED, "");
	expect(s, "disconnect ENDED");
	link_down(s, "closed");
	expect(s, "open the gate");
	expect_state(s, "unprotected");
}

static void test_peer_in_trouble_may_have_kept_it(void **state)
{
	struct script *s = *state;

	gated(s);
	gated_protected(s);
	bye_with(s, WIRE_REASON_NO_RESOURCES, "");
	link_down(s, "closed");
	expect(s, "disconnect ENDED");
	expect_state(s, "lost");
}

/* It may have taken over, and been started anew for somebody else. */
static void test_refusal_says_nothing_of_an_earlier_standby(void **state)
{
	struct script *s = *state;

	gated_waiting(s);
	run_until(s, due(s, ENV_TIMER_RETRY));
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	s->actions[0] = '\0';
	bye_with(s, WIRE_REASON_REFUSED, "at work for another domain");
	link_down(s, "closed");
	expect(s, "disconnect ENDED; cancel sync");
	assert_true(s->primary.gate_closed);
}

/* The image was sent, and closed the gate, after all was over. */
static void test_late_image_is_opened_again(void **state)
{
	struct script *s = *state;

	gated(s);
	gated_protected(s);
	bye_with(s, WIRE_REASON_ENDED, "");
	link_down(s, "closed");
	run_until(s, due(s, ENV_TIMER_RETRY));
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	s->actions[0] = '\0';
	link_down(s, "reset");
	expect(s, "cancel sync; open the gate");
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	expect(s, "open the gate");
	assert_false(s->primary.gate_closed);
}

/* --- synchronising anew ------------------------------------------------- */

static void test_resync_opens_when_it_is_answered(void **state)
{
	struct script *s = *state;

	gated(s);
	gated_protected(s);
	run_until(s, INTERVAL_US);
	captured(s, 2, -ESTALE, false);
	expect(s, "capture 2; send BYE RESYNC");
	bye_with(s, WIRE_REASON_ENDED, "");
	link_down(s, "closed");
	expect(s, "disconnect ENDED; open the gate");
	expect_state(s, "unprotected");
}

static void test_resync_without_an_answer_holds(void **state)
{
	struct script *s = *state;

	gated(s);
	gated_protected(s);
	run_until(s, INTERVAL_US);
	captured(s, 2, -ESTALE, false);
	expect(s, "capture 2; send BYE RESYNC");
	run_for(s, LOST_US);
	expect(s, "disconnect -");
	link_down(s, "given up");
	expect_state(s, "lost");
}

/* A peer that lives and does not answer is not waited for for ever. */
static void test_resync_is_not_waited_for_while_the_peer_lives(void **state)
{
	struct script *s = *state;

	gated(s);
	gated_protected(s);
	run_until(s, INTERVAL_US);
	captured(s, 2, -ESTALE, false);
	expect(s, "capture 2; send BYE RESYNC");
	run_for(s, LOST_US / 2);
	simple(s, EVENT_ALIVE);
	run_for(s, LOST_US / 2);
	expect(s, "disconnect -");
	link_down(s, "given up");
	expect_state(s, "lost");
}

/* --- the end ------------------------------------------------------------ */

static void stopped(struct script *s)
{
	gated(s);
	gated_protected(s);
	simple(s, EVENT_STOP);
	expect(s, "send BYE ENDED; release");
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	expect(s, "");
}

static void test_stop_opens_when_it_is_answered(void **state)
{
	struct script *s = *state;

	stopped(s);
	bye_with(s, WIRE_REASON_ENDED, "");
	expect(s, "disconnect ENDED");
	link_down(s, "closed");
	expect(s, "open the gate; finish 0");
}

static void test_stop_without_an_answer_holds(void **state)
{
	struct script *s = *state;

	stopped(s);
	run_for(s, LOST_US);
	expect(s, "disconnect -");
	link_down(s, "given up");
	expect(s, "finish 3");
}

static void test_stop_while_waiting_holds(void **state)
{
	struct script *s = *state;

	gated_waiting(s);
	simple(s, EVENT_STOP);
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	expect(s, "disconnect ENDED; release; finish 3");
}

static void test_yielding_drops(void **state)
{
	struct script *s = *state;

	gated_waiting(s);
	run_until(s, due(s, ENV_TIMER_RETRY));
	simple(s, EVENT_LINK_UP);
	s->actions[0] = '\0';
	bye_with(s, WIRE_REASON_FAILED_OVER, "");
	expect(s, "disconnect ENDED; drop what is held; yield");
	done(s, ENV_JOB_YIELD, 0, 0, NULL);
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	link_down(s, "closed");
	expect(s, "release; finish 4");
}

/* The operator stops it, and then it is told. */
static void test_yields_on_its_way_out(void **state)
{
	struct script *s = *state;

	gated(s);
	simple(s, EVENT_START);
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	simple(s, EVENT_STOP);
	s->actions[0] = '\0';
	done(s, ENV_JOB_SYNC, 0, -ECANCELED, NULL);
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	bye_with(s, WIRE_REASON_FAILED_OVER, "");
	expect(s, "release; disconnect -; drop what is held");
	link_down(s, "given up");
	expect(s, "yield");
	done(s, ENV_JOB_YIELD, 0, 0, NULL);
	expect(s, "finish 4");
}

/* Its guest reboots, and then it is told: that one does not come up again. */
static void yields_after_reboot(struct script *s, bool begun)
{
	gated(s);
	simple(s, EVENT_START);
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	done_guest(s, ENV_JOB_SYNC, -ESHUTDOWN, GUEST_REBOOT);
	if (begun)
		done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	s->actions[0] = '\0';
	bye_with(s, WIRE_REASON_FAILED_OVER, "");
	expect(s, "disconnect -; drop what is held");
	if (begun)
		done_again(s, true);
	else
		done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	link_down(s, "given up");
	expect(s, "yield");
	done(s, ENV_JOB_YIELD, 0, 0, NULL);
	expect(s, "finish 4");
}

static void test_yields_instead_of_a_reboot(void **state)
{
	yields_after_reboot(*state, false);
}

static void test_yields_after_a_reboot(void **state)
{
	yields_after_reboot(*state, true);
}

/* --- a gate found closed ------------------------------------------------ */

static void test_found_closed_is_held(void **state)
{
	struct script *s = *state;
	struct primary_config cfg;
	struct env env;

	script_primary(s);
	cfg = s->primary.cfg;
	env = s->primary.env;
	cfg.gate = cfg.gate_held = true;
	primary_init(&s->primary, &cfg, &env);
	simple(s, EVENT_START);
	link_down(s, "refused");
	expect(s, "connect");
	expect_state(s, "lost");
	refuse_until(s, LOST_US);
	expect_state(s, "waiting");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_TEST(test_released_by_the_acknowledgement_only),
		SCRIPT_TEST(test_wrong_acknowledgement_releases_nothing),
		SCRIPT_TEST(test_without_a_gate_there_are_no_orders),
		SCRIPT_TEST(test_undecided_holds),
		SCRIPT_TEST(test_a_guest_that_is_gated_later_holds),
		SCRIPT_TEST(test_operator_decides),
		SCRIPT_TEST(test_operator_decides_during_an_attempt),
		SCRIPT_TEST(test_operator_is_faster_than_the_fence),
		SCRIPT_TEST(test_operator_decides_at_once),
		SCRIPT_TEST(test_fenced_opens),
		SCRIPT_TEST(test_failed_fence_holds),
		SCRIPT_TEST(test_unsafe_opens),
		SCRIPT_TEST(test_held_until_the_new_standby_is_there),
		SCRIPT_TEST(test_lost_again_while_synchronising_holds),
		SCRIPT_TEST(test_stopped_peer_opens),
		SCRIPT_TEST(test_peer_in_trouble_may_have_kept_it),
		SCRIPT_TEST(test_refusal_says_nothing_of_an_earlier_standby),
		SCRIPT_TEST(test_late_image_is_opened_again),
		SCRIPT_TEST(test_resync_opens_when_it_is_answered),
		SCRIPT_TEST(test_resync_without_an_answer_holds),
		SCRIPT_TEST(test_resync_is_not_waited_for_while_the_peer_lives),
		SCRIPT_TEST(test_stop_opens_when_it_is_answered),
		SCRIPT_TEST(test_stop_without_an_answer_holds),
		SCRIPT_TEST(test_stop_while_waiting_holds),
		SCRIPT_TEST(test_yielding_drops),
		SCRIPT_TEST(test_yields_on_its_way_out),
		SCRIPT_TEST(test_yields_instead_of_a_reboot),
		SCRIPT_TEST(test_yields_after_a_reboot),
		SCRIPT_TEST(test_found_closed_is_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
