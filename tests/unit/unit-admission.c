/* SPDX-License-Identifier: Apache-2.0 */
/* engine/secondary.c: which primary is let in, in every state. */
#include "config.h"

#include <errno.h>
#include <stdio.h>

#include "tests/unit/engine-script.h"

enum { OURS = 1, ANOTHER = 2, ADMITTED = -1 };

static int admit(const struct script *s, uint8_t uuid)
{
	const struct guest_description d = { .name = "web", .uuid = { uuid } };
	struct bye bye = { 0 };

	if (secondary_admit(&s->secondary, &d, &bye))
		return ADMITTED;
	assert_true(bye.text[0]);
	return (int)bye.reason;
}

/* What the primary of the standby's domain, and that of another, are told. */
static void expect_admission(const struct script *s, int ours, int another)
{
	assert_int_equal(admit(s, OURS), ours);
	assert_int_equal(admit(s, ANOTHER), another);
}

static void test_greeting(void **state)
{
	struct script *s = *state;
	struct hello h = { .version = WIRE_VERSION, .role = WIRE_ROLE_PRIMARY };
	struct bye bye;
	char text[64];

	script_secondary(s);
	assert_true(secondary_greet(&s->secondary, &h, &bye));
	h.role = WIRE_ROLE_SECONDARY;
	assert_false(secondary_greet(&s->secondary, &h, &bye));
	assert_int_equal(bye.reason, WIRE_REASON_PROTOCOL);
	h.role = WIRE_ROLE_PRIMARY;
	h.version = WIRE_VERSION + 1;
	assert_false(secondary_greet(&s->secondary, &h, &bye));
	assert_int_equal(bye.reason, WIRE_REASON_VERSION);
	snprintf(text, sizeof(text), "this side speaks version %u, the peer %u",
		 WIRE_VERSION, WIRE_VERSION + 1);
	assert_string_equal(bye.text, text);
}

static void test_listening(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	expect_admission(s, ADMITTED, ADMITTED);
}

static void test_building_and_standby(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	expect_admission(s, WIRE_REASON_BUSY, WIRE_REASON_REFUSED);
	image_end(s, 0);
	done(s, ENV_JOB_BUILD, 0, 0, NULL);
	expect_state(s, "standby");
	expect_admission(s, WIRE_REASON_BUSY, WIRE_REASON_REFUSED);
}

/* Until its connection is down its end would be taken for the new one's. */
static void test_failed_build_until_its_link_is_down(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_building(s);
	done(s, ENV_JOB_BUILD, 0, -EIO, "no memory");
	expect_state(s, "listening");
	expect_admission(s, WIRE_REASON_BUSY, WIRE_REASON_BUSY);
	link_down(s, "closed");
	expect_admission(s, ADMITTED, ADMITTED);
}

static void test_lost(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_lost(s);
	expect_admission(s, ADMITTED, WIRE_REASON_REFUSED);
}

static void test_waiting(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_lost(s);
	run_for(s, LOST_US);
	expect_state(s, "waiting");
	expect_admission(s, ADMITTED, WIRE_REASON_REFUSED);
}

static void test_waiting_with_the_link_still_up(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_standby(s);
	stored(s, 1, -EPROTO, "malformed");
	expect_state(s, "waiting");
	expect_admission(s, WIRE_REASON_BUSY, WIRE_REASON_REFUSED);
	link_down(s, "closed");
	expect_admission(s, ADMITTED, WIRE_REASON_REFUSED);
}

static void test_fencing_and_after(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.fence = true;
	to_lost(s);
	run_for(s, LOST_US);
	expect_state(s, "fencing");
	expect_admission(s, WIRE_REASON_BUSY, WIRE_REASON_REFUSED);
	done(s, ENV_JOB_FENCE, 0, 0, NULL);
	expect_state(s, "activating");
	expect_admission(s, WIRE_REASON_BUSY, WIRE_REASON_REFUSED);
	done(s, ENV_JOB_ACTIVATE, 1, 0, NULL);
	expect_state(s, "active");
	expect_admission(s, WIRE_REASON_FAILED_OVER, WIRE_REASON_REFUSED);
	run_for(s, 1000 * MS);
	done_guest(s, ENV_JOB_STATUS, 0, GUEST_GONE);
	done_again(s, false);
	expect_state(s, "listening"); /* the guest is no more */
	expect_admission(s, ADMITTED, ADMITTED);
}

/* A fence that outlives the standby must not speak for the next primary. */
static void test_fence_still_at_work(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	s->secondary.cfg.fence = true;
	to_standby(s);
	stored(s, 1, 0, NULL);
	link_down(s, "reset");
	run_for(s, LOST_US);
	expect_state(s, "fencing");
	done(s, ENV_JOB_APPLY, 1, -EIO, NULL);
	done(s, ENV_JOB_DESTROY, 0, 0, NULL);
	expect_state(s, "listening");
	expect_admission(s, WIRE_REASON_BUSY, WIRE_REASON_BUSY);
	done(s, ENV_JOB_FENCE, 0, 0, NULL);
	expect_admission(s, ADMITTED, ADMITTED);
}

static void test_discarding_and_ended(void **state)
{
	struct script *s = *state;

	script_secondary(s);
	to_standby(s);
	bye_with(s, WIRE_REASON_RESYNC, "");
	link_down(s, "closed");
	expect_state(s, "discarding");
	expect_admission(s, WIRE_REASON_BUSY, WIRE_REASON_REFUSED);
	assert_true(secondary_removes(&s->secondary));
	simple(s, EVENT_STOP);
	assert_false(secondary_removes(&s->secondary));
	done(s, ENV_JOB_DESTROY, 0, 0, NULL);
	expect_state(s, "ended");
	expect_admission(s, WIRE_REASON_BUSY, WIRE_REASON_BUSY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_TEST(test_greeting),
		SCRIPT_TEST(test_listening),
		SCRIPT_TEST(test_building_and_standby),
		SCRIPT_TEST(test_failed_build_until_its_link_is_down),
		SCRIPT_TEST(test_lost),
		SCRIPT_TEST(test_waiting),
		SCRIPT_TEST(test_waiting_with_the_link_still_up),
		SCRIPT_TEST(test_fencing_and_after),
		SCRIPT_TEST(test_fence_still_at_work),
		SCRIPT_TEST(test_discarding_and_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
