/* SPDX-License-Identifier: Apache-2.0 */
/* stream/pages.c: every mix of pages both ways, each as if alone. */
#include "config.h"

#include "stream/pages.h"

#include "base/cursor.h"
#include "tests/unit/pages-fixture.h"

/* All payloads that it takes, one after the other. */
static void expect_back(struct batch *b, int level, bool compress)
{
	struct page_encoder *e = page_encoder_new(level);
	struct expectation x = { b, 0, true, MAX_GFN, -1 };
	struct page_run run = run_of(b);
	unsigned int entries;

	while (run.count) {
		b->length = encode_some(e, &run, NULL, compress, b->payload,
					&entries);
		assert_int_equal(decode(b, b->length, &x), entries);
	}
	assert_int_equal(x.seen, b->count);
	assert_ptr_equal(run.gfns, b->gfns + b->count);
	assert_ptr_equal(run.pages, b->pages + b->count);
	page_encoder_free(e);
}

static void every_mix_comes_back(void **state)
{
	static const char *const patterns[] = { "z",   "t",   "n",
						"zt",  "tz",  "zn",
						"ntz", "ttz", "zzzzzzzzn" };
	const unsigned int counts[] = { 1, 2, WHOLE_PAGES, WHOLE_PAGES + 1,
					200 };
	const int levels[] = { -5, 0, 1, 3 };
	struct batch *b = *state;

	for (size_t p = 0; p < sizeof(patterns) / sizeof(patterns[0]); p++)
		for (int c = 0; c < 5; c++) {
			fill(b, counts[c], patterns[p]);
			for (int l = 0; l < 4; l++)
				expect_back(b, levels[l], true);
			expect_back(b, LEVEL, false);
		}
}

static void zero_pages_take_an_entry_only(void **state)
{
	struct batch *b = *state;

	encode(b, WIRE_BATCH_PAGES, "z", LEVEL);
	assert_int_equal(b->length, HEADER + ENTRY * WIRE_BATCH_PAGES);
	assert_int_equal(encoding_of(b), WIRE_ENCODING_RAW);
	expect_same(b);
}

static void one_byte_anywhere_makes_a_page_data(void **state)
{
	struct page_encoder *e = page_encoder_new(0);
	struct batch *b = *state;

	fill(b, 1, "z");
	for (int at = 0; at < WIRE_PAGE_BYTES; at++) {
		b->bytes[0][at] = 0x80;
		encode_with(e, b);
		assert_int_equal(b->length, HEADER + ENTRY + WIRE_PAGE_BYTES);
		b->bytes[0][at] = 0;
	}
	page_encoder_free(e);
}

static void compressible_pages_become_smaller(void **state)
{
	struct batch *b = *state;

	encode(b, WHOLE_PAGES, "t", LEVEL);
	assert_int_equal(encoding_of(b), WIRE_ENCODING_ZSTD);
	assert_true(b->length < WHOLE_PAGES * WIRE_PAGE_BYTES / 10);
}

static void level_0_does_not_compress(void **state)
{
	struct batch *b = *state;

	encode(b, 2, "t", 0);
	assert_int_equal(encoding_of(b), WIRE_ENCODING_RAW);
	assert_int_equal(b->length, HEADER + 2 * (ENTRY + WIRE_PAGE_BYTES));
}

static void what_is_in_a_hurry_is_not_compressed(void **state)
{
	struct page_encoder *e = page_encoder_new(LEVEL);
	struct batch *b = *state;
	struct page_run run;
	unsigned int entries;

	fill(b, 2, "t");
	run = run_of(b);
	b->length = encode_some(e, &run, NULL, false, b->payload, &entries);
	assert_int_equal(encoding_of(b), WIRE_ENCODING_RAW);
	assert_int_equal(b->length, HEADER + 2 * (ENTRY + WIRE_PAGE_BYTES));
	assert_int_equal(page_counts(e)->compressed, 0);
	assert_int_equal(page_counts(e)->incompressible, 0);
	page_encoder_free(e);
}

static void noise_goes_raw(void **state)
{
	struct batch *b = *state;

	encode(b, WHOLE_PAGES, "n", LEVEL);
	assert_int_equal(encoding_of(b), WIRE_ENCODING_RAW);
	assert_int_equal(b->length,
			 HEADER + WHOLE_PAGES * (ENTRY + WIRE_PAGE_BYTES));
}

/* Where zstd did nothing it is not tried each time, but again some time. */
static void noise_is_tried_now_and_then(void **state)
{
	struct page_encoder *e = page_encoder_new(LEVEL);
	const struct page_counts *counts = page_counts(e);
	struct batch *b = *state;

	fill(b, 10, "n");
	for (int i = 0; i < 50; i++)
		encode_with(e, b);
	assert_in_range(counts->incompressible, 2, 10);
	assert_int_equal(counts->compressed, 0);
	fill(b, 10, "t");
	for (int i = 0; i < 50; i++)
		encode_with(e, b);
	assert_in_range(counts->compressed, 40, 50);
	page_encoder_free(e);
}

static void contexts_can_be_used_again(void **state)
{
	struct page_encoder *e = page_encoder_new(LEVEL);
	struct batch *b = *state;

	for (int round = 0; round < 20; round++) {
		fill(b, 10, round % 2 ? "nz" : "tz");
		encode_with(e, b);
		expect_same(b);
	}
	page_encoder_free(e);
}

static void gfns_come_in_the_order_given(void **state)
{
	struct page_encoder *e = page_encoder_new(LEVEL);
	struct batch *b = *state;

	fill(b, 6, "tzn");
	for (uint64_t i = 0; i < 6; i++)
		b->gfns[i] = i * 5 % 6; /* 0 5 4 3 2 1 */
	encode_with(e, b);
	expect_same(b);
	page_encoder_free(e);
}

static void a_refusal_of_the_receiver_is_returned(void **state)
{
	struct batch *b = *state;
	struct expectation x = { b, 0, true, MAX_GFN, 2 };

	encode(b, 5, "tz", LEVEL);
	assert_int_equal(decode(b, b->length, &x), -ENOSPC);
	assert_int_equal(x.seen, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_mix_comes_back),
		cmocka_unit_test(zero_pages_take_an_entry_only),
		cmocka_unit_test(one_byte_anywhere_makes_a_page_data),
		cmocka_unit_test(compressible_pages_become_smaller),
		cmocka_unit_test(level_0_does_not_compress),
		cmocka_unit_test(what_is_in_a_hurry_is_not_compressed),
		cmocka_unit_test(noise_goes_raw),
		cmocka_unit_test(noise_is_tried_now_and_then),
		cmocka_unit_test(contexts_can_be_used_again),
		cmocka_unit_test(gfns_come_in_the_order_given),
		cmocka_unit_test(a_refusal_of_the_receiver_is_returned),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
