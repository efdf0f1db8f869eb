/* SPDX-License-Identifier: Apache-2.0 */
/* engine/primary_loss.c: the peer is silent or gone; grace, arbitration. */
#include "config.h"

#include "tests/unit/lost-fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/moves.h"

/* --- a peer that is alive, and no more ----------------------------------- */

static void test_an_epoch_is_not_acknowledged(void **state)
{
	struct script *s = *state;

	script_primary(s);
	s->primary.cfg.ack_timeout_us = 500 * MS;
	to_protected(s);
	captured(s, 1, 0, false);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	run_alive_until(s, 490 * MS);
	expect_state(s, "protected");
	assert_false(s->primary.resync_asked);
	run_alive_until(s, 490 * MS + 2 * HEARTBEAT_US);
	assert_true(s->primary.resync_asked);
	assert_non_null(strstr(s->primary.peer_said, "acknowledges nothing"));
}

/* It takes no more of it, so that not even the encoder gets to the end. */
static void test_an_epoch_is_not_taken(void **state)
{
	static const struct event moved = { .type = EVENT_MOVED };
	struct script *s = *state;

	script_primary(s);
	s->primary.cfg.ack_timeout_us = 500 * MS;
	to_protected(s);
	run_alive_until(s, 400 * MS);
	captured(s, 1, 0, false);
	run_alive_until(s, 850 * MS);
	primary_event(&s->primary, &moved);
	run_alive_until(s, 1300 * MS);
	assert_false(s->primary.resync_asked);
	run_alive_until(s, 1350 * MS + 2 * HEARTBEAT_US);
	assert_true(s->primary.resync_asked);
	assert_non_null(strstr(s->primary.peer_said, "acknowledges nothing"));
}

static void test_the_image_is_not_acknowledged(void **state)
{
	static const struct event moved = { .type = EVENT_MOVED };
	struct script *s = *state;

	script_primary(s);
	s->primary.cfg.ack_timeout_us = 500 * MS;
	to_syncing(s);
	run_alive_until(s, 400 * MS);
	primary_event(&s->primary, &moved);
	run_alive_until(s, 800 * MS);
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	run_alive_until(s, 1200 * MS);
	assert_false(s->primary.resync_asked);
	run_alive_until(s, 1300 * MS + 2 * HEARTBEAT_US);
	assert_true(s->primary.resync_asked);
}

/*
 * As long as nothing waits for the peer it owes nothing: a guest that takes its
 * time to suspend, or memory that is all zeroes, is this host's own affair.
 */
static void test_an_image_that_is_slow_to_make(void **state)
{
	static const struct event blocked = { .type = EVENT_BLOCKED };
	static const struct event moved = { .type = EVENT_MOVED };
	struct script *s = *state;

	script_primary(s);
	s->primary.cfg.ack_timeout_us = 500 * MS;
	to_syncing(s);
	run_alive_until(s, 3000 * MS);
	assert_false(s->primary.resync_asked);
	primary_event(&s->primary, &blocked);
	run_alive_until(s, 3400 * MS);
	primary_event(&s->primary, &moved);
	run_alive_until(s, 6000 * MS);
	assert_false(s->primary.resync_asked);
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	run_alive_until(s, 6450 * MS);
	assert_false(s->primary.resync_asked);
	run_alive_until(s, 6500 * MS + 2 * HEARTBEAT_US);
	assert_true(s->primary.resync_asked);
}

static void test_an_image_that_is_not_taken(void **state)
{
	static const struct event blocked = { .type = EVENT_BLOCKED };
	struct script *s = *state;

	script_primary(s);
	s->primary.cfg.ack_timeout_us = 500 * MS;
	to_syncing(s);
	run_alive_until(s, 2000 * MS);
	primary_event(&s->primary, &blocked);
	run_alive_until(s, 2450 * MS);
	assert_false(s->primary.resync_asked);
	run_alive_until(s, 2500 * MS + 2 * HEARTBEAT_US);
	assert_true(s->primary.resync_asked);
	assert_non_null(strstr(s->primary.peer_said, "acknowledges nothing"));
}

/* What an earlier connection waited for says nothing of the next one. */
static void test_blocked_ends_with_its_connection(void **state)
{
	static const struct event blocked = { .type = EVENT_BLOCKED };
	struct script *s = *state;

	script_primary(s);
	to_protected_idle(s);
	s->primary.cfg.ack_timeout_us = 500 * MS;
	link_down(s, "reset");
	run_for(s, HEARTBEAT_US);
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	primary_event(&s->primary, &blocked);
	link_down(s, "reset");
	done(s, ENV_JOB_SYNC, 0, -ECONNRESET, NULL);
	run_for(s, HEARTBEAT_US);
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	expect(s, "connect; send HELLO; sync; cancel sync; connect; "
		  "send HELLO; sync");
	run_alive_until(s, elapsed(s) + 2000 * MS);
	assert_false(s->primary.resync_asked);
}

