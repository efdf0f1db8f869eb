/* SPDX-License-Identifier: Apache-2.0 */
/* stream/shadow.c: what is kept of a guest, what gives way, and the memory. */
#include "config.h"

#include "stream/shadow.h"

#include <stdbool.h>

#include "base/fault.h"
#include "tests/unit/unit-stream.h"

enum { MAX_GFN = 9999, ALL = MAX_GFN + 1 };

static struct shadow *shadow_of(size_t pages)
{
	struct shadow *s = shadow_new(pages * WIRE_PAGE_BYTES, MAX_GFN);

	assert_non_null(s);
	return s;
}

/* Adds a page that says of which gfn it is. */
static uint8_t *add(struct shadow *s, uint64_t gfn, uint64_t epoch)
{
	uint8_t *page = shadow_add(s, gfn, epoch);

	assert_non_null(page);
	fill_noise(page, WIRE_PAGE_BYTES, gfn);
	return page;
}

/* Whether it is there; then it is the one that was added, and counts as used.
 */
static bool has(struct shadow *s, uint64_t gfn)
{
	uint8_t expected[WIRE_PAGE_BYTES];
	unsigned int times = 0;
	uint8_t *page = shadow_find(s, gfn, 1, &times);

	if (!page)
		return false;
	fill_noise(expected, sizeof(expected), gfn);
	assert_memory_equal(page, expected, sizeof(expected));
	return true;
}

static size_t count_of(struct shadow *s, uint64_t gfns)
{
	size_t n = 0;

	for (uint64_t gfn = 0; gfn < gfns; gfn++)
		n += has(s, gfn);
	return n;
}

static void what_was_added_is_found(void **state)
{
	struct shadow *s = shadow_of(ALL);
	unsigned int times = 99;
	uint8_t *page;

	(void)state;
	assert_null(shadow_find(s, 5, 1, &times));
	assert_int_equal(times, 99);
	page = add(s, 5, 1);
	assert_ptr_equal(shadow_find(s, 5, 2, &times), page);
	assert_true(has(s, 5));
	assert_false(has(s, 4));
	assert_false(has(s, 6));
	assert_false(has(s, 0));
	shadow_free(s);
}

static void expect_times(struct shadow *s, uint64_t gfn, uint64_t epoch,
			 unsigned int expected)
{
	unsigned int times = 99;

	assert_non_null(shadow_find(s, gfn, epoch, &times));
	assert_int_equal(times, expected);
}

static void it_says_how_often_it_was_sent_in_the_epoch(void **state)
{
	struct shadow *s = shadow_of(ALL);

	(void)state;
	add(s, 7, 3);
	add(s, 8, 3);
	for (unsigned int times = 1; times < 5; times++)
		expect_times(s, 7, 3, times);
	expect_times(s, 8, 3, 1);
	expect_times(s, 8, 3, 2);
	/* Each epoch by itself, next to the last or not. */
	for (unsigned int times = 0; times < 4; times++)
		expect_times(s, 7, 4, times);
	expect_times(s, 7, UINT64_MAX, 0);
	expect_times(s, 7, UINT64_MAX, 1);
	expect_times(s, 7, 4 + (UINT64_C(1) << 32), 0);
	expect_times(s, 7, 4, 0);
	expect_times(s, 8, 4, 0);
	shadow_free(s);
}

/* The count has an end, but never begins anew. */
static void any_number_of_times_is_many(void **state)
{
	struct shadow *s = shadow_of(ALL);
	unsigned int times = 0;

	(void)state;
	add(s, 7, 1);
	for (unsigned int i = 1; i < 70000; i++) {
		unsigned int before = times;

		assert_non_null(shadow_find(s, 7, 1, &times));
		assert_in_range(times, before, i);
	}
	assert_true(times >= 255);
	expect_times(s, 7, 2, 0);
	shadow_free(s);
}

