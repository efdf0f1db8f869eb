/* SPDX-License-Identifier: Apache-2.0 */
/* stream/store.c: which deltas are taken, and what becomes of them. */
#include "config.h"

#include "stream/store.h"

#include "tests/unit/store-fixture.h"

static void end_epoch(struct bench *b)
{
	assert_int_equal(finish(b), 0);
	assert_true(store_complete(b->store));
}

/* An epoch with this page and nothing else. */
static void epoch_of(struct bench *b, uint64_t number, uint64_t gfn,
		     uint64_t seed)
{
	begin(b, number);
	assert_int_equal(feed_page(b, gfn, seed), 0);
	end_epoch(b);
}

static void expect_delta_refused(struct bench *b, uint64_t gfn, uint64_t was,
				 uint64_t seed)
{
	assert_int_equal(feed_delta(b, gfn, was, seed), -EPROTO);
	assert_non_null(b->why);
	assert_int_not_equal(finish(b), 0);
	assert_false(store_complete(b->store));
}

static void a_delta_stays_one(void **state)
{
	struct bench *b = *state;

	begin(b, 1);
	assert_int_equal(feed_page(b, 5, 1), 0);
	assert_int_equal(feed_page(b, 6, 1), 0);
	assert_int_equal(feed_page(b, MAX_GFN, 1), 0);
	end_epoch(b);
	for (uint64_t number = 2; number < 10; number++) {
		begin(b, number);
		assert_int_equal(feed_delta(b, 5, number - 1, number), 0);
		assert_int_equal(feed_delta(b, MAX_GFN, 1, number), 0);
		assert_int_equal(feed_page(b, 7, number), 0);
		end_epoch(b);
		assert_int_equal(store_page_count(b->store), 3);
		expect_item(b, 5, WIRE_PAGE_DELTA, number - 1, number);
		expect_item(b, MAX_GFN, WIRE_PAGE_DELTA, 1, number);
		expect_page(b, 7, number);
	}
	/* Of one that came many epochs ago. */
	begin(b, 10);
	assert_int_equal(feed_delta(b, 6, 1, 2), 0);
	end_epoch(b);
	expect_item(b, 6, WIRE_PAGE_DELTA, 1, 2);
}

static void a_delta_may_be_of_zeroes(void **state)
{
	struct bench *b = *state;

	epoch_of(b, 1, 5, 0);
	begin(b, 2);
	assert_int_equal(feed_delta(b, 5, 0, SPARSE | 1), 0);
	end_epoch(b);
	expect_item(b, 5, WIRE_PAGE_DELTA, 0, SPARSE | 1);
	epoch_of(b, 3, 5, 0);
	begin(b, 4);
	assert_int_equal(feed_delta(b, 5, 0, SPARSE | 2), 0);
	end_epoch(b);
	expect_item(b, 5, WIRE_PAGE_DELTA, 0, SPARSE | 2);
}

static void without_a_history_deltas_are_refused(void **state)
{
	struct bench *b = *state;
	struct store *own = b->store;

	b->store = store_new(RAM_BYTES, MAX_GFN, NULL);
	assert_non_null(b->store);
	epoch_of(b, 1, 5, 1);
	begin(b, 2);
	expect_delta_refused(b, 5, 1, 2);
	/* All else is taken. */
	epoch_of(b, 3, 5, 2);
	store_free(b->store);
	b->store = own;
}

static void a_delta_of_a_page_that_never_came_is_refused(void **state)
{
	const uint64_t others[] = { 0,	56,  63,    65,	   71,
				    72, 128, 64000, 64512, MAX_GFN };
	struct bench *b = *state;

	/* To be refused is not to have come. */
	for (uint64_t number = 1; number <= 2; number++) {
		begin(b, number);
		expect_delta_refused(b, 64, 1, 2);
	}
	epoch_of(b, 3, 64, 1);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		begin(b, 4);
		expect_delta_refused(b, others[i], 1, 2);
	}
	begin(b, 5);
	assert_int_equal(feed_delta(b, 64, 1, 2), 0);
	end_epoch(b);
}

