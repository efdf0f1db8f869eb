/* SPDX-License-Identifier: Apache-2.0 */
/* stream/store.c: what makes an epoch complete, and what keeps it small. */
#include "config.h"

#include "stream/store.h"

#include "tests/unit/store-fixture.h"

static size_t put_records(uint8_t *out, size_t room, uint32_t type,
			  uint32_t length)
{
	struct cursor c = cursor_over(out, room);
	uint8_t *body = record_put(&c, WIRE_RECORD_HVM_CONTEXT, 5);

	memcpy(body, "cpus.", 5);
	body = record_put(&c, type, length);
	memset(body, 'r', length);
	return (size_t)(c.at - out);
}

static void a_whole_epoch_is_complete(void **state)
{
	struct bench *b = *state;
	uint8_t records[64];
	struct record r;
	size_t n = put_records(records, sizeof(records),
			       WIRE_RECORD_COLOD_ADDRESSES, 24);

	begin(b, 42);
	assert_false(store_complete(b->store));
	assert_int_equal(feed_page(b, 7, 1), 0);
	assert_int_equal(feed_page(b, MAX_GFN, 2), 0);
	assert_int_equal(feed_page(b, 0, 0), 0);
	/* Cut without regard to records. */
	assert_int_equal(feed_state(b, records, 9), 0);
	assert_int_equal(feed_state(b, records + 9, n - 9), 0);
	assert_false(store_complete(b->store));
	assert_int_equal(finish(b), 0);

	assert_true(store_complete(b->store));
	assert_int_equal(store_number(b->store), 42);
	assert_int_equal(store_page_count(b->store), 3);
	expect_page(b, 7, 1);
	expect_page(b, MAX_GFN, 2);
	expect_page(b, 0, 0);
	assert_true(store_record(b->store, WIRE_RECORD_HVM_CONTEXT, &r));
	assert_int_equal(r.length, 5);
	assert_memory_equal(r.body, "cpus.", 5);
	assert_true(store_record(b->store, WIRE_RECORD_COLOD_ADDRESSES, &r));
	assert_int_equal(r.length, 24);
	assert_false(store_record(b->store, 0x80000C7F, &r));
}

static void an_empty_epoch_is_complete(void **state)
{
	struct bench *b = *state;

	begin(b, 1);
	assert_int_equal(finish(b), 0);
	assert_true(store_complete(b->store));
	assert_int_equal(store_page_count(b->store), 0);
}

static void the_latest_version_counts(void **state)
{
	struct bench *b = *state;

	begin(b, 1);
	assert_int_equal(feed_page(b, 5, 1), 0);
	assert_int_equal(feed_page(b, 6, 0), 0);
	assert_int_equal(feed_page(b, 8, 3), 0);
	assert_int_equal(feed_page(b, 5, 2), 0);
	assert_int_equal(feed_page(b, 6, 4), 0);
	assert_int_equal(feed_page(b, 8, 0), 0);
	assert_int_equal(finish(b), 0);
	assert_int_equal(store_page_count(b->store), 3);
	expect_page(b, 5, 2);
	expect_page(b, 6, 4);
	expect_page(b, 8, 0);
}

static void nothing_is_left_of_the_epoch_before(void **state)
{
	struct bench *b = *state;
	uint8_t records[64];
	struct record r;

	begin(b, 1);
	feed_page(b, 5, 1);
	feed_page(b, 9, 1);
	feed_state(b, records,
		   put_records(records, sizeof(records), 0x80000C7F, 0));
	assert_int_equal(finish(b), 0);
	begin(b, 2);
	assert_int_equal(store_page_count(b->store), 0);
	feed_page(b, 9, 2);
	assert_int_equal(finish(b), 0);
	assert_int_equal(store_page_count(b->store), 1);
	expect_page(b, 9, 2);
	assert_false(store_record(b->store, WIRE_RECORD_HVM_CONTEXT, &r));
}

