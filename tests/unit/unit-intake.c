/* SPDX-License-Identifier: Apache-2.0 */
/* engine/intake.c: frames of the real encoder in, verified epochs out. */
#include "config.h"

#include "tests/unit/intake-fixture.h"

/* --- the happy path ----------------------------------------------------- */

/* What a standby has; a delta is of it. */
static uint8_t standby[300][WIRE_PAGE_BYTES];

struct applied {
	const struct epoch *e;
	size_t kinds[3];
};

static int apply_page(void *arg, const struct page_item *item)
{
	struct applied *a = arg;

	assert_true(item->gfn < a->e->page_count);
	a->kinds[item->kind]++;
	page_item_apply(item, standby[item->gfn]);
	assert_memory_equal(standby[item->gfn],
			    a->e->pages + item->gfn * WIRE_PAGE_BYTES,
			    WIRE_PAGE_BYTES);
	return 0;
}

/* Epoch n has n * 30 pages; says how many of them were deltas. */
static size_t apply(struct rig *r, unsigned int n)
{
	struct store *s = r->stores[n - 1];
	struct applied a = { .e = r->arena };

	assert_int_equal(r->stored[n - 1], n);
	assert_int_equal(store_page_count(s), n * 30);
	assert_int_equal(store_each_page(s, apply_page, &a), 0);
	give_back(r, n - 1);
	return a.kinds[WIRE_PAGE_DELTA];
}

static void test_epochs_in_order(void **state)
{
	struct rig *r = *state;
	uint64_t bytes = 0;
	unsigned int n;
	size_t i;

	for (n = 1; n <= 10; n++) {
		put_epoch(r, n, n * 30);
		for (i = 0; i < r->frame_count; i++)
			bytes += r->frames[i]->length;
		expect_stored(r, n);
		/* All that the epochs before had. */
		assert_int_equal(apply(r, n), (n - 1) * 30);
	}
	assert_int_equal(intake_bytes(r->intake), bytes);
	assert_int_equal(r->pauses, 0);
}

static void test_whole_pages_only(void **state)
{
	struct rig *r = *state;

	r->peer.shadow_bytes = 0;
	for (unsigned int n = 1; n <= 3; n++) {
		put_epoch(r, n, n * 30);
		expect_stored(r, n);
		assert_int_equal(apply(r, n), 0);
	}
}

static void test_one_is_filled_while_one_is_applied(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 10);
	put_epoch(r, 2, 10);
	expect_stored(r, 2);
	assert_ptr_not_equal(r->stores[0], r->stores[1]);
	put_epoch(r, 3, 10);
	loop_for(r->loop, 20 * 1000);
	assert_int_equal(r->stored_count, 2); /* there is no third */
	give_back(r, 0);
	expect_stored(r, 3);
	assert_int_equal(store_page_count(r->stores[2]), 10);
	assert_int_equal(r->stored[2], 3);
}

static void test_payload_is_copied(void **state)
{
	struct rig *r = *state;
	size_t i;

	encode(r, 1, 100);
	for (i = 0; i < r->frame_count; i++) {
		put(r, r->frames[i]);
		memset(frame_payload(r->frames[i]), 0xee, r->frames[i]->length);
	}
	expect_stored(r, 1);
}

static void test_pause_bounds_the_queue(void **state)
{
	struct rig *r = *state;
	size_t i, paused_at = 0, queued = 0;

	put_epoch(r, 1, 1);
	put_epoch(r, 2, 1);
	expect_stored(r, 2);
	encode(r, 3, BIG_PAGES);
	for (i = 0; i < r->frame_count; i++) {
		put(r, r->frames[i]);
		queued += r->frames[i]->length;
		if (r->pauses && !paused_at)
			paused_at = queued;
	}
	assert_int_equal(r->pauses, 1);
	assert_true(paused_at > 32u << 20);
	assert_true(paused_at <= (32u << 20) + WIRE_PAYLOAD_MAX);
	loop_for(r->loop, 10 * 1000);
	assert_int_equal(r->resumes, 0);
	assert_int_equal(r->movings, 0); /* both stores are in use */
	give_back(r, 0);
	expect_stored(r, 3);
	assert_int_equal(r->resumes, 1);
	assert_true(r->movings > 50); /* the peer was not silent, we were */
	assert_int_equal(store_page_count(r->stores[2]), BIG_PAGES);
}

static void test_a_limit_bounds_epochs_and_the_queue(void **state)
{
	struct rig *r = *state;
	size_t i, paused_at = 0, queued = 0;
	unsigned int pauses;

	r->peer.shadow_bytes = 0;
	put_epoch(r, 1, 1400);
	put_epoch(r, 2, 1);
	expect_stored(r, 2);
	/* Both stores are in use: it waits. */
	pauses = r->pauses;
	encode(r, 3, 1700);
	for (i = 0; i < r->frame_count; i++) {
		put(r, r->frames[i]);
		queued += r->frames[i]->length;
		if (r->pauses > pauses && !paused_at)
			paused_at = queued;
	}
	assert_true(paused_at > 4u << 20);
	assert_true(paused_at <= (4u << 20) + WIRE_PAYLOAD_MAX);
	give_back(r, 0);
	r->wanted = 3;
	loop_until(r->loop, enough, r);
	assert_int_equal(r->err, -E2BIG);
	assert_int_equal(r->err_epoch, 3);
	assert_non_null(strstr(r->why, "--memory-limit"));
	assert_int_equal(r->resumes, pauses + 1);
}

/* --- stopping ----------------------------------------------------------- */

static void test_stop_drops_what_is_queued(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 100);
	put_epoch(r, 2, 100);
	put_epoch(r, 3, 100);
	intake_stop(r->intake);
	loop_for(r->loop, 20 * 1000);
	assert_int_equal(r->stored_count, 0);
	assert_int_equal(r->error_count, 0);
}

/* It was decoded, but the loop has not heard of it yet. */
static void test_stop_behind_a_whole_epoch(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 10);
	clock_sleep_us(50 * 1000);
	intake_stop(r->intake);
	loop_for(r->loop, 5000);
	assert_int_equal(r->stored_count, 0);
}

static void test_stop_while_it_waits_for_a_store(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 10);
	put_epoch(r, 2, 10);
	expect_stored(r, 2);
	put_epoch(r, 3, 10);
	loop_for(r->loop, 5000);
	intake_stop(r->intake);
	loop_for(r->loop, 20 * 1000);
	assert_int_equal(r->stored_count, 2);
	assert_int_equal(r->error_count, 0); /* to be stopped is no error */
}

static void test_close_inside_an_epoch(void **state)
{
	struct rig *r = *state;
	size_t i;

	encode(r, 1, 500);
	for (i = 0; i + 2 < r->frame_count; i++)
		put(r, r->frames[i]);
	intake_close(r->intake);
	r->intake = NULL;
	loop_for(r->loop, 5000);
	assert_int_equal(r->stored_count, 0);
	intake_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_epochs_in_order),
		TEST_WHOLE(test_whole_pages_only),
		TEST(test_one_is_filled_while_one_is_applied),
		TEST(test_payload_is_copied),
		TEST(test_pause_bounds_the_queue),
		TEST_LIMITED(test_a_limit_bounds_epochs_and_the_queue),
		TEST(test_stop_drops_what_is_queued),
		TEST(test_stop_behind_a_whole_epoch),
		TEST(test_stop_while_it_waits_for_a_store),
		TEST(test_close_inside_an_epoch),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
