/* SPDX-License-Identifier: Apache-2.0 */
/* stream/epoch.c, and the whole way: epoch, frames, store, guest memory. */
#include "config.h"

#include "stream/epoch_encoder.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/fault.h"
#include "stream/pieces.h"
#include "tests/unit/epoch-fixture.h"

static void an_arena_is_touched(void **state)
{
	const size_t pages = 1000;
	struct epoch *e = epoch_new(pages, WIRE_STATE_MAX);
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const struct {
		uint8_t *at;
		size_t bytes;
	} parts[] = {
		{ e->pages, pages * WIRE_PAGE_BYTES },
		{ (uint8_t *)e->gfns, pages * sizeof(uint64_t) },
		{ (uint8_t *)e->where, pages * sizeof(uint8_t *) },
		{ e->state, WIRE_STATE_MAX },
	};

	(void)state;
	assert_non_null(e);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		size_t n = (parts[i].bytes + page - 1) / page;
		AUTO_FREE unsigned char *present = malloc(n);

		assert_int_equal(mincore(parts[i].at, parts[i].bytes, present),
				 0);
		for (size_t p = 0; p < n; p++)
			assert_true(present[p] & 1);
	}
	epoch_free(e);
}

static void capacities_reach_from_none_to_their_limit(void **state)
{
	struct epoch *e = epoch_new(0, 0);

	(void)state;
	assert_non_null(e);
	assert_int_equal(e->page_capacity, 0);
	assert_int_equal(e->state_capacity, 0);
	epoch_free(e);

	e = epoch_new(1, SIZE_MAX);
	assert_non_null(e);
	assert_int_equal(e->state_capacity, WIRE_STATE_MAX);
	epoch_free(e);

	assert_null(epoch_new(SIZE_MAX, 0));
	assert_null(epoch_new(SIZE_MAX / WIRE_PAGE_BYTES + 2, 0));
	epoch_free(NULL);
}

static void a_page_may_stay_where_it_is(void **state)
{
	static const uint8_t one[WIRE_PAGE_BYTES] = { 1 }, two[WIRE_PAGE_BYTES];
	struct epoch *e = epoch_new(2, 0);

	(void)state;
	assert_non_null(e);
	assert_int_equal(epoch_index(e, 9), 0);
	assert_true(epoch_put(e, 3, one));
	assert_true(epoch_refer(e, 5, two));
	assert_ptr_equal(e->where[0], e->pages);
	assert_ptr_equal(e->where[1], two);
	assert_false(epoch_refer(e, 6, two));
	/* Again, and the other way. */
	assert_true(epoch_refer(e, 3, one));
	assert_true(epoch_put(e, 5, one));
	assert_int_equal(e->page_count, 2);
	assert_ptr_equal(e->where[0], one);
	assert_ptr_equal(e->where[1], e->pages + WIRE_PAGE_BYTES);
	assert_memory_equal(e->where[1], one, sizeof(one));
	epoch_free(e);
}

static void an_epoch_arrives_as_it_was(void **state)
{
	const char kinds[] = "ttznttn";
	struct bench *b = *state;

	round_begin(b, 1, false);
	for (uint64_t gfn = 0; gfn < 301; gfn++)
		capture(b, gfn, kinds[gfn % 7], gfn);
	capture_state(b, 1000);
	assert_int_equal(encode(b), 0);
	expect_types(b, "BPPPPPSE");
	expect_same_memory(b);
}

static void batches_are_cut_at_their_limit(void **state)
{
	static const struct {
		uint64_t pages;
		const char *types;
	} cases[] = {
		{ 0, "BE" },
		{ 1, "BPE" },
		{ WHOLE_PAGES - 1, "BPE" },
		{ WHOLE_PAGES, "BPE" },
		{ WHOLE_PAGES + 1, "BPPE" },
		{ 2 * WHOLE_PAGES, "BPPE" },
	};
	struct bench *b = *state;

	for (int i = 0; i < 6; i++) {
		round_begin(b, (uint64_t)i + 1, false);
		for (uint64_t gfn = 0; gfn < cases[i].pages; gfn++)
			capture(b, gfn, 'n', gfn + 1000 * (uint64_t)i);
		assert_int_equal(encode(b), 0);
		expect_types(b, cases[i].types);
		expect_same_memory(b);
		drop_frames(b);
	}
}