/* Many gfns with many orders, over several growths of the index. */
static void the_index_finds_every_gfn(void **state)
{
	enum { GFNS = 2000 };
	struct bench *b = *state;

	for (uint64_t round = 1; round <= 3; round++) {
		begin(b, round);
		for (uint64_t i = 0; i < GFNS; i++)
			assert_int_equal(feed_page(b, i * 521 % MAX_GFN, 0), 0);
		for (uint64_t i = 0; i < GFNS; i += 2)
			assert_int_equal(
				feed_page(b, i * 521 % MAX_GFN, round + i), 0);
		assert_int_equal(store_page_count(b->store), GFNS);
		assert_int_equal(finish(b), 0);
		expect_page(b, 521 * 2, round + 2);
		expect_page(b, 521 * 3, 0);
		expect_page(b, 1998 * 521 % MAX_GFN, round + 1998);
	}
}

static int refuse_second(void *arg, const struct page_item *item)
{
	int *calls = arg;

	(void)item;
	return ++*calls == 2 ? -EIO : 0;
}

static void applying_stops_at_an_error(void **state)
{
	struct bench *b = *state;
	int calls = 0;

	begin(b, 1);
	for (uint64_t gfn = 0; gfn < 5; gfn++)
		feed_page(b, gfn, 0);
	assert_int_equal(finish(b), 0);
	assert_int_equal(store_each_page(b->store, refuse_second, &calls),
			 -EIO);
	assert_int_equal(calls, 2);
}

static void more_pages_than_the_guest_has_are_refused(void **state)
{
	/* The guest's own and the documented slack. */
	const uint64_t limit = RAM_BYTES / WIRE_PAGE_BYTES + 256;
	struct bench *b = *state;

	begin(b, 1);
	for (uint64_t gfn = 0; gfn < limit; gfn++)
		assert_int_equal(feed_page(b, gfn, 0), 0);
	/* Another version of a page that is there is no page more. */
	assert_int_equal(feed_page(b, 0, 1), 0);
	assert_int_equal(feed_page(b, limit, 0), -E2BIG);
	assert_non_null(b->why);
	assert_int_equal(store_page_count(b->store), limit);
	assert_int_not_equal(finish(b), 0);
}

static void versions_take_no_memory_of_their_own(void **state)
{
	struct bench *b = *state;
	size_t before;

	begin(b, 1);
	feed_page(b, 1, 1);
	before = store_memory_bytes(b->store);
	assert_true(before > 0 && before < 4 * 1024 * 1024);
	for (uint64_t i = 0; i < 2000; i++)
		assert_int_equal(feed_page(b, 1, i % 2), 0);
	assert_int_equal(store_memory_bytes(b->store), before);
}

static void memory_is_bounded_and_used_again(void **state)
{
	const size_t all = RAM_BYTES / WIRE_PAGE_BYTES + 256;
	struct bench *b = *state;
	size_t held = 0;

	for (uint64_t round = 1; round <= 3; round++) {
		begin(b, round);
		for (uint64_t gfn = 0; gfn < all; gfn++)
			assert_int_equal(feed_page(b, gfn * 3, 1), 0);
		assert_int_equal(finish(b), 0);
		if (held)
			assert_int_equal(store_memory_bytes(b->store), held);
		held = store_memory_bytes(b->store);
	}
	/* Rounded up to a step of the arena, and the index. */
	assert_true(held < all * WIRE_PAGE_BYTES + 3 * 1024 * 1024);
}

static void a_small_space_of_gfns_bounds_pages_too(void **state)
{
	struct bench *b = *state;
	struct store *own = b->store;

	b->store = store_new(UINT64_C(1) << 40, 3, NULL);
	assert_non_null(b->store);
	begin(b, 1);
	for (uint64_t gfn = 0; gfn <= 3; gfn++)
		assert_int_equal(feed_page(b, gfn, 1), 0);
	assert_int_equal(finish(b), 0);
	begin(b, 2);
	assert_int_equal(feed_page(b, 4, 1), -EPROTO);
	store_free(b->store);
	b->store = own;
}

