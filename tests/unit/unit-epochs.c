/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/epochs.c: a checkpoint with a guest that fails in every way.  The
 * guest here keeps the books: a suspended guest is resumed exactly once.
 */
#include "config.h"

#include "engine/epochs.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct guest_source {
	int suspend_err, capture_err;
	unsigned int resume_fails; /* this many times */
	bool partial;
	size_t ahead_pages, pages, again;

	bool suspended, apart;
	unsigned int suspends, captures, resumes, resume_calls;
	uint64_t timeout_us;
};

static uint64_t clock_us;

static uint64_t now_us(void)
{
	return clock_us;
}

static int guest_suspend(struct guest_source *g, uint64_t timeout_us)
{
	assert_false(g->suspended);
	g->timeout_us = timeout_us;
	clock_us += 3;
	if (g->suspend_err)
		return g->suspend_err;
	g->suspended = true;
	g->suspends++;
	return 0;
}

static int guest_capture(struct guest_source *g, struct epoch *e)
{
	assert_true(g->suspended);
	g->captures++;
	e->partial = g->partial;
	e->page_count += g->pages;
	e->again_count = g->again;
	e->times.copy_us = 20;
	clock_us += 20;
	return g->capture_err;
}

static int guest_resume(struct guest_source *g, enum guest_resume kind)
{
	assert_true(g->suspended);
	assert_int_equal(kind, GUEST_RESUME_FAST);
	g->resume_calls++;
	clock_us += 5;
	if (g->resume_fails) {
		g->resume_fails--;
		return -EAGAIN;
	}
	g->suspended = false;
	g->resumes++;
	return 0;
}

static const struct guest_source_ops ops = {
	.suspend = guest_suspend,
	.capture = guest_capture,
	.resume = guest_resume,
};

static int checkpoint(struct epoch_run *r, struct guest_source *g,
		      struct epoch *arena)
{
	static const struct epoch_manner manner = {
		.suspend_timeout_us = 2000,
		.resume = GUEST_RESUME_FAST,
	};

	return epoch_checkpoint(r, &ops, g, arena, &manner, now_us);
}

/* One checkpoint of a new epoch; the guest runs afterwards, whatever came. */
static void expect_checkpoint(struct guest_source *g, int err,
			      enum epoch_state state)
{
	struct epoch arena = { 0 };
	struct epoch_run r;

	epoch_run_start(&r, 7, 1);
	assert_int_equal(checkpoint(&r, g, &arena), err);
	assert_int_equal(r.state, state);
	assert_false(r.guest_suspended);
	assert_false(g->suspended);
	assert_int_equal(g->suspends, g->resumes);
	assert_int_equal(r.rounds,
			 state == EPOCH_ABORT && !g->suspends ? 0 : 1);
	assert_int_equal(arena.number, 7);
}

static void guest_copy_ahead(struct guest_source *g, struct epoch *e,
			     bool apart)
{
	assert_false(g->suspended);
	assert_int_equal(e->page_count, 0);
	g->apart = apart;
	e->page_count = g->ahead_pages;
	clock_us += 7;
}

static int checkpoint_ahead(struct epoch_run *r, struct guest_source *g,
			    struct epoch *arena, bool apart)
{
	const struct epoch_manner manner = {
		.suspend_timeout_us = 2000,
		.resume = GUEST_RESUME_FAST,
		.apart = apart,
	};
	struct guest_source_ops ahead = ops;

	ahead.copy_ahead = guest_copy_ahead;
	return epoch_checkpoint(r, &ahead, g, arena, &manner, now_us);
}

/* While the guest runs, into what is empty, and only where pages can be found.
 */
static void test_copied_ahead(void **state)
{
	struct guest_source g = { .ahead_pages = 5 };
	uint32_t index[1];
	struct epoch arena = { 0 };
	struct epoch_run r;

	(void)state;
	for (int with = 0; with < 2; with++) {
		arena.page_count = 3;
		arena.index = with ? index : NULL;
		epoch_run_start(&r, 7, 1);
		assert_int_equal(checkpoint_ahead(&r, &g, &arena, false), 0);
		assert_int_equal(arena.times.ahead_us, with ? 7 : 0);
		assert_int_equal(arena.times.suspend_us, 3);
		assert_int_equal(r.state, EPOCH_RESUME);
		assert_int_equal(r.rounds, 1);
		assert_false(g.apart);
	}
}

