/* SPDX-License-Identifier: Apache-2.0 */
/* engine/secondary.c: the standby is built and kept in step, and errors. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/engine-script.h"

enum { BUILD_SILENCE_US = 15 * 1000 * 1000 };

static void removed(struct script *s, const char *actions)
{
	expect(s, actions);
	expect_state(s, "discarding");
	done(s, ENV_JOB_DESTROY, 0, 0, NULL);
	expect(s, "");
	expect_state(s, "listening");
	assert_false(s->secondary.built);
	assert_int_equal(s->secondary.committed, 0);
}

/* --- the happy path ----------------------------------------------------- */

static void test_ten_epochs(void **state)
{
	struct script *s = *state;
	char wanted[64];
	unsigned int n;

	script_secondary(s);
	to_standby(s);
	for (n = 1; n <= 10; n++) {
		simple(s, EVENT_ALIVE);
		stored(s, n, 0, NULL);
		snprintf(wanted, sizeof(wanted),
			 "send ACK %u applied %u; apply %u", n, n - 1, n);
		expect(s, wanted);
		done(s, ENV_JOB_APPLY, n, 0, NULL);
		assert_int_equal(s->secondary.committed, n);
		assert_int_equal(s->secondary.applied, n);
		run_for(s, INTERVAL_US);
	}
	expect_state(s, "standby");
	assert_int_equal(s->heartbeats, 10 * INTERVAL_US / HEARTBEAT_US);
}

static void test_acknowledged_before_applied(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_standby(s);
	stored(s, 1, 0, NULL);
	stored(s, 2, 0, NULL);
	expect(s, "send ACK 1 applied 0; apply 1; "
		  "send ACK 2 applied 0; apply 2");
	done(s, ENV_JOB_APPLY, 1, 0, NULL);
	stored(s, 3, 0, NULL);
	expect(s, "send ACK 3 applied 1; apply 3");
	assert_int_equal(s->secondary.committed, 3);
}

static void test_built_before_the_image_ends(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	done(s, ENV_JOB_BUILD, 0, 0, NULL);
	expect(s, "");
	expect_state(s, "building"); /* its checksum is not known yet */
	image_end(s, 0);
	expect(s, "send ACK 0 applied 0");
	expect_state(s, "standby");
}

static void test_hello(void **state)
{
	struct script *s = *state;
	struct hello h;

	script_secondary(s);
	secondary_hello(&s->secondary, &h);
	assert_int_equal(h.version, WIRE_VERSION);
	assert_int_equal(h.role, WIRE_ROLE_SECONDARY);
	assert_int_equal(h.inflight_max, 2);
	assert_int_equal(h.heartbeat_us, HEARTBEAT_US);
	assert_string_equal(h.host, "beta");
}

/* --- building ----------------------------------------------------------- */

static void test_build_fails(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	done(s, ENV_JOB_BUILD, 0, -EEXIST, "web runs here");
	expect(s, "disconnect IMAGE_FAILED");
	expect_state(s, "listening"); /* a failed build leaves nothing */
	assert_string_equal(s->secondary.last_error, "web runs here");
	link_down(s, "closed");
	expect(s, "");
	run_for(s, BUILD_SILENCE_US);
	expect_state(s, "listening");
	assert_int_equal(s->secondary.stats.takeovers, 0);
}

/* Another colod of this host holds the name: that is not "there is none". */
static void test_build_finds_another_colod(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	done(s, ENV_JOB_BUILD, 0, -EBUSY, "web is held by another colod");
	expect(s, "disconnect BUSY");
	expect_state(s, "listening");
}

static void test_link_lost_while_building(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	link_down(s, "reset");
	expect(s, "cancel build");
	expect_state(s, "discarding");
	done(s, ENV_JOB_BUILD, 0, -ECANCELED, NULL);
	expect(s, "");
	expect_state(s, "listening");
}

static void test_build_ends_well_after_the_link(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	link_down(s, "reset");
	expect(s, "cancel build");
	done(s, ENV_JOB_BUILD, 0, 0, NULL);
	removed(s, "destroy");
}

static void test_link_lost_between_build_and_image_end(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	done(s, ENV_JOB_BUILD, 0, 0, NULL);
	link_down(s, "reset");
	removed(s, "destroy");
}

static void test_image_is_not_what_was_sent(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	image_end(s, -EBADMSG);
	expect(s, "disconnect PROTOCOL; cancel build");
	done(s, ENV_JOB_BUILD, 0, 0, NULL);
	link_down(s, "closed");
	removed(s, "destroy");
}

static void test_builders_may_be_slow(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	run_until(s, BUILD_SILENCE_US - 1);
	expect(s, "");
	run_until(s, BUILD_SILENCE_US);
	expect(s, "disconnect -");
	link_down(s, "given up");
	expect(s, "cancel build");
	assert_string_equal(s->secondary.last_error,
			    "no sign of life from the primary for 15000 ms");
}

static void test_epoch_while_building(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	stored(s, 1, 0, NULL);
	expect(s, "disconnect PROTOCOL; cancel build");
	assert_int_equal(s->secondary.committed, 0);
}