/* Another connection knows nothing of what came by this one. */
static void a_history_is_of_one_connection(void **state)
{
	struct bench *b = *state;
	struct store *own = b->store;
	struct history *next = history_new(MAX_GFN);

	epoch_of(b, 1, 5, 1);
	b->store = store_new(RAM_BYTES, MAX_GFN, next);
	assert_non_null(b->store);
	begin(b, 2);
	expect_delta_refused(b, 5, 1, 2);
	store_free(b->store);
	history_free(next);
	/* But all its stores do. */
	b->store = store_new(RAM_BYTES, MAX_GFN, b->history);
	begin(b, 2);
	assert_int_equal(feed_delta(b, 5, 1, 2), 0);
	end_epoch(b);
	expect_item(b, 5, WIRE_PAGE_DELTA, 1, 2);
	store_free(b->store);
	b->store = own;
}

/* Whether or not an earlier epoch had it, too. */
static void a_delta_of_a_page_of_its_own_epoch_is_refused(void **state)
{
	struct bench *b = *state;

	for (int known = 0; known < 2; known++)
		for (int first = 0; first < 2 + known; first++) {
			uint64_t gfn = 10 * (uint64_t)known + (uint64_t)first;

			if (known)
				epoch_of(b, 1, gfn, 1);
			begin(b, 2);
			assert_int_equal(first == 0 ? feed_page(b, gfn, 2)
					 : first == 1
						 ? feed_page(b, gfn, 0)
						 : feed_delta(b, gfn, 1, 2),
					 0);
			expect_delta_refused(b, gfn, 2, 3);
		}
}

static void a_whole_page_takes_the_place_of_a_delta(void **state)
{
	struct bench *b = *state;

	begin(b, 1);
	for (uint64_t gfn = 1; gfn <= 3; gfn++)
		assert_int_equal(feed_page(b, gfn, 1), 0);
	end_epoch(b);
	begin(b, 2);
	for (uint64_t gfn = 1; gfn <= 3; gfn++)
		assert_int_equal(feed_delta(b, gfn, 1, 2), 0);
	assert_int_equal(feed_page(b, 1, 3), 0);
	assert_int_equal(feed_page(b, 2, 0), 0);
	assert_int_equal(store_page_count(b->store), 3);
	end_epoch(b);
	expect_page(b, 1, 3);
	expect_page(b, 2, 0);
	expect_item(b, 3, WIRE_PAGE_DELTA, 1, 2);
	/* And is what the next delta is of. */
	begin(b, 3);
	assert_int_equal(feed_delta(b, 1, 3, 4), 0);
	assert_int_equal(feed_delta(b, 2, 0, SPARSE | 4), 0);
	assert_int_equal(feed_delta(b, 3, 2, 4), 0);
	end_epoch(b);
	expect_item(b, 1, WIRE_PAGE_DELTA, 3, 4);
	expect_item(b, 2, WIRE_PAGE_DELTA, 0, SPARSE | 4);
	expect_item(b, 3, WIRE_PAGE_DELTA, 2, 4);
}

static void nothing_is_left_of_the_deltas_before(void **state)
{
	struct bench *b = *state;

	begin(b, 1);
	for (uint64_t gfn = 0; gfn < 100; gfn++)
		assert_int_equal(feed_page(b, gfn, 1), 0);
	end_epoch(b);
	for (uint64_t number = 2; number < 6; number++) {
		begin(b, number);
		for (uint64_t gfn = number % 2; gfn < 100; gfn += 2)
			assert_int_equal(feed_delta(b, gfn, 1, number + gfn),
					 0);
		end_epoch(b);
		assert_int_equal(store_page_count(b->store), 50);
		for (uint64_t gfn = number % 2; gfn < 100; gfn += 2)
			expect_item(b, gfn, WIRE_PAGE_DELTA, 1, number + gfn);
	}
}