static void state_is_cut_at_its_limit(void **state)
{
	static const struct {
		uint32_t length;
		const char *types;
	} cases[] = {
		{ WIRE_PAYLOAD_MAX - 8, "BSE" },
		{ WIRE_PAYLOAD_MAX - 7, "BSSE" },
		{ 2 * WIRE_PAYLOAD_MAX - 8, "BSSE" },
		{ 2 * WIRE_PAYLOAD_MAX, "BSSSE" },
	};
	struct bench *b = *state;

	for (int i = 0; i < 4; i++) {
		AUTO_FREE uint8_t *body = malloc(cases[i].length);
		struct store *s;
		struct record r;

		round_begin(b, 1, false);
		capture_state(b, cases[i].length);
		assert_int_equal(encode(b), 0);
		expect_types(b, cases[i].types);
		s = transfer(b, SIZE_MAX);
		assert_true(store_complete(s));
		assert_true(store_record(s, WIRE_RECORD_HVM_CONTEXT, &r));
		assert_int_equal(r.length, cases[i].length);
		fill_noise(body, cases[i].length, 99);
		assert_memory_equal(r.body, body, r.length);
		store_free(s);
		drop_frames(b);
	}
}

static void later_rounds_override_earlier_ones(void **state)
{
	struct bench *b = *state;

	round_begin(b, 9, true);
	for (uint64_t gfn = 10; gfn < 110; gfn++)
		capture(b, gfn, 't', gfn);
	assert_int_equal(encode(b), 0);
	round_begin(b, 9, true);
	capture(b, 20, 'z', 0);
	capture(b, 21, 'n', 5);
	capture(b, 200, 'n', 6);
	/* State of a round that is not the last is not sent. */
	capture_state(b, 100);
	assert_int_equal(encode(b), 0);
	round_begin(b, 9, false);
	capture(b, 20, 't', 77);
	capture(b, 200, 'z', 0);
	capture_state(b, 50);
	assert_int_equal(encode(b), 0);
	expect_types(b, "BPPPPSE");
	expect_same_memory(b);
}

static void the_next_epoch_has_sums_of_its_own(void **state)
{
	struct bench *b = *state;

	for (uint64_t number = 1; number <= 3; number++) {
		round_begin(b, number, false);
		for (uint64_t gfn = 0; gfn < 70; gfn++)
			capture(b, gfn, gfn % 2 ? 't' : 'z', gfn + number);
		assert_int_equal(encode(b), 0);
		expect_types(b, "BPE");
		expect_same_memory(b);
		drop_frames(b);
	}
}

static void sent_bytes_are_counted(void **state)
{
	struct bench *b = *state;
	uint64_t sum = 1000;

	round_begin(b, 1, false);
	for (uint64_t gfn = 0; gfn < 70; gfn++)
		capture(b, gfn, 't', gfn);
	capture_state(b, 10);
	b->sent_bytes = 1000;
	assert_int_equal(encode(b), 0);
	for (size_t i = 0; i < b->count; i++)
		sum += b->frames[i]->length;
	assert_int_equal(b->sent_bytes, sum);
}

static void any_lost_frame_leaves_the_store_incomplete(void **state)
{
	struct bench *b = *state;

	round_begin(b, 1, false);
	for (uint64_t gfn = 0; gfn < 130; gfn++)
		capture(b, gfn, 't', gfn);
	capture_state(b, WIRE_PAYLOAD_MAX);
	assert_int_equal(encode(b), 0);
	expect_types(b, "BPPPSSE");
	for (size_t lost = 0; lost < b->count; lost++) {
		struct store *s = transfer(b, lost);

		assert_false(store_complete(s));
		store_free(s);
	}
}

static void without_a_buffer_encoding_ends(void **state)
{
	struct bench *b = *state;

	round_begin(b, 1, false);
	for (uint64_t gfn = 0; gfn < 130; gfn++)
		capture(b, gfn, 't', gfn);
	capture_state(b, WIRE_PAYLOAD_MAX);
	for (size_t at = 0; at < 7; at++) {
		b->gets = 0;
		b->refuse_at = at;
		assert_int_equal(encode(b), -ECANCELED);
		assert_int_equal(b->gets, at + 1);
		assert_int_equal(b->count, at);
		drop_frames(b);
		/* A new connection starts with a whole epoch. */
		reconnect(b);
		assert_int_equal(encode(b), 0);
		expect_types(b, "BPPPSSE");
		expect_same_memory(b);
		drop_frames(b);
		reconnect(b);
	}
}