/* --- a silent peer ------------------------------------------------------ */

static void test_silence_ends_the_connection(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	run_until(s, 120 * MS);
	simple(s, EVENT_ALIVE);
	run_until(s, 120 * MS + LOST_US - 1);
	expect(s, "");
	run_until(s, 120 * MS + LOST_US);
	expect(s, "disconnect -");
	link_down(s, "given up");
	expect_state(s, "lost");
	assert_string_equal(s->primary.last_error,
			    "no sign of life from the secondary for 300 ms");
	/* The time to come back is over as well: it was the same silence. */
	captured(s, 1, 0, false);
	run_for(s, 0);
	expect_state(s, "unprotected");
	assert_int_equal(due(s, ENV_TIMER_RETRY),
			 120 * MS + LOST_US + RETRY_US);
}

static void test_silence_while_synchronising(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_syncing(s);
	run_until(s, LOST_US);
	expect(s, "disconnect -");
	link_down(s, "given up");
	expect(s, "cancel sync; disconnect ENDED");
	done(s, ENV_JOB_SYNC, 0, -ECANCELED, NULL);
	expect(s, "release");
	released(s, "finish 1");
}

static void test_silence_after_connecting(void **state)
{
	struct script *s = *state;

	script_primary(s);
	simple(s, EVENT_START);
	run_until(s, 5000 * MS);
	expect(s, "connect"); /* the attempt has its own limit */
	simple(s, EVENT_LINK_UP);
	expect(s, "send HELLO");
	run_until(s, 5000 * MS + LOST_US);
	expect(s, "disconnect -");
}

/* A process that stood still may find signs of life behind the timer. */
static void test_alive_again_before_the_timer_is_served(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected_idle(s);
	stall(s, 400 * MS);
	simple(s, EVENT_ALIVE);
	run_for(s, 0);
	expect(s, "capture 2");
	expect_state(s, "protected");
	assert_int_equal(due(s, ENV_TIMER_LOST), 400 * MS + LOST_US);
}

/* --- grace and arbitration ---------------------------------------------- */

static void test_back_within_grace(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_lost_primary(s);
	assert_int_equal(due(s, ENV_TIMER_LOST), 10 * MS + LOST_US);
	assert_int_equal(due(s, ENV_TIMER_RETRY), 20 * MS + HEARTBEAT_US);
	run_until(s, 20 * MS + HEARTBEAT_US);
	expect(s, "connect");
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	expect(s, "send HELLO; sync");
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	ack(s, 0, 0);
	expect(s, "capture 1");
	expect_state(s, "protected");
	assert_int_equal(s->primary.stats.losses, 0);
	assert_int_equal(s->primary.stats.number, 0);
}

/*
 * A peer that has not yet noticed that the old connection is gone still holds
 * our standby: it is asked again, for as long as it has to come back.  It
 * lives, so it is not fenced.
 */
static void test_busy_peer_is_asked_again(void **state)
{
	struct script *s = *state;

	script_primary(s);
	s->primary.cfg.fence = true;
	to_lost_primary(s);
	while (elapsed(s) < 10 * MS + LOST_US) {
		run_for(s, 10 * MS);
		if (strcmp(script_state(s), "connecting") != 0)
			continue;
		expect(s, "connect");
		simple(s, EVENT_LINK_UP);
		expect(s, "send HELLO");
		bye_with(s, WIRE_REASON_BUSY, "web here is standby");
		expect(s, "disconnect ENDED");
		link_down(s, "closed");
		expect_state(s, "lost");
	}
	expect(s, "");
	expect_state(s, "unprotected");
}

static void test_retry_waits_for_the_jobs(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	link_down(s, "reset");
	expect_state(s, "lost");
	run_until(s, HEARTBEAT_US);
	expect(s, ""); /* the capture is under way */
	run_until(s, HEARTBEAT_US + 10 * MS);
	captured(s, 1, 0, false);
	expect(s, ""); /* and of no use any more */
	run_until(s, 2 * HEARTBEAT_US);
	expect(s, "connect");
}

static void test_fence_at_the_end_of_grace(void **state)
{
	struct script *s = *state;

	script_primary(s);
	s->primary.cfg.fence = true;
	to_lost_primary(s);
	refuse_until(s, 300 * MS);
	expect(s, "");
	run_until(s, 10 * MS + LOST_US - 1);
	expect(s, "");
	run_until(s, 10 * MS + LOST_US);
	expect(s, "fence");
	run_for(s, 60 * 1000 * MS);
	expect(s, ""); /* no attempts while the fence is at work */
	done(s, ENV_JOB_FENCE, 0, 0, NULL);
	expect_state(s, "unprotected");
	assert_false(s->primary.standby_may_exist);
	assert_int_equal(s->primary.stats.losses, 1);
	assert_int_equal(due(s, ENV_TIMER_RETRY), elapsed(s) + RETRY_US);
}

