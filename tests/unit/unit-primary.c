/* SPDX-License-Identifier: Apache-2.0 */
/* engine/primary.c and primary_epochs.c: from the start to epochs, and errors.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/engine-script.h"

/* --- the happy path ----------------------------------------------------- */

static void test_ten_epochs(void **state)
{
	struct script *s = *state;
	char wanted[32];
	unsigned int n;

	script_primary(s);
	to_protected(s);
	for (n = 1; n <= 10; n++) {
		assert_int_equal(due(s, ENV_TIMER_EPOCH), n * INTERVAL_US);
		run_for(s, 7 * MS);
		captured(s, n, 0, false);
		snprintf(wanted, sizeof(wanted), "encode %u", n);
		expect(s, wanted);
		done(s, ENV_JOB_ENCODE, n, 0, NULL);
		run_for(s, 3 * MS);
		simple(s, EVENT_ALIVE);
		ack(s, n, n - 1);
		expect(s, "");
		assert_int_equal(s->primary.stats.last_commit_us, 10 * MS);
		run_until(s, n * INTERVAL_US - 1);
		expect(s, "");
		run_until(s, n * INTERVAL_US);
		snprintf(wanted, sizeof(wanted), "capture %u", n + 1);
		expect(s, wanted);
	}
	expect_state(s, "protected");
	assert_int_equal(s->primary.stats.captured, 10);
	assert_int_equal(s->primary.stats.acknowledged, 10);
	assert_int_equal(s->primary.stats.applied, 9);
	assert_int_equal(s->primary.stats.stretched, 0);
	assert_int_equal(s->in_flight_max, 1);
	assert_int_equal(s->heartbeats, 10 * INTERVAL_US / HEARTBEAT_US);
}

static void test_ack_of_the_image_may_come_first(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_syncing(s);
	ack(s, 0, 0);
	expect(s, "");
	expect_state(s, "syncing");
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	expect(s, "capture 1");
	expect_state(s, "protected");
}

static void test_heartbeats_from_the_first_moment(void **state)
{
	struct script *s = *state;

	script_primary(s);
	simple(s, EVENT_START);
	assert_int_equal(due(s, ENV_TIMER_HEARTBEAT), 0);
	run_until(s, 30 * MS);
	simple(s, EVENT_LINK_UP);
	assert_int_equal(due(s, ENV_TIMER_HEARTBEAT), 30 * MS + HEARTBEAT_US);
	assert_int_equal(due(s, ENV_TIMER_LOST), 30 * MS + LOST_US);
	run_until(s, 30 * MS + 2 * HEARTBEAT_US);
	assert_int_equal(s->heartbeats, 2);
	assert_int_equal(due(s, ENV_TIMER_HEARTBEAT),
			 30 * MS + 3 * HEARTBEAT_US);
}

/* --- the pace ----------------------------------------------------------- */

static void test_late_acks_stretch_the_interval(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, false);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	run_until(s, INTERVAL_US);
	captured(s, 2, 0, false);
	done(s, ENV_JOB_ENCODE, 2, 0, NULL);
	expect(s, "encode 1; capture 2; encode 2");
	run_until(s, 175 * MS);
	expect(s, "");
	assert_true(s->primary.epoch_due);
	ack(s, 1, 0);
	expect(s, "capture 3");
	assert_int_equal(due(s, ENV_TIMER_EPOCH), 175 * MS + INTERVAL_US);
	assert_int_equal(s->primary.stats.stretched, 1);
	assert_int_equal(s->in_flight_max, 2);
}

static void in_flight(struct script *s, unsigned int ours, uint32_t theirs,
		      unsigned int wanted)
{
	unsigned int n;

	script_primary(s);
	s->primary.cfg.inflight = ours;
	simple(s, EVENT_START);
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, theirs);
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	ack(s, 0, 0);
	for (n = 1; s->jobs[ENV_JOB_CAPTURE]; n++) {
		captured(s, n, 0, false);
		done(s, ENV_JOB_ENCODE, n, 0, NULL);
		run_alive_until(s, elapsed(s) + INTERVAL_US);
	}
	run_alive_until(s, elapsed(s) + 100 * INTERVAL_US);
	assert_int_equal(s->in_flight_max, wanted);
	assert_int_equal(s->primary.epoch_count, wanted);
}