/* What is copied ahead is a round of its own; the guest is not asked for it. */
static void sent_ahead(bool later)
{
	struct guest_source g = { .ahead_pages = 5, .pages = 3, .again = 2 };
	uint32_t index[1];
	struct epoch arena = { .index = index };
	struct epoch_run r;

	epoch_run_start(&r, 7, 1);
	assert_int_equal(checkpoint_ahead(&r, &g, &arena, true), 0);
	assert_int_equal(r.state, EPOCH_AHEAD);
	assert_int_equal(g.suspends, 0);
	assert_true(r.partial);
	assert_true(arena.partial);
	assert_int_equal(r.rounds, 1);
	assert_int_equal(arena.page_count, 5);
	assert_int_equal(arena.times.paused_us, 0);
	epoch_move(&r, EPOCH_ENCODE, NULL);
	epoch_move(&r, EPOCH_SEND, NULL);
	/* Once, whatever is wanted then: what is copied now stays with it. */
	assert_int_equal(checkpoint_ahead(&r, &g, &arena, later), 0);
	assert_int_equal(r.state, EPOCH_RESUME);
	assert_int_equal(g.suspends, 1);
	assert_false(r.partial);
	assert_int_equal(r.rounds, 2);
	assert_int_equal(r.pages, 5 + 3 + 5 - 2);
	assert_int_equal(r.ahead_us, 14);
	assert_int_equal(r.paused_us, 25);
}

static void test_sent_ahead(void **state)
{
	(void)state;
	sent_ahead(true);
	sent_ahead(false);
}

/* A guest that has written too little for that is captured at once. */
static void test_nothing_to_send_ahead(void **state)
{
	struct guest_source g = { .pages = 3 };
	uint32_t index[1];
	struct epoch arena = { .index = index };
	struct epoch_run r;

	(void)state;
	epoch_run_start(&r, 7, 1);
	assert_int_equal(checkpoint_ahead(&r, &g, &arena, true), 0);
	assert_int_equal(r.state, EPOCH_RESUME);
	assert_int_equal(g.suspends, 1);
	assert_int_equal(r.rounds, 1);
	assert_int_equal(r.pages, 3);
}

static void test_captured(void **state)
{
	struct guest_source g = { 0 };

	(void)state;
	expect_checkpoint(&g, 0, EPOCH_RESUME);
	assert_int_equal(g.captures, 1);
	assert_int_equal(g.timeout_us, 2000);
}

static void test_times(void **state)
{
	struct guest_source g = { 0 };
	struct epoch arena = { .times = { .encode_us = 99 } };
	struct epoch_run r;

	(void)state;
	clock_us = 1000;
	epoch_run_start(&r, 1, clock_us);
	assert_int_equal(checkpoint(&r, &g, &arena), 0);
	assert_int_equal(arena.times.suspend_us, 3);
	assert_int_equal(arena.times.copy_us, 20);
	assert_int_equal(arena.times.resume_us, 5);
	assert_int_equal(arena.times.paused_us, 25);
	assert_int_equal(arena.times.encode_us, 0); /* of the epoch before */
}

static void test_suspend_fails(void **state)
{
	static const int errors[] = { -ETIMEDOUT, -ESHUTDOWN, -EIO };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct guest_source g = { .suspend_err = errors[i] };

		expect_checkpoint(&g, errors[i], EPOCH_ABORT);
		assert_int_equal(g.captures, 0);
		assert_int_equal(g.resume_calls, 0); /* it was not suspended */
	}
}

static void test_capture_fails(void **state)
{
	static const int errors[] = { -ESTALE, -EIO, -ENOMEM };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct guest_source g = { .capture_err = errors[i] };

		expect_checkpoint(&g, errors[i], EPOCH_ABORT);
		assert_int_equal(g.resumes, 1);
	}
}

