/* SPDX-License-Identifier: Apache-2.0 */
/* stream/pages.c: every mix of pages both ways, and hostile payloads. */
#include "config.h"

#include "stream/pages.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>

#include <zstd.h>

#include "base/cleanup.h"
#include "tests/unit/unit-stream.h"

enum { LEVEL = 1, MAX_GFN = 0xfefff, HEADER = 8 };

/* Pages to encode, and the payload made of them. */
struct batch {
	unsigned int count;
	uint64_t gfns[WIRE_BATCH_PAGES];
	const uint8_t *pages[WIRE_BATCH_PAGES];
	uint8_t bytes[WIRE_BATCH_PAGES][WIRE_PAGE_BYTES];
	size_t length;
	uint8_t payload[WIRE_PAYLOAD_MAX];
};

static struct page_decoder *decoder;

static int setup(void **state)
{
	decoder = page_decoder_new();
	*state = calloc(1, sizeof(struct batch));
	return decoder && *state ? 0 : -1;
}

static int teardown(void **state)
{
	page_decoder_free(decoder);
	free(*state);
	return 0;
}

/* `pattern`: z(ero), t(ext), n(oise), repeated up to `count`. */
static void encode(struct batch *b, unsigned int count, const char *pattern,
		   int level)
{
	struct page_encoder *e = page_encoder_new(level);

	assert_non_null(e);
	b->count = count;
	for (unsigned int i = 0; i < count; i++) {
		b->gfns[i] = MAX_GFN - 2 * (uint64_t)(count - 1 - i);
		b->pages[i] = b->bytes[i];
		memset(b->bytes[i], 0, WIRE_PAGE_BYTES);
		switch (pattern[i % strlen(pattern)]) {
		case 't':
			fill_text(b->bytes[i], i + 1);
			break;
		case 'n':
			fill_noise(b->bytes[i], WIRE_PAGE_BYTES, i + 1);
			break;
		}
	}
	b->length = page_encode(e, count, b->gfns, b->pages, b->payload);
	assert_true(b->length <= WIRE_PAYLOAD_MAX);
	page_encoder_free(e);
}

struct expectation {
	const struct batch *b;
	unsigned int seen;
	bool compare;
	uint64_t max_gfn;
	int fail_at; /* call that returns -ENOSPC, or -1 */
};

static int expect_page(void *arg, uint64_t gfn, const uint8_t *bytes)
{
	static const uint8_t zeroes[WIRE_PAGE_BYTES];
	struct expectation *x = arg;

	assert_true(gfn <= x->max_gfn);
	if ((int)x->seen == x->fail_at)
		return -ENOSPC;
	if (x->compare) {
		assert_true(x->seen < x->b->count);
		assert_int_equal(gfn, x->b->gfns[x->seen]);
		assert_memory_equal(bytes ? bytes : zeroes,
				    x->b->bytes[x->seen], WIRE_PAGE_BYTES);
	}
	x->seen++;
	return 0;
}

/* Decodes `length` bytes out of memory of exactly that size. */
static int decode(const struct batch *b, size_t length, struct expectation *x)
{
	AUTO_FREE uint8_t *copy = malloc(length ? length : 1);
	const char *why = NULL;
	int n;

	assert_non_null(copy);
	memcpy(copy, b->payload, length);
	n = page_decode(decoder, copy, length, x->max_gfn, expect_page, x,
			&why);
	if (n == -EPROTO) {
		assert_non_null(why);
		assert_int_equal(x->seen, 0);
	}
	return n;
}

static void expect_same(const struct batch *b)
{
	struct expectation x = { b, 0, true, MAX_GFN, -1 };

	assert_int_equal(decode(b, b->length, &x), b->count);
	assert_int_equal(x.seen, b->count);
}

static void expect_refused(const struct batch *b)
{
	struct expectation x = { b, 0, false, MAX_GFN, -1 };

	assert_int_equal(decode(b, b->length, &x), -EPROTO);
}

static uint32_t encoding_of(const struct batch *b)
{
	return b->payload[4];
}

static void poke64(struct batch *b, size_t at, uint64_t value)
{
	value = htole64(value);
	memcpy(b->payload + at, &value, sizeof(value));
}

