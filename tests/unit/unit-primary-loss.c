/* SPDX-License-Identifier: Apache-2.0 */
/* engine/primary.c: the peer is lost, the guest ends, the operator stops it. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/moves.h"
#include "tests/unit/engine-script.h"

/* The capture that to_protected() started ends, so that no job is left. */
static void to_protected_idle(struct script *s)
{
	to_protected(s);
	one_epoch(s, 1);
	expect(s, "encode 1");
}

/* The link breaks at 20 ms, the last sign of life was at 10 ms. */
static void to_lost_primary(struct script *s)
{
	to_protected_idle(s);
	run_until(s, 10 * MS);
	simple(s, EVENT_ALIVE);
	run_until(s, 20 * MS);
	link_down(s, "reset");
	expect(s, "");
	expect_state(s, "lost");
}

/* No attempt to connect works. */
static void refuse_until(struct script *s, uint64_t elapsed_us)
{
	while (elapsed(s) < elapsed_us) {
		run_for(s, 10 * MS);
		if (strcmp(script_state(s), "connecting") == 0) {
			expect(s, "connect");
			link_down(s, "connection refused");
		}
	}
}

static void to_fencing(struct script *s)
{
	script_primary(s);
	s->primary.cfg.fence = true;
	to_lost_primary(s);
	refuse_until(s, 310 * MS);
	expect(s, "fence");
	expect_state(s, "fencing");
}

static void to_unprotected(struct script *s)
{
	script_primary(s);
	to_lost_primary(s);
	refuse_until(s, 310 * MS);
	expect(s, "");
	expect_state(s, "unprotected");
}