/* The other side does not have all that is in the shadow. */
static void after_an_error_nothing_more_is_encoded(void **state)
{
	struct bench *b = *state;

	for (size_t at = 0; at < 4; at++) {
		round_begin(b, 1, false);
		for (uint64_t gfn = 0; gfn < 70; gfn++)
			capture(b, gfn, 't', gfn);
		b->gets = 0;
		b->refuse_at = at;
		assert_int_equal(encode(b), -ECANCELED);
		drop_frames(b);
		b->refuse_at = SIZE_MAX;
		b->gets = 0;
		for (uint64_t number = 1; number < 4; number++) {
			round_begin(b, number, number == 2);
			capture(b, 3, 't', number);
			assert_int_equal(encode(b), -ECANCELED);
		}
		assert_int_equal(b->gets, 0);
		assert_int_equal(b->count, 0);
		reconnect(b);
	}
	round_begin(b, 5, false);
	capture(b, 3, 't', 1);
	assert_int_equal(encode(b), 0);
	expect_types(b, "BPE");
}

/* Some changes of disks, in pieces of these lengths; behind them `end`. */
struct changes {
	const size_t *lengths;
	size_t at;
	ssize_t end;
	char kind; /* t(ext) or n(oise) */
};

static void fill_change(char kind, uint8_t *raw, size_t length)
{
	memset(raw, 't', length);
	if (kind == 'n')
		fill_noise(raw, length, length);
}

static ssize_t next_changes(void *arg, uint8_t *raw, size_t room)
{
	struct changes *c = arg;
	size_t length = c->lengths[c->at];

	assert_int_equal(room, WIRE_PIECE_MAX);
	if (!length)
		return c->end;
	c->at++;
	fill_change(c->kind, raw, length);
	return (ssize_t)length;
}

/* The DISK frames of `b` are those pieces, in this encoding. */
static void expect_changes(struct bench *b, const struct changes *c,
			   uint32_t encoding)
{
	AUTO_FREE uint8_t *got = malloc(WIRE_PIECE_MAX);
	AUTO_FREE uint8_t *expected = malloc(WIRE_PIECE_MAX);
	struct body_decoder *d = body_decoder_new();
	size_t n = 0;

	assert_non_null(d);
	for (size_t i = 0; i < b->count; i++) {
		struct frame f = frame_of(b->frames[i]);

		if (f.type != WIRE_DISK)
			continue;
		fill_change(c->kind, expected, c->lengths[n]);
		assert_int_equal(piece_decode(d, f.payload, f.length, got),
				 c->lengths[n]);
		assert_memory_equal(got, expected, c->lengths[n]);
		assert_int_equal(f.payload[4], encoding);
		n++;
	}
	assert_int_equal(c->lengths[n], 0);
	body_decoder_free(d);
}

static void changes_of_disks_follow_the_pages(void **state)
{
	static const size_t lengths[] = { WIRE_PIECE_MAX, 1000, 0 };
	static const struct {
		char kind;
		bool behind;
		uint32_t encoding;
	} cases[] = {
		{ 't', true, WIRE_ENCODING_ZSTD },
		{ 'n', true, WIRE_ENCODING_RAW },
		{ 't', false, WIRE_ENCODING_RAW },
	};
	struct bench *b = *state;

	for (uint64_t i = 0; i < 3; i++) {
		struct changes c = { lengths, 0, 0, cases[i].kind };
		const struct epoch_changes source = { next_changes, &c };
		uint64_t before = b->sent_bytes, bytes = 0;

		b->changes = &source;
		b->behind = cases[i].behind;
		round_begin(b, i + 1, false);
		capture(b, 3, 'n', i);
		capture_state(b, 1000);
		assert_int_equal(encode(b), 0);
		expect_types(b, "BPDDSE");
		expect_changes(b, &c, cases[i].encoding);
		for (size_t n = 0; n < b->count; n++)
			bytes += b->frames[n]->length;
		assert_int_equal(b->sent_bytes - before, bytes);
		expect_same_memory(b);
		drop_frames(b);
	}
}

static void each_round_has_its_changes(void **state)
{
	static const size_t lengths[] = { 1000, 0, 2000, 3000, 0, 0 };
	struct changes c = { lengths, 0, 0, 't' };
	const struct epoch_changes source = { next_changes, &c };
	struct bench *b = *state;

	b->changes = &source;
	for (uint64_t i = 0; i < 3; i++) {
		round_begin(b, 1, i < 2);
		capture(b, i, 't', i);
		assert_int_equal(encode(b), 0);
		c.at++;
	}
	expect_types(b, "BPDPDDPE");
	expect_same_memory(b);
}