static void every_mix_comes_back(void **state)
{
	static const char *const patterns[] = { "z",   "t",   "n",
						"zt",  "tz",  "zn",
						"ntz", "ttz", "zzzzzzzzn" };
	const unsigned int counts[] = { 1, 2, WIRE_BATCH_PAGES - 1,
					WIRE_BATCH_PAGES };
	const int levels[] = { -5, 0, 1, 3 };
	struct batch *b = *state;

	for (size_t p = 0; p < sizeof(patterns) / sizeof(patterns[0]); p++)
		for (int c = 0; c < 4; c++)
			for (int l = 0; l < 4; l++) {
				encode(b, counts[c], patterns[p], levels[l]);
				expect_same(b);
			}
}

static void zero_pages_take_an_entry_only(void **state)
{
	struct batch *b = *state;

	encode(b, WIRE_BATCH_PAGES, "z", LEVEL);
	assert_int_equal(b->length, HEADER + 8 * WIRE_BATCH_PAGES);
	assert_int_equal(encoding_of(b), WIRE_ENCODING_RAW);
}

static void one_byte_anywhere_makes_a_page_data(void **state)
{
	struct page_encoder *e = page_encoder_new(0);
	struct batch *b = *state;

	b->count = 1;
	b->gfns[0] = 1;
	b->pages[0] = b->bytes[0];
	memset(b->bytes[0], 0, WIRE_PAGE_BYTES);
	for (int at = 0; at < WIRE_PAGE_BYTES; at++) {
		b->bytes[0][at] = 0x80;
		b->length = page_encode(e, 1, b->gfns, b->pages, b->payload);
		assert_int_equal(b->length, HEADER + 8 + WIRE_PAGE_BYTES);
		b->bytes[0][at] = 0;
	}
	page_encoder_free(e);
}

static void compressible_pages_become_smaller(void **state)
{
	struct batch *b = *state;

	encode(b, WIRE_BATCH_PAGES, "t", LEVEL);
	assert_int_equal(encoding_of(b), WIRE_ENCODING_ZSTD);
	assert_true(b->length < WIRE_BATCH_PAGES * WIRE_PAGE_BYTES / 10);
}

static void level_0_does_not_compress(void **state)
{
	struct batch *b = *state;

	encode(b, 2, "t", 0);
	assert_int_equal(encoding_of(b), WIRE_ENCODING_RAW);
	assert_int_equal(b->length, HEADER + 2 * (8 + WIRE_PAGE_BYTES));
}

static void noise_goes_raw(void **state)
{
	struct batch *b = *state;

	encode(b, WIRE_BATCH_PAGES, "n", LEVEL);
	assert_int_equal(encoding_of(b), WIRE_ENCODING_RAW);
	assert_int_equal(b->length,
			 HEADER + WIRE_BATCH_PAGES * (8 + WIRE_PAGE_BYTES));
}

static void contexts_can_be_used_again(void **state)
{
	struct page_encoder *e = page_encoder_new(LEVEL);
	struct batch *b = *state;

	for (int round = 0; round < 20; round++) {
		encode(b, 10, round % 2 ? "nz" : "tz", LEVEL);
		b->length = page_encode(e, 10, b->gfns, b->pages, b->payload);
		expect_same(b);
	}
	page_encoder_free(e);
}