static void released(struct script *s, const char *finish)
{
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	expect(s, finish);
	expect_state(s, "ended");
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

/* --- the guest ends by itself ------------------------------------------- */

static const struct ending {
	enum guest_status status;
	const char *bye;
	bool after_shutdown;
	const char *finish;
} endings[] = {
	{ GUEST_POWEROFF, "disconnect POWEROFF; release", true, "finish 0" },
	{ GUEST_REBOOT, "disconnect REBOOT; release", true, "finish 0" },
	{ GUEST_CRASHED, "disconnect CRASH; release", true, "finish 5" },
	{ GUEST_GONE, "disconnect ENDED; release", false, "finish 0" },
};

enum { ENDINGS = sizeof(endings) / sizeof(endings[0]) };

static void guest_ended(struct script *s, const struct ending *e, bool link)
{
	expect(s, e->bye);
	expect_state(s, "ending");
	assert_int_equal(due(s, ENV_TIMER_HEARTBEAT), 0);
	assert_int_equal(due(s, ENV_TIMER_EPOCH), 0);
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	if (e->after_shutdown) {
		expect(s, "after-shutdown");
		done_again(s, false);
	}
	if (link) {
		expect(s, ""); /* the BYE has to get out */
		link_down(s, "closed");
	}
	expect(s, e->finish);
}

static void test_guest_ends_while_protected(void **state)
{
	struct script *s = *state;
	int i;

	for (i = 0; i < ENDINGS; i++) {
		script_primary(s);
		to_protected(s);
		captured_down(s, 1, endings[i].status);
		guest_ended(s, &endings[i], true);
	}
}

static void test_guest_ends_while_synchronising(void **state)
{
	struct script *s = *state;
	int i;

	for (i = 0; i < ENDINGS; i++) {
		script_primary(s);
		to_syncing(s);
		done_guest(s, ENV_JOB_SYNC, -ESHUTDOWN, endings[i].status);
		guest_ended(s, &endings[i], true);
	}
}

static void test_guest_ends_while_lost(void **state)
{
	struct script *s = *state;
	int i;

	for (i = 0; i < ENDINGS; i++) {
		script_primary(s);
		to_protected(s);
		link_down(s, "reset");
		captured_down(s, 1, endings[i].status);
		guest_ended(s, &endings[i], false);
	}
}

static void test_guest_ends_while_unprotected(void **state)
{
	struct script *s = *state;
	int i;

	for (i = 0; i < ENDINGS; i++) {
		to_unprotected(s);
		assert_int_equal(due(s, ENV_TIMER_GUEST),
				 10 * MS + LOST_US + RETRY_US / 2);
		run_until(s, 10 * MS + LOST_US + RETRY_US / 2);
		expect(s, "status");
		done_guest(s, ENV_JOB_STATUS, 0, endings[i].status);
		guest_ended(s, &endings[i], false);
	}
}

static void test_guest_ends_while_connecting_again(void **state)
{
	struct script *s = *state;
	int i;

	for (i = 0; i < ENDINGS; i++) {
		to_unprotected(s);
		run_until(s, due(s, ENV_TIMER_RETRY));
		expect(s, "status; connect");
		done_guest(s, ENV_JOB_STATUS, 0, endings[i].status);
		guest_ended(s, &endings[i], true);
	}
}

static void test_guest_ends_while_fencing(void **state)
{
	struct script *s = *state;

	script_primary(s);
	s->primary.cfg.fence = true;
	to_protected(s);
	link_down(s, "reset");
	run_until(s, LOST_US);
	expect(s, "fence");
	captured_down(s, 1, GUEST_POWEROFF);
	expect(s, "cancel fence; disconnect POWEROFF"); /* and wait for it */
	done(s, ENV_JOB_FENCE, 0, -ECANCELED, "it was cancelled");
	expect(s, "release");
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	expect(s, "after-shutdown");
	done_again(s, false);
	expect(s, "finish 0");
}

static void test_reboot_is_protected_again(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured_down(s, 1, GUEST_REBOOT);
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	done_again(s, true);
	expect(s, "disconnect REBOOT; release; after-shutdown");
	expect_state(s, "ending");
	link_down(s, "closed");
	expect(s, "connect");
	expect_state(s, "connecting");
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	ack(s, 0, 0);
	expect(s, "send HELLO; sync; capture 1");
	expect_state(s, "protected");
}

/* One connection at a time: that of before has to end. */
static void test_reboot_while_connecting_again(void **state)
{
	struct script *s = *state;

	to_unprotected(s);
	run_until(s, due(s, ENV_TIMER_RETRY));
	expect(s, "status; connect");
	done_guest(s, ENV_JOB_STATUS, 0, GUEST_REBOOT);
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	done_again(s, true);
	expect(s, "disconnect REBOOT; release; after-shutdown");
	link_down(s, "given up");
	expect(s, "connect");
}

static void test_stop_between_reboot_and_protection(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured_down(s, 1, GUEST_REBOOT);
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	simple(s, EVENT_STOP);
	done_again(s, true);
	link_down(s, "closed");
	expect(s, "disconnect REBOOT; release; after-shutdown; "
		  "cancel after-shutdown; finish 0");

	script_primary(s);
	to_protected(s);
	captured_down(s, 1, GUEST_REBOOT);
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	done_again(s, true);
	simple(s, EVENT_STOP);
	link_down(s, "closed");
	expect(s, "disconnect REBOOT; release; after-shutdown; finish 0");
}

static void test_running_guest_changes_nothing(void **state)
{
	struct script *s = *state;

	to_unprotected(s);
	run_until(s, 10 * MS + LOST_US + RETRY_US / 2);
	done_guest(s, ENV_JOB_STATUS, 0, GUEST_SUSPENDED);
	expect(s, "status");
	expect_state(s, "unprotected");
}

/* --- BYE ---------------------------------------------------------------- */

static const enum wire_reason reasons[] = {
#define X(number, name, text) WIRE_REASON_##name,
	WIRE_REASONS(X)
#undef X
};

enum { REASONS = sizeof(reasons) / sizeof(reasons[0]) };

static void test_bye_before_protection_ends_it(void **state)
{
	struct script *s = *state;
	int i, syncing;

	for (i = 0; i < REASONS; i++)
		for (syncing = 0; syncing < 2; syncing++) {
			if (reasons[i] == WIRE_REASON_FAILED_OVER)
				continue;
			script_primary(s);
			simple(s, EVENT_START);
			simple(s, EVENT_LINK_UP);
			expect(s, "connect; send HELLO");
			if (syncing) {
				hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY,
					   2);
				expect(s, "sync");
			}
			bye_with(s, reasons[i], "so there");
			expect(s, "disconnect ENDED");
			link_down(s, "closed");
			if (syncing) {
				expect(s, "cancel sync; disconnect ENDED");
				done(s, ENV_JOB_SYNC, 0, -ECANCELED, NULL);
				expect(s, "release");
			} else {
				expect(s, "disconnect ENDED; release");
			}
			released(s, "finish 1");
			assert_non_null(
				strstr(s->primary.last_error, "so there"));
		}
}