static void wrong_counts_and_checksums_are_refused(void **state)
{
	struct bench *b = *state;

	for (int field = 0; field < 3; field++) {
		for (int by = -1; by <= 1; by += 2) {
			begin(b, 1);
			feed_page(b, 1, 1);
			b->end.checksum = checksum_value(b->checksum);
			*(field == 0   ? &b->end.pages
			  : field == 1 ? &b->end.bytes
				       : &b->end.checksum) += (uint64_t)by;
			assert_int_equal(store_end(b->store, &b->end, &b->why),
					 -EBADMSG);
			assert_false(store_complete(b->store));
		}
	}
}

static void a_missing_doubled_or_swapped_frame_is_refused(void **state)
{
	static uint8_t first[WIRE_PAYLOAD_MAX], second[WIRE_PAYLOAD_MAX];
	struct bench *b = *state;
	size_t n, m;

	n = encode_page(b, 3, 1, first);
	m = encode_page(b, 3, 2, second);
	assert_int_equal(n, m);
	for (int mistake = 0; mistake < 4; mistake++) {
		int err;

		begin(b, 1);
		count(b, first, n);
		count(b, second, m);
		b->end.pages = 2;
		if (mistake == 1) { /* swapped */
			store_pages(b->store, second, m, &b->why);
			store_pages(b->store, first, n, &b->why);
		} else if (mistake == 2) { /* doubled in place of the other */
			store_pages(b->store, first, n, &b->why);
			store_pages(b->store, first, n, &b->why);
		} else {
			store_pages(b->store, first, n, &b->why);
			if (mistake == 0)
				store_pages(b->store, second, m, &b->why);
		}
		err = finish(b);
		assert_int_equal(err, mistake ? -EBADMSG : 0);
		assert_int_equal(store_complete(b->store), !mistake);
	}
}

static void state_is_bounded(void **state)
{
	AUTO_FREE uint8_t *bytes = calloc(1, WIRE_PAYLOAD_MAX);
	struct bench *b = *state;
	const int frames = WIRE_STATE_MAX / WIRE_PAYLOAD_MAX;
	struct cursor c = cursor_over(bytes, 8);
	struct record r;

	/* One record that takes all the room there is. */
	cursor_put_u32(&c, WIRE_RECORD_HVM_CONTEXT);
	cursor_put_u32(&c, WIRE_STATE_MAX - 8);
	for (int over = 0; over < 2; over++) {
		begin(b, 1);
		for (int i = 0; i < frames; i++)
			assert_int_equal(feed_state(b, i ? bytes + 8 : bytes,
						    WIRE_PAYLOAD_MAX - 8),
					 0);
		if (!over) {
			assert_int_equal(
				feed_state(b, bytes + 8, 8 * (size_t)frames),
				0);
			assert_int_equal(finish(b), 0);
			assert_true(store_record(b->store,
						 WIRE_RECORD_HVM_CONTEXT, &r));
			assert_int_equal(r.length, WIRE_STATE_MAX - 8);
		} else {
			assert_int_equal(feed_state(b, bytes + 8,
						    8 * (size_t)frames + 1),
					 -E2BIG);
			assert_int_not_equal(finish(b), 0);
		}
	}
}

static void state_must_be_whole_records(void **state)
{
	struct bench *b = *state;
	uint8_t records[64];
	size_t n = put_records(records, sizeof(records), 0x80000C7F, 3);

	for (size_t len = 1; len <= n; len++) {
		bool whole = len == 16 || len == n;

		begin(b, 1);
		assert_int_equal(feed_state(b, records, len), 0);
		assert_int_equal(finish(b), whole ? 0 : -EPROTO);
		assert_int_equal(store_complete(b->store), whole);
	}
	begin(b, 1);
	assert_int_equal(feed_state(b, records, 0), -EPROTO);
}