static void test_failed_fence_leaves_the_guest_running(void **state)
{
	struct script *s = *state;

	to_fencing(s);
	done(s, ENV_JOB_FENCE, 0, -EIO, "exit status 1");
	expect(s, "");
	expect_state(s, "unprotected");
	assert_int_equal(due(s, ENV_TIMER_RETRY), elapsed(s) + RETRY_US);
}

static void without_fence(struct script *s, bool unsafe)
{
	script_primary(s);
	s->primary.cfg.unsafe_no_fence = unsafe;
	to_lost_primary(s);
	refuse_until(s, 310 * MS);
	expect(s, "");
	expect_state(s, "unprotected");
	assert_int_equal(due(s, ENV_TIMER_RETRY), 10 * MS + LOST_US + RETRY_US);
}

static void test_no_fence(void **state)
{
	without_fence(*state, false);
}

static void test_unsafe_no_fence(void **state)
{
	without_fence(*state, true);
}

static void test_attempt_under_way_at_the_end_of_grace(void **state)
{
	struct script *s = *state;

	script_primary(s);
	s->primary.cfg.fence = true;
	to_lost_primary(s);
	run_until(s, 10 * MS + LOST_US);
	expect(s, "connect; disconnect -");
	link_down(s, "given up");
	run_for(s, 0);
	expect(s, "fence");
}

static void test_retries_until_the_peer_is_back(void **state)
{
	struct script *s = *state;
	uint64_t at;
	int i;

	to_unprotected(s);
	at = due(s, ENV_TIMER_RETRY);
	for (i = 0; i < 50; i++) {
		run_until(s, at);
		expect(s, "status; connect");
		expect_state(s, "connecting");
		done_guest(s, ENV_JOB_STATUS, 0, GUEST_RUNNING);
		run_for(s, 5 * MS);
		link_down(s, "connection refused");
		expect_state(s, "unprotected");
		at = due(s, ENV_TIMER_RETRY);
		assert_int_equal(at, elapsed(s) + RETRY_US);
	}
	assert_int_equal(s->primary.stats.losses, 1);
	run_until(s, at);
	expect(s, "status; connect");
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	expect(s, "send HELLO; sync");
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	ack(s, 0, 0);
	expect(s, "capture 1");
	expect_state(s, "protected");
}

static void test_never_reached(void **state)
{
	struct script *s = *state;

	script_primary(s);
	simple(s, EVENT_START);
	link_down(s, "connection refused");
	expect(s, "connect; disconnect ENDED; release");
	released(s, "finish 1");
	assert_string_equal(s->primary.last_error, "connection refused");
}

/* The image was whole, but not yet acknowledged: a standby may exist. */
static void test_lost_between_image_and_ack(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_syncing(s);
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	link_down(s, "reset");
	expect_state(s, "lost");
}

static void test_epochs_in_flight_are_dropped(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, false);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	run_until(s, INTERVAL_US);
	captured(s, 2, 0, false);
	link_down(s, "reset");
	assert_int_equal(s->primary.epoch_count, 0);
	assert_int_equal(due(s, ENV_TIMER_EPOCH), 0);
	expect(s, "encode 1; capture 2; encode 2");
	done(s, ENV_JOB_ENCODE, 2, -ECANCELED, NULL);
	expect(s, "");
	expect_state(s, "lost");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_TEST(test_an_epoch_is_not_acknowledged),
		SCRIPT_TEST(test_an_epoch_is_not_taken),
		SCRIPT_TEST(test_the_image_is_not_acknowledged),
		SCRIPT_TEST(test_an_image_that_is_slow_to_make),
		SCRIPT_TEST(test_an_image_that_is_not_taken),
		SCRIPT_TEST(test_blocked_ends_with_its_connection),
		SCRIPT_TEST(test_silence_ends_the_connection),
		SCRIPT_TEST(test_silence_while_synchronising),
		SCRIPT_TEST(test_silence_after_connecting),
		SCRIPT_TEST(test_alive_again_before_the_timer_is_served),
		SCRIPT_TEST(test_back_within_grace),
		SCRIPT_TEST(test_busy_peer_is_asked_again),
		SCRIPT_TEST(test_retry_waits_for_the_jobs),
		SCRIPT_TEST(test_fence_at_the_end_of_grace),
		SCRIPT_TEST(test_failed_fence_leaves_the_guest_running),
		SCRIPT_TEST(test_no_fence),
		SCRIPT_TEST(test_unsafe_no_fence),
		SCRIPT_TEST(test_attempt_under_way_at_the_end_of_grace),
		SCRIPT_TEST(test_retries_until_the_peer_is_back),
		SCRIPT_TEST(test_never_reached),
		SCRIPT_TEST(test_lost_between_image_and_ack),
		SCRIPT_TEST(test_epochs_in_flight_are_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