static void gfns_end_at_the_largest(void **state)
{
	const uint64_t above[] = { MAX_GFN + 1, 2 * MAX_GFN,
				   (UINT64_C(1) << 32) + 5, UINT64_MAX };
	struct shadow *s = shadow_of(ALL);
	unsigned int times;

	(void)state;
	add(s, 0, 1);
	add(s, 5, 1);
	add(s, MAX_GFN, 1);
	assert_true(has(s, MAX_GFN));
	for (int i = 0; i < 4; i++) {
		assert_null(shadow_find(s, above[i], 1, &times));
		assert_null(shadow_add(s, above[i], 1));
		assert_null(shadow_find(s, above[i], 1, &times));
	}
	assert_int_equal(count_of(s, ALL), 3);
	shadow_free(s);
}

/* No two pages lie in each other's way, whole memory or a part of it. */
static void no_more_is_kept_than_was_said(void **state)
{
	const size_t limits[] = { 1, 2, 100, 700 };

	(void)state;
	for (int l = 0; l < 4; l++) {
		struct shadow *s = shadow_of(limits[l]);

		for (uint64_t gfn = 0; gfn < limits[l]; gfn++)
			add(s, gfn, 1);
		assert_int_equal(count_of(s, ALL), limits[l]);
		for (uint64_t gfn = limits[l]; gfn < 3 * limits[l] + 5; gfn++) {
			add(s, gfn, 1);
			assert_true(has(s, gfn));
		}
		assert_int_equal(count_of(s, ALL), limits[l]);
		shadow_free(s);
	}
}

static void part_of_a_page_is_no_room(void **state)
{
	struct shadow *s = shadow_new(3 * WIRE_PAGE_BYTES - 1, MAX_GFN);

	(void)state;
	for (uint64_t gfn = 0; gfn < 10; gfn++)
		add(s, gfn, 1);
	assert_int_equal(count_of(s, 10), 2);
	shadow_free(s);
}

static void without_room_nothing_is_kept(void **state)
{
	const uint64_t bytes[] = { 0, 1, WIRE_PAGE_BYTES - 1 };
	unsigned int times;

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct shadow *s = shadow_new(bytes[i], MAX_GFN);

		assert_non_null(s);
		assert_null(shadow_find(s, 1, 1, &times));
		assert_null(shadow_add(s, 1, 1));
		assert_null(shadow_find(s, 1, 1, &times));
		assert_int_equal(shadow_memory_bytes(s), 0);
		shadow_free(s);
	}
	shadow_free(NULL);
}

static void more_than_the_guest_has_is_not_taken(void **state)
{
	struct shadow *s = shadow_new(UINT64_MAX, 9);

	(void)state;
	assert_non_null(s);
	for (uint64_t gfn = 0; gfn < 10; gfn++)
		add(s, gfn, 1);
	assert_int_equal(count_of(s, 10), 10);
	assert_null(shadow_add(s, 10, 1));
	shadow_free(s);
}

static void what_gave_way_is_not_found(void **state)
{
	struct shadow *s = shadow_of(4);
	unsigned int times;

	(void)state;
	for (uint64_t gfn = 0; gfn < 5; gfn++)
		add(s, gfn, 1);
	/* Nothing was used: the first is the one sent longest ago. */
	assert_null(shadow_find(s, 0, 2, &times));
	assert_int_equal(count_of(s, 5), 4);
	/* It can come back, as a page like any other. */
	add(s, 0, 3);
	expect_times(s, 0, 3, 1);
	expect_times(s, 0, 4, 0);
	assert_int_equal(count_of(s, 5), 4);
	shadow_free(s);
}

static void what_was_just_used_does_not_give_way(void **state)
{
	struct shadow *s = shadow_of(8);
	uint64_t x = 1, used, gfn = 8;
	unsigned int times;

	(void)state;
	for (uint64_t i = 0; i < 8; i++)
		add(s, i, 1);
	for (int round = 0; round < 2000; round++) {
		do
			used = gfn - 1 - next_random(&x) % 20 % gfn;
		while (!shadow_find(s, used, 1, &times));
		add(s, gfn++, 1);
		assert_non_null(shadow_find(s, used, 1, &times));
		/* And others are used now and then, or are not. */
		for (uint64_t n = next_random(&x) % 4; n; n--)
			shadow_find(s, gfn - 1 - n, 1, &times);
	}
	shadow_free(s);
}