/* The standby is gone with a peer that says so; it may not be otherwise. */
static void test_bye_while_protected(void **state)
{
	static const enum wire_reason gone[] = { WIRE_REASON_ENDED,
						 WIRE_REASON_IMAGE_FAILED,
						 WIRE_REASON_REFUSED };
	struct script *s = *state;
	size_t i;

	for (i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
		script_primary(s);
		s->primary.cfg.fence = true;
		to_protected_idle(s);
		bye_with(s, gone[i], "");
		link_down(s, "closed");
		expect(s, "disconnect ENDED");
		expect_state(s, "unprotected");
		assert_int_equal(due(s, ENV_TIMER_RETRY), RETRY_US);
		assert_int_equal(due(s, ENV_TIMER_LOST), 0);
	}
	script_primary(s);
	to_protected_idle(s);
	bye_with(s, WIRE_REASON_PROTOCOL, "a frame outside its epoch");
	link_down(s, "closed");
	expect(s, "disconnect ENDED");
	expect_state(s, "lost");
	assert_string_equal(s->primary.last_error,
			    "the peer violated the protocol: a frame outside "
			    "its epoch");
}

static void yields(struct script *s, const char *actions, bool link)
{
	expect(s, actions);
	expect_state(s, "yielding");
	done(s, ENV_JOB_YIELD, 0, 0, NULL);
	expect(s, "release");
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	if (link) {
		expect(s, "");
		link_down(s, "closed");
	}
	expect(s, "finish 4");
}

static void test_failed_over_while_away(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_lost_primary(s);
	run_until(s, 20 * MS + HEARTBEAT_US);
	simple(s, EVENT_LINK_UP);
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 2);
	expect(s, "connect; send HELLO; sync");
	bye_with(s, WIRE_REASON_FAILED_OVER, "web runs on beta");
	expect(s, "cancel sync; disconnect ENDED");
	done(s, ENV_JOB_SYNC, 0, -ECANCELED, NULL);
	yields(s, "yield", true);
}

static void test_failed_over_before_the_sync(void **state)
{
	struct script *s = *state;

	script_primary(s);
	simple(s, EVENT_START);
	simple(s, EVENT_LINK_UP);
	expect(s, "connect; send HELLO");
	bye_with(s, WIRE_REASON_FAILED_OVER, "web runs on beta");
	yields(s, "disconnect ENDED; yield", true);
}

static void test_failed_over_while_protected(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	bye_with(s, WIRE_REASON_FAILED_OVER, "web runs on beta");
	expect(s, "disconnect ENDED");
	captured(s, 1, 0, false);
	yields(s, "yield", true);
}

static void test_yield_fails(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected_idle(s);
	bye_with(s, WIRE_REASON_FAILED_OVER, "web runs on beta");
	link_down(s, "closed");
	done(s, ENV_JOB_YIELD, 0, -EIO, NULL);
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	expect(s, "disconnect ENDED; yield; release; finish 4");
}

static void test_violation(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected_idle(s);
	event(s, &(struct event){ .type = EVENT_VIOLATION,
				  .error = -EPROTO,
				  .text = "unexpected frame" });
	expect(s, "disconnect PROTOCOL");
	link_down(s, "closed");
	expect_state(s, "lost");
	assert_non_null(strstr(s->primary.last_error, "unexpected frame"));
}

/* --- the operator stops it ---------------------------------------------- */