/* --- what is stored, and what is not ------------------------------------ */

static void test_bad_epochs_never_activate(void **state)
{
	static const struct {
		int err;
		const char *bye;
	} of[] = {
		{ -EPROTO, "disconnect PROTOCOL" },
		{ -EBADMSG, "disconnect PROTOCOL" },
		{ -E2BIG, "disconnect LIMIT" },
		{ -ENOMEM, "disconnect NO_RESOURCES" },
	};
	struct script *s = *state;
	size_t i;

	for (i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
		script_secondary(s);
		s->secondary.cfg.fence = true;
		s->secondary.cfg.unsafe_no_fence = true;
		to_standby(s);
		stored(s, 1, 0, NULL);
		expect(s, "send ACK 1 applied 0; apply 1");
		stored(s, 2, of[i].err, "a page above the guest's memory");
		expect(s, of[i].bye);
		expect_state(s, "waiting");
		link_down(s, "closed");
		run_for(s, 3600 * UINT64_C(1000) * MS);
		expect(s, "");
		expect_state(s, "waiting");
		assert_int_equal(s->secondary.committed, 1);
	}
}

static void test_violation_never_activates(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.unsafe_no_fence = true;
	to_standby(s);
	event(s, &(struct event){ .type = EVENT_VIOLATION,
				  .error = -EPROTO,
				  .text = "unexpected frame" });
	link_down(s, "closed");
	run_for(s, 3600 * UINT64_C(1000) * MS);
	expect(s, "disconnect PROTOCOL");
	expect_state(s, "waiting");
}

static void test_epochs_out_of_order(void **state)
{
	static const uint64_t wrong[] = { 0, 1, 3, UINT64_MAX };
	struct script *s = *state;
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		script_secondary(s);
		to_standby(s);
		stored(s, 1, 0, NULL);
		expect(s, "send ACK 1 applied 0; apply 1");
		stored(s, wrong[i], 0, NULL);
		expect(s, "disconnect PROTOCOL");
		expect_state(s, "waiting");
		assert_int_equal(s->secondary.committed, 1);
	}
}

static void test_stored_after_the_link_is_dropped(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_lost(s);
	stored(s, 2, 0, NULL);
	stored(s, 3, -EPROTO, NULL);
	expect(s, "");
	assert_int_equal(s->secondary.committed, 1);
}

static void test_epoch_cannot_be_applied(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_standby(s);
	stored(s, 1, 0, NULL);
	stored(s, 2, 0, NULL);
	expect(s, "send ACK 1 applied 0; apply 1; "
		  "send ACK 2 applied 0; apply 2");
	done(s, ENV_JOB_APPLY, 1, -EIO, NULL);
	expect(s, "disconnect RESYNC; destroy");
	done(s, ENV_JOB_APPLY, 2, -EIO, NULL);
	link_down(s, "closed");
	removed(s, "");
}

static void test_epoch_cannot_be_applied_for_want_of_memory(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_standby(s);
	stored(s, 1, 0, NULL);
	expect(s, "send ACK 1 applied 0; apply 1");
	done(s, ENV_JOB_APPLY, 1, -ENOMEM, NULL);
	expect(s, "disconnect NO_RESOURCES; destroy");
	link_down(s, "closed");
	removed(s, "");
}

static void test_epoch_cannot_be_applied_once_lost(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.unsafe_no_fence = true;
	to_standby(s);
	stored(s, 1, 0, NULL);
	simple(s, EVENT_ALIVE);
	link_down(s, "reset");
	expect(s, "send ACK 1 applied 0; apply 1");
	done(s, ENV_JOB_APPLY, 1, -EIO, NULL);
	removed(s, "disconnect RESYNC; destroy");
	run_for(s, 10 * LOST_US);
	expect(s, "");
}

/*
 * The takeover has begun when the last epoch turns out to be unusable: the
 * guest's side refuses to activate, and no word makes it try again.
 */
static void test_epoch_cannot_be_applied_while_activating(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.unsafe_no_fence = true;
	to_standby(s);
	stored(s, 1, 0, NULL);
	simple(s, EVENT_ALIVE);
	link_down(s, "reset");
	run_for(s, LOST_US);
	expect(s, "send ACK 1 applied 0; apply 1; activate 1");
	done(s, ENV_JOB_APPLY, 1, -EIO, NULL);
	done(s, ENV_JOB_ACTIVATE, 1, -EIO, "inconsistent");
	removed(s, "destroy");
	simple(s, EVENT_FAILOVER);
	expect(s, "");
}

/* --- BYE ---------------------------------------------------------------- */

static const enum wire_reason reasons[] = {
#define X(number, name, text) WIRE_REASON_##name,
	WIRE_REASONS(X)
#undef X
};

enum { REASONS = sizeof(reasons) / sizeof(reasons[0]) };