static void unknown_mandatory_records_are_refused(void **state)
{
	/* Page data, and a number that nobody has given away. */
	const uint32_t bad[] = { 0, 1, 8, 10, 0x0c01, 0x7fffffff };
	const uint32_t good[] = { WIRE_RECORD_HVM_CONTEXT, 0x80000000,
				  0xffffffff };
	struct bench *b = *state;
	uint8_t records[64];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		begin(b, 1);
		feed_state(b, records,
			   put_records(records, sizeof(records), bad[i], 4));
		assert_int_equal(finish(b), -EPROTO);
		assert_false(store_complete(b->store));
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		begin(b, 1);
		feed_state(b, records,
			   put_records(records, sizeof(records), good[i], 4));
		assert_int_equal(finish(b), 0);
	}
}

static void nothing_comes_before_begin_or_after_the_end(void **state)
{
	struct bench *b = *state;
	struct store *own = b->store;

	b->store = store_new(RAM_BYTES, MAX_GFN, NULL);
	assert_false(store_complete(b->store));
	assert_int_equal(feed_page(b, 1, 1), -EPROTO);
	assert_int_equal(feed_state(b, "12345678", 8), -EPROTO);
	assert_int_equal(finish(b), -EPROTO);
	store_free(b->store);
	b->store = own;

	for (int what = 0; what < 3; what++) {
		begin(b, 1);
		assert_int_equal(finish(b), 0);
		assert_int_equal(what == 0   ? feed_page(b, 1, 1)
				 : what == 1 ? feed_state(b, "12345678", 8)
					     : finish(b),
				 -EPROTO);
		assert_false(store_complete(b->store));
	}
}

static void pages_do_not_follow_state(void **state)
{
	struct bench *b = *state;
	uint8_t records[64];

	begin(b, 1);
	feed_state(b, records,
		   put_records(records, sizeof(records), 0x80000C7F, 0));
	assert_int_equal(feed_page(b, 1, 1), -EPROTO);
	assert_false(store_complete(b->store));
}

static void an_error_lasts_until_the_next_epoch(void **state)
{
	struct bench *b = *state;

	begin(b, 1);
	assert_int_equal(store_pages(b->store, b->payload, 0, &b->why),
			 -EPROTO);
	assert_int_equal(feed_page(b, 1, 1), -EPROTO);
	assert_int_equal(finish(b), -EPROTO);
	assert_false(store_complete(b->store));
	begin(b, 2);
	assert_int_equal(feed_page(b, 1, 1), 0);
	assert_int_equal(finish(b), 0);
	assert_true(store_complete(b->store));
}

/* What is held counts, not what has come: a page again takes nothing. */
static void an_epoch_that_takes_too_much_is_refused(void **state)
{
	const size_t pages = 1000, bytes = pages * WIRE_PAGE_BYTES;
	struct bench *b = *state;
	uint64_t taken;

	store_limit(b->store, bytes);
	for (uint64_t number = 1; number < 4; number++) {
		begin(b, number);
		for (taken = 0; feed_page(b, taken, 1) == 0; taken++)
			assert_int_equal(feed_page(b, taken, 2), 0);
		assert_in_range(taken, pages - 50, pages);
		assert_non_null(strstr(b->why, "--memory-limit"));
		assert_int_not_equal(finish(b), 0);
		assert_false(store_complete(b->store));
	}
	/* The next one may be smaller. */
	begin(b, 4);
	for (uint64_t gfn = 0; gfn < pages / 2; gfn++)
		assert_int_equal(feed_page(b, gfn, 1), 0);
	assert_int_equal(finish(b), 0);
}

static void flags_count_too(void **state)
{
	struct bench *b = *state;
	uint64_t gfn = 0;

	store_limit(b->store, 200 * 1024);
	begin(b, 1);
	while (feed_page(b, gfn, 0) == 0)
		assert_true(++gfn < 5000);
	assert_non_null(strstr(b->why, "--memory-limit"));
	assert_true(gfn > 1000);
}

