/* SPDX-License-Identifier: Apache-2.0 */
/* engine/primary_end.c: the guest ends, the peer says BYE, the operator stops.
 */
#include "config.h"

#include "tests/unit/lost-fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/moves.h"

/* --- the guest ends by itself ------------------------------------------- */

static const struct ending {
	enum guest_status status;
	const char *bye;
	bool after_shutdown;
	const char *finish;
} endings[] = {
	{ GUEST_POWEROFF, "POWEROFF", true, "finish 0" },
	{ GUEST_REBOOT, "REBOOT", true, "finish 0" },
	{ GUEST_CRASHED, "CRASH", true, "finish 5" },
	{ GUEST_GONE, "ENDED", false, "finish 0" },
};

enum { ENDINGS = sizeof(endings) / sizeof(endings[0]) };

/* `greeted`: there is a peer that can answer our BYE. */
static void guest_ended(struct script *s, const struct ending *e, bool link,
			bool greeted)
{
	char said[40];

	snprintf(said, sizeof(said), "%s %s; release",
		 greeted ? "send BYE" : "disconnect", e->bye);
	expect(s, said);
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
		if (greeted) {
			bye_with(s, WIRE_REASON_ENDED, "");
			expect(s, "disconnect ENDED");
		}
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
		guest_ended(s, &endings[i], true, true);
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
		guest_ended(s, &endings[i], true, true);
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
		guest_ended(s, &endings[i], false, false);
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
		guest_ended(s, &endings[i], false, false);
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
		guest_ended(s, &endings[i], true, false);
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
	expect(s, "send BYE REBOOT; release; after-shutdown");
	expect_state(s, "ending");
	bye_with(s, WIRE_REASON_ENDED, "");
	expect(s, "disconnect ENDED");
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
	expect(s, "send BYE REBOOT; release; after-shutdown; "
		  "cancel after-shutdown; finish 0");

	script_primary(s);
	to_protected(s);
	captured_down(s, 1, GUEST_REBOOT);
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	done_again(s, true);
	simple(s, EVENT_STOP);
	link_down(s, "closed");
	expect(s, "send BYE REBOOT; release; after-shutdown; finish 0");
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
	expect(s, "cancel sync; send BYE ENDED");
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
	expect(s, "send BYE ENDED"); /* the capture ends first */
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
	expect(s, "encode 1; send BYE ENDED");
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
