/* SPDX-License-Identifier: Apache-2.0 */
/* stream/store.c: which deltas are taken, and what becomes of them. */
#include "config.h"

#include "stream/store.h"

#include "base/fault.h"
#include "tests/unit/store-fixture.h"

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
	/* Behind what it would be of, too. */
	for (uint64_t seed = 0; seed < 2; seed++) {
		begin(b, 2);
		assert_int_equal(feed_page(b, 5, seed), 0);
		expect_delta_refused(b, 5, 1, 2);
	}
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

/* --- several times in an epoch ------------------------------------------ */

static void two_deltas_come_out_in_order(void **state)
{
	struct path p[3] = { { .gfn = 7 }, { .gfn = 8 }, { .gfn = MAX_GFN } };
	struct bench *b = *state;

	begin(b, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(feed_path(b, &p[i], "w", 1), 0);
	end_epoch(b);
	for (int i = 0; i < 3; i++)
		p[i] = (struct path){ p[i].gfn, 0, { p[i].versions[1] } };
	begin(b, 2);
	for (int round = 0; round < 2; round++)
		for (int i = round; i < 3; i++)
			assert_int_equal(feed_path(b, &p[i], "d", 1), 0);
	assert_int_equal(store_page_count(b->store), 3);
	end_epoch(b);
	expect_path(b, &p[0], "d");
	expect_path(b, &p[1], "dd");
	expect_path(b, &p[2], "dd");
}

/* What came of a page in an epoch, and what is handed out of it then. */
static const struct {
	const char *kinds, *out;
} ways[] = {
	{ "d", "d" },	     { "dd", "dd" },	  { "w", "w" },
	{ "z", "z" },	     { "wd", "w" },	  { "wdd", "w" },
	{ "wddddd", "w" },   { "zd", "w" },	  { "zddddd", "w" },
	{ "wz", "z" },	     { "zw", "w" },	  { "wzd", "w" },
	{ "zwd", "w" },	     { "wdz", "z" },	  { "wdw", "w" },
	{ "zdz", "z" },	     { "zdzd", "w" },	  { "wdzdd", "w" },
	{ "dw", "w" },	     { "dz", "z" },	  { "dwd", "w" },
	{ "dzd", "w" },	     { "ddw", "w" },	  { "ddz", "z" },
	{ "dwddd", "w" },    { "dzddd", "w" },	  { "ddwddd", "w" },
	{ "ddzddd", "w" },   { "dzdzd", "w" },	  { "dwdwdzd", "w" },
	{ "ddwddddz", "z" }, { "ddzdwddd", "w" },
};

enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

/* All ways at once, in one epoch. */
static void expect_ways(struct bench *b, struct path *p, size_t each)
{
	for (int i = 0; i < WAYS; i++) {
		p[i].count = 0;
		assert_int_equal(feed_path(b, &p[i], ways[i].kinds, each), 0);
	}
	assert_int_equal(store_page_count(b->store), WAYS);
	end_epoch(b);
	for (int i = 0; i < WAYS; i++)
		expect_path(b, &p[i], ways[i].out);
}

static void any_kinds_of_a_page_end_in_its_last_version(void **state)
{
	struct bench *b = *state;
	struct path p[WAYS];
	uint64_t number = 1;

	for (size_t each = 1; each <= PATH_MAX_VERSIONS; each++)
		for (int zeroes = 0; zeroes < 2; zeroes++) {
			begin(b, number++);
			for (uint64_t i = 0; i < WAYS; i++) {
				p[i].gfn = i;
				p[i].versions[0] = zeroes ? 0 : 1 + i;
				assert_int_equal(
					feed_page(b, i, p[i].versions[0]), 0);
			}
			end_epoch(b);
			begin(b, number++);
			expect_ways(b, p, each);
		}
}

static void a_new_page_may_change_in_its_epoch(void **state)
{
	struct bench *b = *state;
	struct path p = { .gfn = 0 };

	for (size_t each = 1; each <= PATH_MAX_VERSIONS; each++)
		for (int i = 0; i < WAYS; i++) {
			bool refused = ways[i].kinds[0] == 'd';

			p = (struct path){ .gfn = p.gfn + 1 };
			begin(b, 1);
			assert_int_equal(feed_path(b, &p, ways[i].kinds, each),
					 refused ? -EPROTO : 0);
			if (refused)
				continue;
			end_epoch(b);
			expect_path(b, &p, ways[i].out);
		}
}

/* In whatever payloads they come. */
static void a_third_delta_is_refused(void **state)
{
	struct bench *b = *state;
	struct path p = { .gfn = 5 };

	for (size_t each = 1; each <= 3; each++) {
		epoch_of(b, 1, 5, 1);
		begin(b, 2);
		assert_int_equal(feed_page(b, 4, 1), 0);
		p = (struct path){ 5, 0, { 1 } };
		assert_int_equal(feed_path(b, &p, "ddd", each), -EPROTO);
		assert_int_equal(p.count, 3);
		assert_non_null(b->why);
		assert_int_not_equal(finish(b), 0);
		assert_false(store_complete(b->store));
		/* It is too late for a whole one, too. */
		assert_int_equal(feed_page(b, 5, 2), -EPROTO);
	}
}

static void each_epoch_counts_anew(void **state)
{
	static const char *const kinds[] = { "dd", "d",	 "dd",	"dw",
					     "dd", "dz", "ddw", "dd" };
	struct bench *b = *state;
	struct path p = { 5, 1, { 0, 1 } };

	epoch_of(b, 1, 5, 1);
	for (uint64_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t n = strlen(kinds[i]);

		p = (struct path){ 5, 0, { p.versions[p.count] } };
		begin(b, 2 + i);
		assert_int_equal(feed_path(b, &p, kinds[i], 1), 0);
		end_epoch(b);
		expect_path(b, &p,
			    kinds[i][n - 1] == 'd' ? kinds[i]
						   : kinds[i] + n - 1);
	}
}

static void a_refused_epoch_leaves_no_count(void **state)
{
	struct path p = { 5, 0, { 1 } };
	struct bench *b = *state;

	epoch_of(b, 1, 5, 1);
	begin(b, 2);
	assert_int_equal(feed_path(b, &p, "ddd", 1), -EPROTO);
	begin(b, 3);
	p = (struct path){ 5, 0, { 1 } };
	assert_int_equal(feed_path(b, &p, "dd", 1), 0);
	end_epoch(b);
	expect_path(b, &p, "dd");
	/* Nor to another page in its place. */
	epoch_of(b, 4, 6, 1);
	begin(b, 5);
	p = (struct path){ 6, 0, { 1 } };
	assert_int_equal(feed_path(b, &p, "dd", 1), 0);
	end_epoch(b);
	expect_path(b, &p, "dd");
}

/* Returns what `results` has for each item. */
static int answer(void *arg, const struct page_item *item)
{
	int **next = arg;

	(void)item;
	return *(*next)++;
}

static void applying_stops_between_two_deltas(void **state)
{
	struct path p = { 5, 0, { 1 } };
	struct bench *b = *state;

	epoch_of(b, 1, 5, 1);
	begin(b, 2);
	assert_int_equal(feed_page(b, 4, 1), 0);
	assert_int_equal(feed_path(b, &p, "dd", 1), 0);
	assert_int_equal(feed_page(b, 6, 1), 0);
	end_epoch(b);
	for (int at = 0; at < 5; at++) {
		int results[4] = { 0, 1, 2, 3 }; /* none of them an error */
		int *next = results;

		if (at < 4)
			results[at] = -ENOSPC;
		assert_int_equal(store_each_page(b->store, answer, &next),
				 at < 4 ? -ENOSPC : 0);
		assert_ptr_equal(next, results + (at < 4 ? at + 1 : 4));
	}
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
	put_delta(b, gfn, base, page);
	assert_int_equal(b->parcel.delta_bytes, WIRE_PAGE_BYTES - 1);
	return feed_parcel(b);
}

/* The worst: two rounds of the longest deltas, and then all is whole. */
static void memory_is_bounded_with_deltas_too(void **state)
{
	const size_t all = RAM_BYTES / WIRE_PAGE_BYTES + 256;
	struct bench *b = *state;
	size_t held = 0;

	begin(b, 1);
	for (uint64_t gfn = 0; gfn < all; gfn++)
		assert_int_equal(feed_page(b, gfn, 0), 0);
	end_epoch(b);
	for (uint64_t number = 2; number < 5; number++) {
		begin(b, number);
		for (uint64_t i = 0; i < 2 * all; i++)
			assert_int_equal(feed_long_delta(b, i % all), 0);
		/* And, any number of times, what takes no other room. */
		for (uint64_t i = 0; i < 6 * all; i++)
			assert_int_equal(i / all % 3
						 ? feed_long_delta(b, i % all)
						 : feed_page(b, i % all, 0),
					 0);
		for (uint64_t gfn = 0; gfn < all; gfn++)
			assert_int_equal(feed_page(b, gfn, number), 0);
		end_epoch(b);
		if (held)
			assert_int_equal(store_memory_bytes(b->store), held);
		held = store_memory_bytes(b->store);
	}
	assert_true(held >= all * (WIRE_PAGE_BYTES + 2 * 4095));
	/* Rounded up to a step of the arena, and the index. */
	assert_true(held < 3 * all * WIRE_PAGE_BYTES + 3 * 1024 * 1024);
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

#ifdef ENABLE_FAULTS
/* Whether it is to be kept, or to be made a page of. */
static void without_memory_no_delta_is_taken(void **state)
{
	static const char *const before[] = { "", "z" };
	struct bench *b = *state;

	epoch_of(b, 1, 5, 0);
	for (int i = 0; i < 2; i++) {
		struct path p = { .gfn = 5 };

		begin(b, 2);
		assert_int_equal(feed_path(b, &p, before[i], 1), 0);
		assert_int_equal(fault_init("memory:error:1+"), 0);
		assert_int_equal(feed_path(b, &p, "d", 1), -ENOMEM);
		fault_fini();
		assert_non_null(b->why);
		assert_int_not_equal(finish(b), 0);
	}
	/* And nothing is left of it. */
	begin(b, 3);
	assert_int_equal(feed_delta(b, 5, 0, SPARSE | 1), 0);
	end_epoch(b);
	expect_item(b, 5, WIRE_PAGE_DELTA, 0, SPARSE | 1);
}

static int no_faults(void **state)
{
	fault_fini();
	return teardown(state);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		FRESH(a_delta_stays_one),
		FRESH(a_delta_may_be_of_zeroes),
		FRESH(without_a_history_deltas_are_refused),
		FRESH(a_delta_of_a_page_that_never_came_is_refused),
		FRESH(a_history_is_of_one_connection),
		FRESH(two_deltas_come_out_in_order),
		FRESH(any_kinds_of_a_page_end_in_its_last_version),
		FRESH(a_new_page_may_change_in_its_epoch),
		FRESH(a_third_delta_is_refused),
		FRESH(each_epoch_counts_anew),
		FRESH(a_refused_epoch_leaves_no_count),
		FRESH(applying_stops_between_two_deltas),
		FRESH(nothing_is_left_of_the_deltas_before),
		FRESH(memory_is_bounded_with_deltas_too),
		FRESH(short_deltas_take_little_memory),
		FRESH(more_deltas_than_pages_are_refused),
#ifdef ENABLE_FAULTS
		cmocka_unit_test_setup_teardown(
			without_memory_no_delta_is_taken, setup, no_faults),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