static void test_stop_while_connecting(void **state)
{
	struct script *s = *state;

	script_primary(s);
	simple(s, EVENT_START);
	simple(s, EVENT_STOP);
	expect(s, "connect; disconnect ENDED; release");
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	expect(s, ""); /* the attempt has to end first */
	link_down(s, "given up");
	expect(s, "finish 0");
}

static void test_stop_while_synchronising(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_syncing(s);
	simple(s, EVENT_STOP);
	expect(s, "cancel sync; disconnect ENDED");
	link_down(s, "closed");
	expect(s, "");
	done(s, ENV_JOB_SYNC, 0, -ECANCELED, NULL);
	expect(s, "release");
	released(s, "finish 0");
}

static void test_stop_while_protected(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	simple(s, EVENT_STOP);
	expect(s, "disconnect ENDED"); /* the capture ends first */
	captured(s, 1, 0, false);
	expect(s, "release");
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	expect(s, "");
	simple(s, EVENT_STOP);
	expect(s, "");
	link_down(s, "closed");
	expect(s, "finish 0");
}

static void test_stop_while_encoding(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected(s);
	captured(s, 1, 0, false);
	simple(s, EVENT_STOP);
	expect(s, "encode 1; disconnect ENDED");
	link_down(s, "closed");
	done(s, ENV_JOB_ENCODE, 1, -ECANCELED, NULL);
	expect(s, "release");
	released(s, "finish 0");
}

static void test_stop_while_lost(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_lost_primary(s);
	simple(s, EVENT_STOP);
	expect(s, "disconnect ENDED; release");
	released(s, "finish 3");
}

static void test_stop_while_fencing(void **state)
{
	struct script *s = *state;

	to_fencing(s);
	simple(s, EVENT_STOP);
	expect(s, "cancel fence; disconnect ENDED");
	done(s, ENV_JOB_FENCE, 0, -ECANCELED, "it was cancelled");
	expect(s, "release");
	released(s, "finish 3");
}

static void test_stop_while_unprotected(void **state)
{
	struct script *s = *state;

	to_unprotected(s);
	simple(s, EVENT_STOP);
	expect(s, "disconnect ENDED; release");
	released(s, "finish 3");
}

static void test_stop_while_yielding(void **state)
{
	struct script *s = *state;

	script_primary(s);
	to_protected_idle(s);
	bye_with(s, WIRE_REASON_FAILED_OVER, "");
	simple(s, EVENT_STOP);
	link_down(s, "closed");
	yields(s, "disconnect ENDED; yield", false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		SCRIPT_TEST(test_guest_ends_while_protected),
		SCRIPT_TEST(test_guest_ends_while_synchronising),
		SCRIPT_TEST(test_guest_ends_while_lost),
		SCRIPT_TEST(test_guest_ends_while_unprotected),
		SCRIPT_TEST(test_guest_ends_while_connecting_again),
		SCRIPT_TEST(test_guest_ends_while_fencing),
		SCRIPT_TEST(test_reboot_is_protected_again),
		SCRIPT_TEST(test_reboot_while_connecting_again),
		SCRIPT_TEST(test_stop_between_reboot_and_protection),
		SCRIPT_TEST(test_running_guest_changes_nothing),
		SCRIPT_TEST(test_bye_before_protection_ends_it),
		SCRIPT_TEST(test_bye_while_protected),
		SCRIPT_TEST(test_failed_over_while_away),
		SCRIPT_TEST(test_failed_over_before_the_sync),
		SCRIPT_TEST(test_failed_over_while_protected),
		SCRIPT_TEST(test_yield_fails),
		SCRIPT_TEST(test_violation),
		SCRIPT_TEST(test_stop_while_connecting),
		SCRIPT_TEST(test_stop_while_synchronising),
		SCRIPT_TEST(test_stop_while_protected),
		SCRIPT_TEST(test_stop_while_encoding),
		SCRIPT_TEST(test_stop_while_lost),
		SCRIPT_TEST(test_stop_while_fencing),
		SCRIPT_TEST(test_stop_while_unprotected),
		SCRIPT_TEST(test_stop_while_yielding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