static void state_counts_too(void **state)
{
	static uint8_t state_bytes[64 * 1024];
	struct bench *b = *state;

	store_limit(b->store, 150 * 1024);
	begin(b, 1);
	for (int i = 0; i < 2; i++)
		assert_int_equal(
			feed_state(b, state_bytes, sizeof(state_bytes)), 0);
	assert_int_equal(feed_state(b, state_bytes, sizeof(state_bytes)),
			 -E2BIG);
	assert_non_null(strstr(b->why, "--memory-limit"));
}

static void disks_count_and_take_no_memory(void **state)
{
	static uint8_t payload[WIRE_PAYLOAD_MAX];
	struct bench *b = *state;
	size_t held;

	begin(b, 1);
	assert_int_equal(feed_page(b, 5, 1), 0);
	held = store_memory_bytes(b->store);
	for (int i = 0; i < 100; i++)
		assert_int_equal(feed_disk(b, payload, sizeof(payload)), 0);
	/* Between them there may be more pages. */
	assert_int_equal(feed_page(b, 6, 2), 0);
	assert_int_equal(feed_disk(b, "piece", 5), 0);
	assert_int_equal(store_memory_bytes(b->store), held);
	assert_int_equal(finish(b), 0);
	assert_true(store_complete(b->store));
	assert_int_equal(store_page_count(b->store), 2);
	expect_page(b, 5, 1);
	expect_page(b, 6, 2);
}

static void a_missing_or_changed_disk_frame_is_noticed(void **state)
{
	struct bench *b = *state;

	begin(b, 1);
	count(b, "piece", 5);
	assert_int_equal(finish(b), -EBADMSG);
	begin(b, 2);
	count(b, "piece", 5);
	assert_int_equal(
		store_disk(b->store, (const uint8_t *)"peace", 5, &b->why), 0);
	assert_int_equal(finish(b), -EBADMSG);
	assert_false(store_complete(b->store));
}

static void disks_come_between_begin_and_the_state(void **state)
{
	struct bench *b = *state;
	uint8_t records[64];

	assert_int_equal(feed_disk(b, "piece", 5), -EPROTO);
	begin(b, 1);
	feed_state(b, records,
		   put_records(records, sizeof(records), 0x80000C7F, 0));
	assert_int_equal(feed_disk(b, "piece", 5), -EPROTO);
	assert_non_null(strstr(b->why, "DISK"));
	assert_int_not_equal(finish(b), 0);
	begin(b, 2);
	assert_int_equal(feed_disk(b, "piece", 5), 0);
	assert_int_equal(finish(b), 0);
	assert_int_equal(feed_disk(b, "piece", 5), -EPROTO);
	assert_false(store_complete(b->store));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FRESH(a_whole_epoch_is_complete),
		FRESH(an_empty_epoch_is_complete),
		FRESH(the_latest_version_counts),
		FRESH(nothing_is_left_of_the_epoch_before),
		FRESH(the_index_finds_every_gfn),
		FRESH(applying_stops_at_an_error),
		FRESH(more_pages_than_the_guest_has_are_refused),
		FRESH(an_epoch_that_takes_too_much_is_refused),
		FRESH(flags_count_too),
		FRESH(state_counts_too),
		FRESH(versions_take_no_memory_of_their_own),
		FRESH(memory_is_bounded_and_used_again),
		FRESH(a_small_space_of_gfns_bounds_pages_too),
		FRESH(wrong_counts_and_checksums_are_refused),
		FRESH(a_missing_doubled_or_swapped_frame_is_refused),
		FRESH(state_is_bounded),
		FRESH(state_must_be_whole_records),
		FRESH(unknown_mandatory_records_are_refused),
		FRESH(nothing_comes_before_begin_or_after_the_end),
		FRESH(pages_do_not_follow_state),
		FRESH(disks_count_and_take_no_memory),
		FRESH(a_missing_or_changed_disk_frame_is_noticed),
		FRESH(disks_come_between_begin_and_the_state),
		FRESH(an_error_lasts_until_the_next_epoch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