static void test_resume_is_tried_again(void **state)
{
	struct guest_source g = { .resume_fails = 2 };

	(void)state;
	expect_checkpoint(&g, 0, EPOCH_RESUME);
	assert_int_equal(g.resume_calls, 3);
}

static void test_capture_and_resume_fail(void **state)
{
	struct guest_source g = { .capture_err = -ESTALE, .resume_fails = 2 };

	(void)state;
	/* What the capture said tells what to do next. */
	expect_checkpoint(&g, -ESTALE, EPOCH_ABORT);
}

/* The guard process is what is left then; the error is not swallowed. */
static void test_guest_that_cannot_be_resumed(void **state)
{
	struct guest_source g = { .resume_fails = 1000 };
	struct epoch arena = { 0 };
	struct epoch_run r;

	(void)state;
	epoch_run_start(&r, 1, 0);
	/* Not as one that was given up: its pages are in no other epoch. */
	assert_int_equal(checkpoint(&r, &g, &arena), -EIO);
	assert_int_equal(r.state, EPOCH_ABORT);
	assert_int_equal(g.resume_calls, 3);
}

static void test_rounds_of_one_epoch(void **state)
{
	struct guest_source g = { .partial = true };
	struct epoch arena = { 0 };
	struct epoch_run r;
	unsigned int round;

	(void)state;
	epoch_run_start(&r, 1, 0);
	for (round = 1; round <= 5; round++) {
		g.partial = round < 5;
		assert_int_equal(checkpoint(&r, &g, &arena), 0);
		assert_int_equal(r.partial, round < 5);
		assert_int_equal(r.rounds, round);
		epoch_move(&r, EPOCH_ENCODE, NULL);
		epoch_move(&r, EPOCH_SEND, NULL);
	}
	assert_int_equal(g.suspends, 5);
	assert_int_equal(g.resumes, 5);
	epoch_move(&r, EPOCH_WAIT_ACK, NULL);
	r.acknowledged = true;
	epoch_move(&r, EPOCH_RELEASE, NULL);
}

static void test_late_round_does_not_suspend(void **state)
{
	struct guest_source g = { .partial = true };
	struct epoch arena = { 0 };
	struct epoch_run r;

	(void)state;
	epoch_run_start(&r, 1, 0);
	assert_int_equal(checkpoint(&r, &g, &arena), 0);
	epoch_move(&r, EPOCH_ENCODE, NULL);
	epoch_move(&r, EPOCH_SEND, NULL);
	g.suspend_err = -ETIMEDOUT;
	assert_int_equal(checkpoint(&r, &g, &arena), -ETIMEDOUT);
	assert_int_equal(r.state, EPOCH_SEND);
	assert_true(r.partial);
	/* And it can be tried again. */
	g.suspend_err = 0;
	g.partial = false;
	assert_int_equal(checkpoint(&r, &g, &arena), 0);
	assert_int_equal(r.state, EPOCH_RESUME);
	assert_false(r.partial);
	assert_int_equal(g.suspends, 2);
}

static void test_state_names(void **state)
{
	(void)state;
	assert_string_equal(epoch_state_name(EPOCH_WAIT_ACK), "WAIT_ACK");
	assert_string_equal(epoch_state_name(EPOCH_STATE_COUNT), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_captured),
		cmocka_unit_test(test_copied_ahead),
		cmocka_unit_test(test_sent_ahead),
		cmocka_unit_test(test_nothing_to_send_ahead),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_suspend_fails),
		cmocka_unit_test(test_capture_fails),
		cmocka_unit_test(test_resume_is_tried_again),
		cmocka_unit_test(test_capture_and_resume_fail),
		cmocka_unit_test(test_guest_that_cannot_be_resumed),
		cmocka_unit_test(test_rounds_of_one_epoch),
		cmocka_unit_test(test_late_round_does_not_suspend),
		cmocka_unit_test(test_state_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