static void a_lost_change_is_noticed(void **state)
{
	static const size_t lengths[] = { 1000, 1000, 0 };
	struct changes c = { lengths, 0, 0, 't' };
	const struct epoch_changes source = { next_changes, &c };
	struct bench *b = *state;

	b->changes = &source;
	round_begin(b, 1, false);
	assert_int_equal(encode(b), 0);
	expect_types(b, "BDDE");
	expect_same_memory(b);
	for (size_t lost = 1; lost < 3; lost++) {
		struct store *s = transfer(b, lost);

		assert_false(store_complete(s));
		store_free(s);
	}
}

static void changes_that_fail_end_the_connection(void **state)
{
	static const size_t lengths[] = { 1000, 0 };
	struct changes c = { lengths, 0, -ESTALE, 't' };
	const struct epoch_changes source = { next_changes, &c };
	struct bench *b = *state;

	b->changes = &source;
	round_begin(b, 1, false);
	capture(b, 3, 't', 1);
	assert_int_equal(encode(b), -ESTALE);
	expect_types(b, "BPD");
	assert_int_equal(encode(b), -ECANCELED);
	expect_types(b, "BPD");
	drop_frames(b);

	/* Without a buffer for them, too. */
	reconnect(b);
	c.at = b->gets = 0;
	c.end = 0;
	b->refuse_at = 2;
	assert_int_equal(encode(b), -ECANCELED);
	expect_types(b, "BP");
}

#ifdef ENABLE_FAULTS
static void any_error_ends_the_connection(void **state)
{
	static const char *const faults[] = { "mid-pages:error=EIO",
					      "before-state:error=EIO",
					      "before-epoch-end:error=EIO" };
	struct bench *b = *state;

	for (int i = 0; i < 3; i++) {
		round_begin(b, 1, false);
		for (uint64_t gfn = 0; gfn < 70; gfn++)
			capture(b, gfn, 't', gfn);
		assert_int_equal(fault_init(faults[i]), 0);
		assert_int_equal(encode(b), -EIO);
		fault_fini();
		assert_int_equal(encode(b), -ECANCELED);
		drop_frames(b);
		reconnect(b);
		assert_int_equal(encode(b), 0);
		expect_types(b, "BPPE");
		expect_same_memory(b);
		drop_frames(b);
		reconnect(b);
	}
}

/* Few guests write more than one frame's pages. */
static void a_fault_strikes_behind_an_only_frame(void **state)
{
	struct bench *b = *state;

	round_begin(b, 1, false);
	capture(b, 3, 't', 1);
	assert_int_equal(fault_init("mid-pages:error=EIO"), 0);
	assert_int_equal(encode(b), -EIO);
	fault_fini();
	expect_types(b, "BP");
}

static void without_memory_for_a_shadow_pages_are_whole(void **state)
{
	struct bench *b = *state;

	for (uint64_t number = 1; number < 4; number++) {
		round_begin(b, number, false);
		capture(b, 1, 't', number);
		if (number == 1)
			assert_int_equal(fault_init("memory:error"), 0);
		assert_int_equal(encode(b), 0);
		fault_fini();
		expect_same_memory(b);
		drop_frames(b);
	}
	assert_int_equal(epoch_encoder_counts(b->encoder)->whole, 3);
	assert_int_equal(epoch_encoder_memory_bytes(b->encoder), 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_arena_is_touched),
		cmocka_unit_test(capacities_reach_from_none_to_their_limit),
		cmocka_unit_test(a_page_may_stay_where_it_is),
		FRESH(an_epoch_arrives_as_it_was),
		FRESH(batches_are_cut_at_their_limit),
		FRESH(state_is_cut_at_its_limit),
		FRESH(later_rounds_override_earlier_ones),
		FRESH(the_next_epoch_has_sums_of_its_own),
		FRESH(sent_bytes_are_counted),
		FRESH(any_lost_frame_leaves_the_store_incomplete),
		FRESH(without_a_buffer_encoding_ends),
		FRESH(after_an_error_nothing_more_is_encoded),
		FRESH(changes_of_disks_follow_the_pages),
		FRESH(each_round_has_its_changes),
		FRESH(a_lost_change_is_noticed),
		FRESH(changes_that_fail_end_the_connection),
#ifdef ENABLE_FAULTS
		FRESH(any_error_ends_the_connection),
		FRESH(a_fault_strikes_behind_an_only_frame),
		FRESH(without_memory_for_a_shadow_pages_are_whole),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