static void test_bye_removes_the_standby(void **state)
{
	struct script *s = *state;
	int i;

	for (i = 0; i < REASONS; i++) {
		if (reasons[i] == WIRE_REASON_PROTOCOL)
			continue;
		script_secondary(s);
		s->secondary.cfg.unsafe_no_fence = true;
		to_standby(s);
		bye_with(s, reasons[i], "");
		expect(s, "disconnect ENDED; destroy");
		link_down(s, "given up");
		removed(s, "");
		run_for(s, 10 * LOST_US);
		expect(s, "");
	}
}

static void test_bye_while_building(void **state)
{
	struct script *s = *state;
	int i;

	for (i = 0; i < REASONS; i++) {
		script_secondary(s);
		to_building(s);
		bye_with(s, reasons[i], "");
		expect(s, "disconnect ENDED; cancel build");
		link_down(s, "given up");
		done(s, ENV_JOB_BUILD, 0, -ECANCELED, NULL);
		expect(s, "");
		expect_state(s, "listening");
	}
}

static void test_bye_protocol_keeps_the_standby(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.unsafe_no_fence = true;
	to_standby(s);
	bye_with(s, WIRE_REASON_PROTOCOL, "unexpected ACK");
	expect(s, "disconnect -");
	expect_state(s, "waiting");
	simple(s, EVENT_FAILOVER);
	expect(s, ""); /* it is still connected */
	link_down(s, "given up");
	run_for(s, 10 * LOST_US);
	expect(s, "");
	expect_state(s, "waiting");
}

/* --- the operator ------------------------------------------------------- */

static void test_stop_while_listening(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	simple(s, EVENT_STOP);
	expect(s, "finish 0");
}

static void test_stop_while_building(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	simple(s, EVENT_STOP);
	expect(s, "disconnect ENDED; cancel build");
	link_down(s, "closed");
	done(s, ENV_JOB_BUILD, 0, -ECANCELED, NULL);
	expect(s, "finish 0");
}

static void test_stop_of_a_standby(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_standby(s);
	simple(s, EVENT_STOP);
	expect(s, "disconnect ENDED; destroy");
	simple(s, EVENT_STOP);
	link_down(s, "closed");
	expect(s, "");
	done(s, ENV_JOB_DESTROY, 0, 0, NULL);
	expect(s, "finish 0");
}

static void test_stop_while_discarding(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_standby(s);
	bye_with(s, WIRE_REASON_ENDED, "");
	link_down(s, "given up");
	simple(s, EVENT_STOP);
	done(s, ENV_JOB_DESTROY, 0, 0, NULL);
	expect(s, "disconnect ENDED; destroy; finish 0");
}

/* A primary that waits to be built for must not keep us from ending. */
static void test_stop_while_a_primary_waits(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_lost(s);
	domain_of(s, "web", 1);
	expect(s, "destroy");
	simple(s, EVENT_STOP);
	expect(s, "disconnect ENDED");
	link_down(s, "closed");
	done(s, ENV_JOB_DESTROY, 0, 0, NULL);
	expect(s, "finish 0");

	script_secondary(s);
	to_lost(s);
	domain_of(s, "web", 1);
	simple(s, EVENT_STOP);
	done(s, ENV_JOB_DESTROY, 0, 0, NULL);
	expect(s, "destroy; disconnect ENDED; finish 0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_TEST(test_ten_epochs),
		SCRIPT_TEST(test_acknowledged_before_applied),
		SCRIPT_TEST(test_built_before_the_image_ends),
		SCRIPT_TEST(test_hello),
		SCRIPT_TEST(test_build_fails),
		SCRIPT_TEST(test_build_finds_another_colod),
		SCRIPT_TEST(test_link_lost_while_building),
		SCRIPT_TEST(test_build_ends_well_after_the_link),
		SCRIPT_TEST(test_link_lost_between_build_and_image_end),
		SCRIPT_TEST(test_image_is_not_what_was_sent),
		SCRIPT_TEST(test_builders_may_be_slow),
		SCRIPT_TEST(test_epoch_while_building),
		SCRIPT_TEST(test_bad_epochs_never_activate),
		SCRIPT_TEST(test_violation_never_activates),
		SCRIPT_TEST(test_epochs_out_of_order),
		SCRIPT_TEST(test_stored_after_the_link_is_dropped),
		SCRIPT_TEST(test_epoch_cannot_be_applied),
		SCRIPT_TEST(test_epoch_cannot_be_applied_for_want_of_memory),
		SCRIPT_TEST(test_epoch_cannot_be_applied_once_lost),
		SCRIPT_TEST(test_epoch_cannot_be_applied_while_activating),
		SCRIPT_TEST(test_bye_removes_the_standby),
		SCRIPT_TEST(test_bye_while_building),
		SCRIPT_TEST(test_bye_protocol_keeps_the_standby),
		SCRIPT_TEST(test_stop_while_listening),
		SCRIPT_TEST(test_stop_while_building),
		SCRIPT_TEST(test_stop_of_a_standby),
		SCRIPT_TEST(test_stop_while_discarding),
		SCRIPT_TEST(test_stop_while_a_primary_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