static void scattered_pages_come_back(void **state)
{
	struct page_encoder *e = page_encoder_new(LEVEL);
	struct batch *b = *state;
	struct expectation x = { b, 0, false, MAX_GFN, -1 };

	encode(b, 4, "t", LEVEL);
	b->pages[1] = b->bytes[3];
	b->pages[3] = b->bytes[1];
	b->length = page_encode(e, 4, b->gfns, b->pages, b->payload);
	assert_int_equal(decode(b, b->length, &x), 4);
	/* In the order of the pointers, not of the memory. */
	fill_text(b->bytes[1], 4);
	fill_text(b->bytes[3], 2);
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

static void truncation_at_every_byte_is_refused(void **state)
{
	static const char *const patterns[] = { "t", "n", "z", "tz" };
	struct batch *b = *state;

	for (int p = 0; p < 4; p++) {
		encode(b, 3, patterns[p], LEVEL);
		for (size_t len = 0; len < b->length; len++) {
			struct expectation x = { b, 0, false, MAX_GFN, -1 };

			assert_int_equal(decode(b, len, &x), -EPROTO);
		}
	}
}

static void anything_behind_the_bodies_is_refused(void **state)
{
	static const char *const patterns[] = { "t", "n", "z" };
	struct batch *b = *state;

	for (int p = 0; p < 3; p++) {
		encode(b, 3, patterns[p], LEVEL);
		b->payload[b->length++] = 0;
		expect_refused(b);
	}
}

/*
 * A corrupted body may decode to other bytes, which is for the checksum to
 * find; no corruption may lead to a gfn that does not exist or to a crash.
 */
static void no_corrupted_byte_does_harm(void **state)
{
	static const char *const patterns[] = { "tz", "zn" };
	const uint8_t flips[] = { 0x01, 0x80, 0xff, 0x55 };
	struct batch *b = *state;

	for (int p = 0; p < 2; p++) {
		encode(b, 2, patterns[p], LEVEL);
		for (size_t at = 0; at < b->length; at++)
			for (int f = 0; f < 4; f++) {
				struct expectation x = { b, 0, false, MAX_GFN,
							 -1 };
				int n;

				b->payload[at] ^= flips[f];
				n = decode(b, b->length, &x);
				assert_true(n == -EPROTO || n == (int)b->count);
				b->payload[at] ^= flips[f];
			}
	}
}

static void counts_are_bounded(void **state)
{
	const uint32_t bad[] = { 0, WIRE_BATCH_PAGES + 1, 0x10000, UINT32_MAX,
				 UINT32_C(1) << 29 };
	struct batch *b = *state;

	for (int i = 0; i < 5; i++) {
		uint32_t le = htole32(bad[i]);

		encode(b, WIRE_BATCH_PAGES, "n", LEVEL);
		memcpy(b->payload, &le, 4);
		expect_refused(b);
	}
	/* Well-formed but for the count: none, and one too many. */
	memset(b->payload, 0, HEADER);
	b->length = HEADER;
	expect_refused(b);
	memset(b->payload, 0, HEADER + 8 * (WIRE_BATCH_PAGES + 1));
	b->payload[0] = WIRE_BATCH_PAGES + 1;
	for (int i = 0; i <= WIRE_BATCH_PAGES; i++)
		b->payload[HEADER + 8 * i + 7] = WIRE_PAGE_ZERO;
	b->length = HEADER + 8 * (WIRE_BATCH_PAGES + 1);
	expect_refused(b);
}

static void unknown_encodings_are_refused(void **state)
{
	struct batch *b = *state;

	for (int at = 4; at < 8; at++) {
		encode(b, 1, "n", LEVEL);
		b->payload[at] = 2;
		expect_refused(b);
	}
}

static void reserved_bits_and_kinds_are_refused(void **state)
{
	struct batch *b = *state;

	for (int bit = 32; bit < 64; bit++) {
		encode(b, 2, "z", LEVEL);
		poke64(b, HEADER + 8,
		       (UINT64_C(1) << 56 | 5) ^ UINT64_C(1) << bit);
		expect_refused(b);
	}
}

static void gfns_end_at_max_gfn(void **state)
{
	struct batch *b = *state;

	encode(b, 2, "z", LEVEL);
	poke64(b, HEADER + 8, UINT64_C(1) << 56 | MAX_GFN);
	b->gfns[1] = MAX_GFN;
	expect_same(b);
	poke64(b, HEADER + 8, UINT64_C(1) << 56 | (MAX_GFN + 1));
	expect_refused(b);
	poke64(b, HEADER + 8, UINT64_C(1) << 56 | UINT32_MAX);
	expect_refused(b);
}

static void the_largest_gfn_comes_back(void **state)
{
	struct batch *b = *state;
	struct expectation x = { b, 0, true, WIRE_GFN_MAX, -1 };

	encode(b, 1, "z", LEVEL);
	b->gfns[0] = WIRE_GFN_MAX;
	poke64(b, HEADER, UINT64_C(1) << 56 | WIRE_GFN_MAX);
	assert_int_equal(decode(b, b->length, &x), 1);
}

/* Replaces the body of a one-page payload by `len` bytes. */
static void set_body(struct batch *b, const void *body, size_t len)
{
	encode(b, 1, "n", 0);
	b->payload[4] = WIRE_ENCODING_ZSTD;
	memcpy(b->payload + HEADER + 8, body, len);
	b->length = HEADER + 8 + len;
}

static void zstd_frames_of_another_size_are_refused(void **state)
{
	static uint8_t content[2 * WIRE_PAGE_BYTES];
	const size_t sizes[] = { 0, 1, WIRE_PAGE_BYTES - 1, WIRE_PAGE_BYTES + 1,
				 2 * WIRE_PAGE_BYTES };
	struct batch *b = *state;
	uint8_t body[512];

	for (int i = 0; i < 5; i++) {
		set_body(b, body,
			 ZSTD_compress(body, sizeof(body), content, sizes[i],
				       1));
		expect_refused(b);
	}
	set_body(
		b, body,
		ZSTD_compress(body, sizeof(body), content, WIRE_PAGE_BYTES, 1));
	memset(b->bytes[0], 0, WIRE_PAGE_BYTES);
	expect_same(b);
}

/* Two frames, or one and a skippable one, make the right number of bytes. */
static void more_than_one_zstd_frame_is_refused(void **state)
{
	static const uint8_t skippable[8] = { 0x50, 0x2a, 0x4d, 0x18 };
	static uint8_t content[WIRE_PAGE_BYTES];
	struct batch *b = *state;
	uint8_t body[512];
	size_t n;

	n = ZSTD_compress(body, 256, content, WIRE_PAGE_BYTES / 2, 1);
	memcpy(body + n, body, n);
	set_body(b, body, 2 * n);
	expect_refused(b);

	n = ZSTD_compress(body, 256, content, WIRE_PAGE_BYTES, 1);
	memcpy(body + n, skippable, sizeof(skippable));
	set_body(b, body, n + sizeof(skippable));
	expect_refused(b);

	memcpy(body, skippable, sizeof(skippable));
	n = ZSTD_compress(body + 8, 256, content, WIRE_PAGE_BYTES, 1);
	set_body(b, body, n + sizeof(skippable));
	expect_refused(b);
}

static void a_zstd_frame_without_its_size_is_refused(void **state)
{
	static uint8_t content[WIRE_PAGE_BYTES];
	ZSTD_CCtx *zstd = ZSTD_createCCtx();
	struct batch *b = *state;
	uint8_t body[512];

	ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, 0);
	set_body(b, body,
		 ZSTD_compress2(zstd, body, sizeof(body), content,
				sizeof(content)));
	expect_refused(b);
	ZSTD_freeCCtx(zstd);
}