/* Pages in use stay while any number of others come once. */
static void a_scan_does_not_push_out_what_is_in_use(void **state)
{
	enum { ROOM = 50, HOT = 10 };
	struct shadow *s = shadow_of(ROOM);

	(void)state;
	for (uint64_t gfn = 0; gfn < ROOM; gfn++)
		add(s, gfn, 1);
	for (uint64_t gfn = ROOM; gfn < ALL; gfn++) {
		if (gfn % HOT == 0)
			assert_int_equal(count_of(s, HOT), HOT);
		add(s, gfn, 1);
	}
	assert_int_equal(count_of(s, HOT), HOT);
	assert_int_equal(count_of(s, ALL), ROOM);
	shadow_free(s);
}

/* What the other side would have of each page, and how it came. */
struct model {
	uint64_t stamp;
	uint64_t epoch;	    /* in which it was sent last, */
	unsigned int times; /* as often */
	bool gone;	    /* or never there */
};

static void expect_model(const struct model *m, const uint8_t *page,
			 uint64_t epoch, unsigned int times)
{
	assert_false(m->gone);
	assert_int_equal(times, m->epoch == epoch ? m->times : 0);
	assert_memory_equal(page, &m->stamp, 8);
	assert_memory_equal(page + WIRE_PAGE_BYTES - 8, &m->stamp, 8);
}

static void any_order_of_uses_is_right(void **state)
{
	static struct model model[200];
	struct shadow *s = shadow_of(64);
	uint64_t x = 2, there = 0;
	unsigned int times, most = 0;

	(void)state;
	for (int i = 0; i < 200; i++)
		model[i].gone = true;
	for (uint64_t i = 1; i < 50000; i++) {
		uint64_t gfn = next_random(&x) % 200, epoch = i / 600;
		struct model *m = &model[gfn];
		uint8_t *page = shadow_find(s, gfn, epoch, &times);

		if (page) {
			expect_model(m, page, epoch, times);
			there++;
		} else {
			times = 0; /* whatever it was before it gave way */
			page = shadow_add(s, gfn, epoch);
			assert_non_null(page);
		}
		most = times > most ? times : most;
		*m = (struct model){ .stamp = i << 8 | gfn,
				     .epoch = epoch,
				     .times = times + 1 };
		memcpy(page, &m->stamp, 8);
		memcpy(page + WIRE_PAGE_BYTES - 8, &m->stamp, 8);
	}
	/* Of 200 pages 64 are there, so it was in about a third of the uses. */
	assert_in_range(there, 10000, 25000);
	assert_true(most > 3);
	there = 0;
	for (uint64_t gfn = 0; gfn < 200; gfn++)
		there += shadow_find(s, gfn, 1, &times) != NULL;
	assert_int_equal(there, 64);
	shadow_free(s);
}

static void memory_is_counted_as_it_is_taken(void **state)
{
	struct shadow *s = shadow_of(2000);
	size_t held = shadow_memory_bytes(s);

	(void)state;
	assert_int_equal(held, 0);
	for (uint64_t gfn = 0; gfn < 2000; gfn++) {
		add(s, gfn, 1);
		assert_true(shadow_memory_bytes(s) >= held);
		held = shadow_memory_bytes(s);
		assert_true(held > (gfn + 1) * WIRE_PAGE_BYTES);
		/* In steps, and with what is to be known of each page. */
		assert_true(held <
			    (gfn + 1) * WIRE_PAGE_BYTES + 5 * 1024 * 1024);
	}
	/* What comes in the place of others takes none. */
	for (uint64_t gfn = 2000; gfn < 5000; gfn++)
		add(s, gfn, 1);
	assert_int_equal(shadow_memory_bytes(s), held);
	shadow_free(s);
}