static void test_in_flight_is_what_both_sides_allow(void **state)
{
	struct script *s = *state;

	in_flight(s, 8, 3, 3);
	in_flight(s, 2, 16, 2);
	in_flight(s, 1, 1, 1);
	in_flight(s, 4, 0, 1); /* a peer that allows none allows one */
}

static void test_slow_encoder_stretches_too(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, false);
	run_until(s, INTERVAL_US);
	captured(s, 2, 0, false);
	expect(s, "encode 1; capture 2; encode 2");
	run_until(s, 4 * INTERVAL_US);
	expect(s, "");
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	expect(s, ""); /* still two that are not acknowledged */
	ack(s, 1, 0);
	expect(s, "capture 3");
	assert_int_equal(s->in_flight_max, 2);
}

/* --- guests that do not follow ------------------------------------------ */

static void test_suspend_timeout_skips_and_keeps_the_number(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	run_until(s, 10 * MS);
	captured(s, 1, -ETIMEDOUT, false);
	expect(s, "");
	expect_state(s, "protected");
	assert_int_equal(s->primary.stats.skipped, 1);
	run_until(s, INTERVAL_US - 1);
	expect(s, "");
	run_until(s, INTERVAL_US);
	expect(s, "capture 1");
	one_epoch(s, 1);
	expect(s, "encode 1");
	assert_int_equal(s->primary.skipped_in_a_row, 0);
	assert_int_equal(s->primary.stats.acknowledged, 1);
}

/* Each reason is counted, and none of them ends the protection. */
static void test_reasons_of_skips(void **state)
{
	static const int errors[] = { -ETIMEDOUT, -EINPROGRESS, -EBUSY,
				      -ENOTCONN, -EREMOTEIO };
	struct script *s = *state;
	const uint64_t *seen[] = { &s->primary.stats.skipped_unanswered,
				   &s->primary.stats.skipped_late,
				   &s->primary.stats.skipped_busy,
				   &s->primary.stats.skipped_devices,
				   &s->primary.stats.skipped_model };

	script_primary(s);
	to_protected(s);
	for (unsigned int i = 0; i < 5; i++) {
		run_alive_until(s, (i + 1) * INTERVAL_US - 1);
		captured(s, 1, errors[i], false);
		expect_state(s, "protected");
		for (unsigned int k = 0; k < 5; k++)
			assert_int_equal(*seen[k], k <= i);
		run_alive_until(s, (i + 1) * INTERVAL_US);
	}
	assert_int_equal(s->primary.stats.skipped, 5);
}

/* Protected and nothing committed: the status says so while it lasts. */
static void test_no_epoch_for_long(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	run_alive_until(s, 9000 * MS);
	captured(s, 1, -ENOTCONN, false);
	assert_string_equal(s->primary.last_error, "");
	run_alive_until(s, 12000 * MS);
	captured(s, 1, -ENOTCONN, false);
	assert_string_equal(s->primary.last_error,
			    "no epoch for 12 s: web has devices that are not"
			    " connected");
	run_alive_until(s, 13000 * MS);
	captured(s, 1, 0, false);
	assert_string_equal(s->primary.last_error, "");
}

static void test_timeout_longer_than_the_interval(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	run_alive_until(s, 2000 * MS);
	captured(s, 1, -ETIMEDOUT, false);
	expect(s, "capture 1"); /* due for long */
	run_alive_until(s, 4000 * MS);
	captured(s, 1, -ETIMEDOUT, false);
	expect(s, "status; capture 1");
	one_epoch(s, 1);
	expect(s, "encode 1");
	assert_int_equal(s->primary.stats.skipped, 2);
	run_until(s, 4000 * MS + INTERVAL_US);
	expect(s, "capture 2");
}

/*
 * A suspend that was asked for may come late, when nobody waits for it: the
 * guest is looked after until it cannot come any more, also when protection is
 * lost meanwhile.
 */
static void test_late_suspend_is_looked_for(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	run_until(s, 10 * MS);
	link_down(s, "reset");
	captured(s, 1, -ETIMEDOUT, false);
	expect(s, "");
	expect_state(s, "lost");
	run_until(s, 110 * MS);
	expect(s, "connect; status");
	done_guest(s, ENV_JOB_STATUS, 0, GUEST_RUNNING);
	run_until(s, 210 * MS);
	expect(s, "status");
	done_guest(s, ENV_JOB_STATUS, 0, GUEST_RUNNING);
	expect_state(s, "connecting");
}