static void a_zstd_frame_for_no_pages_is_refused(void **state)
{
	struct batch *b = *state;

	encode(b, 1, "z", LEVEL);
	b->payload[4] = WIRE_ENCODING_ZSTD;
	expect_refused(b);
	b->length += ZSTD_compress(b->payload + b->length, 64, "", 0, 1);
	expect_refused(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_mix_comes_back),
		cmocka_unit_test(zero_pages_take_an_entry_only),
		cmocka_unit_test(one_byte_anywhere_makes_a_page_data),
		cmocka_unit_test(compressible_pages_become_smaller),
		cmocka_unit_test(level_0_does_not_compress),
		cmocka_unit_test(noise_goes_raw),
		cmocka_unit_test(contexts_can_be_used_again),
		cmocka_unit_test(scattered_pages_come_back),
		cmocka_unit_test(a_refusal_of_the_receiver_is_returned),
		cmocka_unit_test(truncation_at_every_byte_is_refused),
		cmocka_unit_test(anything_behind_the_bodies_is_refused),
		cmocka_unit_test(no_corrupted_byte_does_harm),
		cmocka_unit_test(counts_are_bounded),
		cmocka_unit_test(unknown_encodings_are_refused),
		cmocka_unit_test(reserved_bits_and_kinds_are_refused),
		cmocka_unit_test(gfns_end_at_max_gfn),
		cmocka_unit_test(the_largest_gfn_comes_back),
		cmocka_unit_test(zstd_frames_of_another_size_are_refused),
		cmocka_unit_test(more_than_one_zstd_frame_is_refused),
		cmocka_unit_test(a_zstd_frame_without_its_size_is_refused),
		cmocka_unit_test(a_zstd_frame_for_no_pages_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