static void a_guest_of_any_size_takes_memory_as_it_comes(void **state)
{
	struct shadow *s = shadow_new(UINT64_C(1) << 36, WIRE_GFN_MAX);
	unsigned int times;

	(void)state;
	assert_non_null(s);
	add(s, WIRE_GFN_MAX, 1);
	add(s, 0, 1);
	assert_non_null(shadow_find(s, WIRE_GFN_MAX, 1, &times));
	assert_non_null(shadow_find(s, 0, 1, &times));
	assert_true(shadow_memory_bytes(s) < 5 * 1024 * 1024);
	shadow_free(s);
}

#ifdef ENABLE_FAULTS
/* A want of memory costs deltas, and nothing else. */
static void without_memory_it_lives_on_what_it_has(void **state)
{
	struct shadow *s = shadow_of(ALL);
	uint64_t first, gfn;

	(void)state;
	assert_int_equal(fault_init("memory:error:1+"), 0);
	assert_null(shadow_new(WIRE_PAGE_BYTES, MAX_GFN));
	assert_null(shadow_add(s, 1, 1));
	fault_fini();
	for (first = 0; first < 10; first++)
		add(s, first, 1);
	assert_int_equal(fault_init("memory:error:1+"), 0);
	for (gfn = first; gfn < 3000; gfn++)
		add(s, gfn, 1);
	fault_fini();
	/* As many as the first step of memory holds. */
	assert_in_range(count_of(s, ALL), 10, 2999);
	add(s, gfn, 1);
	assert_true(has(s, gfn));
	shadow_free(s);
}
#endif

static int no_faults(void **state)
{
	(void)state;
	fault_fini();
	return 0;
}

/* Where memory is short it stays as it is, and goes on by what it has. */
static void it_does_not_grow_beyond_the_room_of_the_moment(void **state)
{
	struct shadow *s = shadow_of(20);
	size_t bytes;

	(void)state;
	shadow_limit(s, 5 * WIRE_PAGE_BYTES);
	for (uint64_t gfn = 0; gfn < 10; gfn++)
		add(s, gfn, 1);
	assert_int_equal(count_of(s, 10), 5);
	shadow_limit(s, 0);
	bytes = shadow_memory_bytes(s);
	add(s, 10, 2);
	assert_int_equal(count_of(s, 11), 5);
	assert_int_equal(shadow_memory_bytes(s), bytes);
	shadow_limit(s, UINT64_MAX);
	for (uint64_t gfn = 11; gfn < 40; gfn++)
		add(s, gfn, 3);
	assert_int_equal(count_of(s, 40), 20);
	shadow_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_added_is_found),
		cmocka_unit_test(it_says_how_often_it_was_sent_in_the_epoch),
		cmocka_unit_test(any_number_of_times_is_many),
		cmocka_unit_test(gfns_end_at_the_largest),
		cmocka_unit_test(no_more_is_kept_than_was_said),
		cmocka_unit_test(part_of_a_page_is_no_room),
		cmocka_unit_test(without_room_nothing_is_kept),
		cmocka_unit_test(more_than_the_guest_has_is_not_taken),
		cmocka_unit_test(what_gave_way_is_not_found),
		cmocka_unit_test(what_was_just_used_does_not_give_way),
		cmocka_unit_test(
			it_does_not_grow_beyond_the_room_of_the_moment),
		cmocka_unit_test(a_scan_does_not_push_out_what_is_in_use),
		cmocka_unit_test(any_order_of_uses_is_right),
		cmocka_unit_test(memory_is_counted_as_it_is_taken),
		cmocka_unit_test(a_guest_of_any_size_takes_memory_as_it_comes),
#ifdef ENABLE_FAULTS
		cmocka_unit_test_teardown(
			without_memory_it_lives_on_what_it_has, no_faults),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, no_faults);
}