static void test_skipped_while_another_is_in_flight(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, false);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	run_until(s, INTERVAL_US);
	captured(s, 2, -ETIMEDOUT, false);
	expect(s, "encode 1; capture 2");
	ack(s, 1, 0);
	run_until(s, 2 * INTERVAL_US);
	expect(s, "capture 2");
	one_epoch(s, 2);
	assert_int_equal(s->primary.stats.acknowledged, 2);
}

/* --- synchronising anew ------------------------------------------------- */

static void resynchronises(struct script *s)
{
	expect(s, "send BYE RESYNC");
	expect_state(s, "protected");
	run_for(s, INTERVAL_US);
	expect(s, ""); /* no more epochs */
	bye_with(s, WIRE_REASON_ENDED, "");
	expect(s, "disconnect ENDED");
	link_down(s, "closed");
	expect_state(s, "unprotected");
	assert_int_equal(due(s, ENV_TIMER_RETRY), elapsed(s) + HEARTBEAT_US);
	run_for(s, HEARTBEAT_US);
	expect(s, "connect");
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	expect(s, "send HELLO; sync");
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	ack(s, 0, 0);
	expect(s, "capture 1");
	expect_state(s, "protected");
	assert_int_equal(s->primary.stats.synchronisations, 2);
	assert_string_equal(s->primary.last_error, "");
}

static void test_stale_layout(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, -ESTALE, false);
	resynchronises(s);
}

static void test_capture_fails(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, -EIO, false);
	resynchronises(s);
}

static void test_encoder_fails(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, false);
	expect(s, "encode 1");
	done(s, ENV_JOB_ENCODE, 1, -ENOMEM, NULL);
	resynchronises(s);
}

static void test_cancelled_encoding_waits_for_the_link(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, false);
	expect(s, "encode 1");
	done(s, ENV_JOB_ENCODE, 1, -ECANCELED, NULL);
	expect(s, "");
	link_down(s, "reset");
	expect_state(s, "lost");
}

static void test_image_fails(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_syncing(s);
	done(s, ENV_JOB_SYNC, 0, -EIO, "no such device");
	expect(s, "disconnect RESYNC");
	link_down(s, "closed");
	expect(s, "disconnect ENDED; release");
	assert_string_equal(s->primary.last_error, "no such device");
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	expect(s, "finish 1");
}

/* A guest whose suspend says that it is down, and whose status says no. */
static void test_down_and_up_again(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured_down(s, 1, GUEST_RUNNING);
	resynchronises(s);

	script_primary(s);
	to_syncing(s);
	done_guest(s, ENV_JOB_SYNC, -ESHUTDOWN, GUEST_RUNNING);
	expect(s, "disconnect RESYNC");
}

/* --- a peer that breaks the rules --------------------------------------- */

static void test_unexpected_acks(void **state)
{
	static const uint64_t wrong[] = { 0, 2, 3, UINT64_MAX };
	struct script *s = *state;
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		script_primary(s);
		to_protected(s);
		captured(s, 1, 0, false);
		done(s, ENV_JOB_ENCODE, 1, 0, NULL);
		expect(s, "encode 1");
		ack(s, wrong[i], 0);
		expect(s, "disconnect PROTOCOL");
		link_down(s, "closed");
		expect_state(s, "lost"); /* the standby may be there */
	}
}

static void test_ack_before_the_epoch_is_sent(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	ack(s, 1, 0);
	expect(s, "disconnect PROTOCOL");
	assert_non_null(strstr(s->primary.peer_said, "unexpected ACK"));
}

/* The last frame is on the wire before the encoder says that it is done. */
static void test_ack_overtakes_the_encoder(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, false);
	expect(s, "encode 1");
	ack(s, 1, 0);
	expect(s, "");
	assert_int_equal(s->primary.stats.acknowledged, 1);
	assert_int_equal(s->primary.epoch_count, 1);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	assert_int_equal(s->primary.epoch_count, 0);
	run_until(s, INTERVAL_US);
	expect(s, "capture 2");
}

static void test_ack_overtakes_the_encoder_but_once(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, false);
	ack(s, 1, 0);
	expect(s, "encode 1");
	ack(s, 1, 0);
	expect(s, "disconnect PROTOCOL");
}

static void expect_over(const struct script *s, unsigned int acknowledged,
			unsigned int skipped, unsigned int aborted)
{
	assert_int_equal(s->over[ENV_EPOCH_ACKNOWLEDGED], acknowledged);
	assert_int_equal(s->over[ENV_EPOCH_SKIPPED], skipped);
	assert_int_equal(s->over[ENV_EPOCH_ABORTED], aborted);
}