/* The longest there is: 503 words in 63 lines. */
static int feed_long_delta(struct bench *b, uint64_t gfn)
{
	static uint8_t base[WIRE_PAGE_BYTES], page[WIRE_PAGE_BYTES];

	memset(base, 0, sizeof(base));
	fill_noise(page, 503 * 8, gfn + 1);
	return feed_delta_of(b, gfn, base, page);
}

static void memory_is_bounded_with_deltas_too(void **state)
{
	const size_t all = RAM_BYTES / WIRE_PAGE_BYTES + 256;
	struct bench *b = *state;
	size_t held = 0;

	begin(b, 1);
	for (uint64_t gfn = 0; gfn < all; gfn++)
		assert_int_equal(feed_page(b, gfn, 1), 0);
	end_epoch(b);
	for (uint64_t number = 2; number < 5; number++) {
		begin(b, number);
		for (uint64_t gfn = 0; gfn < all; gfn++)
			assert_int_equal(feed_long_delta(b, gfn), 0);
		/* The worst: the next round has them all whole. */
		for (uint64_t gfn = 0; gfn < all; gfn++)
			assert_int_equal(feed_page(b, gfn, number), 0);
		end_epoch(b);
		if (held)
			assert_int_equal(store_memory_bytes(b->store), held);
		held = store_memory_bytes(b->store);
	}
	assert_true(held >= all * (WIRE_PAGE_BYTES + 4095));
	/* Each rounded up to a step of its arena, and the index. */
	assert_true(held < 2 * all * WIRE_PAGE_BYTES + 5 * 1024 * 1024);
}

static void short_deltas_take_little_memory(void **state)
{
	const size_t all = RAM_BYTES / WIRE_PAGE_BYTES;
	struct bench *b = *state;
	struct store *own = b->store;

	begin(b, 1);
	for (uint64_t gfn = 0; gfn < all; gfn++)
		assert_int_equal(feed_page(b, gfn, 1), 0);
	end_epoch(b);
	b->store = store_new(RAM_BYTES, MAX_GFN, b->history);
	begin(b, 2);
	for (uint64_t gfn = 0; gfn < all; gfn++)
		assert_int_equal(feed_delta(b, gfn, 1, 2), 0);
	end_epoch(b);
	assert_true(store_memory_bytes(b->store) < RAM_BYTES / 2);
	store_free(b->store);
	b->store = own;
}

/* Of more pages than fit one epoch, which came in two. */
static void more_deltas_than_pages_are_refused(void **state)
{
	const uint64_t limit = RAM_BYTES / WIRE_PAGE_BYTES + 256;
	struct bench *b = *state;

	for (uint64_t number = 1; number <= 2; number++) {
		begin(b, number);
		for (uint64_t i = 0; i < limit; i++)
			assert_int_equal(feed_page(b, 2 * i + number, 0), 0);
		end_epoch(b);
	}
	begin(b, 3);
	for (uint64_t gfn = 1; gfn <= limit; gfn++)
		assert_int_equal(feed_delta(b, gfn, 0, SPARSE | 1), 0);
	assert_int_equal(feed_delta(b, limit + 1, 0, SPARSE | 1), -E2BIG);
	assert_int_not_equal(finish(b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FRESH(a_delta_stays_one),
		FRESH(a_delta_may_be_of_zeroes),
		FRESH(without_a_history_deltas_are_refused),
		FRESH(a_delta_of_a_page_that_never_came_is_refused),
		FRESH(a_history_is_of_one_connection),
		FRESH(a_delta_of_a_page_of_its_own_epoch_is_refused),
		FRESH(a_whole_page_takes_the_place_of_a_delta),
		FRESH(nothing_is_left_of_the_deltas_before),
		FRESH(memory_is_bounded_with_deltas_too),
		FRESH(short_deltas_take_little_memory),
		FRESH(more_deltas_than_pages_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