/* Every epoch that was begun is told to be over, once. */
static void test_what_becomes_of_each_epoch(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, -ETIMEDOUT, false);
	expect_over(s, 0, 1, 0);
	run_until(s, INTERVAL_US);
	captured(s, 1, 0, false);
	ack(s, 1, 0);
	expect_over(s, 1, 1, 0);
	done(s, ENV_JOB_ENCODE, 1, 0, NULL);
	run_until(s, 2 * INTERVAL_US);
	captured(s, 2, 0, false);
	run_until(s, 3 * INTERVAL_US);
	link_down(s, "cut");
	captured(s, 3, 0, false);
	done(s, ENV_JOB_ENCODE, 2, -ECANCELED, NULL);
	expect_over(s, 1, 1, 2);
}

static void test_acks_before_protection_do_nothing(void **state)
{
	struct script *s = *state;

	script_primary(s);
	simple(s, EVENT_START);
	simple(s, EVENT_LINK_UP);
	expect(s, "connect; send HELLO");
	ack(s, 0, 0);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	ack(s, 7, 0);
	expect(s, "sync");
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	expect(s, "");
	expect_state(s, "syncing");
}

static void test_hello_of_another_version(void **state)
{
	struct script *s = *state;
	char text[32];

	snprintf(text, sizeof(text), "version %u", WIRE_VERSION + 1);
	script_primary(s);
	simple(s, EVENT_START);
	simple(s, EVENT_LINK_UP);
	expect(s, "connect; send HELLO");
	hello_from(s, WIRE_VERSION + 1, WIRE_ROLE_SECONDARY, 2);
	expect(s, "disconnect VERSION");
	link_down(s, "closed");
	expect(s, "disconnect ENDED; release");
	assert_non_null(strstr(s->primary.last_error, text));
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	expect(s, "finish 1");
}

static void test_hello_of_a_primary(void **state)
{
	struct script *s = *state;

	script_primary(s);
	simple(s, EVENT_START);
	simple(s, EVENT_LINK_UP);
	expect(s, "connect; send HELLO");
	hello_from(s, WIRE_VERSION, WIRE_ROLE_PRIMARY, 2);
	expect(s, "disconnect PROTOCOL");
	link_down(s, "closed");
	assert_non_null(strstr(s->primary.last_error, "a primary itself"));
}

static void test_second_hello_does_nothing(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_syncing(s);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 1);
	expect(s, "");
	assert_int_equal(s->primary.peer_inflight, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_TEST(test_ten_epochs),
		SCRIPT_TEST(test_ack_of_the_image_may_come_first),
		SCRIPT_TEST(test_heartbeats_from_the_first_moment),
		SCRIPT_TEST(test_late_acks_stretch_the_interval),
		SCRIPT_TEST(test_in_flight_is_what_both_sides_allow),
		SCRIPT_TEST(test_slow_encoder_stretches_too),
		SCRIPT_TEST(test_suspend_timeout_skips_and_keeps_the_number),
		SCRIPT_TEST(test_reasons_of_skips),
		SCRIPT_TEST(test_no_epoch_for_long),
		SCRIPT_TEST(test_timeout_longer_than_the_interval),
		SCRIPT_TEST(test_late_suspend_is_looked_for),
		SCRIPT_TEST(test_skipped_while_another_is_in_flight),
		SCRIPT_TEST(test_stale_layout),
		SCRIPT_TEST(test_capture_fails),
		SCRIPT_TEST(test_encoder_fails),
		SCRIPT_TEST(test_cancelled_encoding_waits_for_the_link),
		SCRIPT_TEST(test_image_fails),
		SCRIPT_TEST(test_down_and_up_again),
		SCRIPT_TEST(test_unexpected_acks),
		SCRIPT_TEST(test_ack_before_the_epoch_is_sent),
		SCRIPT_TEST(test_ack_overtakes_the_encoder),
		SCRIPT_TEST(test_ack_overtakes_the_encoder_but_once),
		SCRIPT_TEST(test_what_becomes_of_each_epoch),
		SCRIPT_TEST(test_acks_before_protection_do_nothing),
		SCRIPT_TEST(test_hello_of_another_version),
		SCRIPT_TEST(test_hello_of_a_primary),
		SCRIPT_TEST(test_second_hello_does_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
