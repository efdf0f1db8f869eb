/* SPDX-License-Identifier: Apache-2.0 */
/* stream/pages.c: what no encoder makes is refused before anything is done. */
#include "config.h"

#include "stream/pages.h"

#include <zstd.h>

#include "base/cursor.h"
#include "stream/delta.h"
#include "tests/unit/pages-fixture.h"

/* A payload of these entries and bodies, however they fit together. */
static void build(struct batch *b, const uint64_t *entries, unsigned int count,
		  const void *bodies, size_t length)
{
	struct cursor c = cursor_over(b->payload, WIRE_PAYLOAD_MAX);

	cursor_put_u32(&c, count);
	cursor_put_u32(&c, WIRE_ENCODING_RAW);
	for (unsigned int i = 0; i < count; i++)
		cursor_put_u64(&c, entries[i]);
	cursor_put_bytes(&c, bodies, length);
	assert_false(c.bad);
	b->count = count;
	b->length = (size_t)(c.at - b->payload);
}

/* The same in a zstd frame. */
static void build_zstd(struct batch *b, const uint64_t *entries,
		       unsigned int count, const void *bodies, size_t length)
{
	size_t room = WIRE_PAYLOAD_MAX - HEADER - ENTRY * count, n;

	build(b, entries, count, NULL, 0);
	n = ZSTD_compress(b->payload + b->length, room, bodies, length, 1);
	assert_false(ZSTD_isError(n));
	b->payload[4] = WIRE_ENCODING_ZSTD;
	b->length += n;
}

static void expect_accepted(const struct batch *b)
{
	struct expectation x = { b, 0, false, MAX_GFN, -1 };

	assert_int_equal(decode(b, b->length, &x), b->count);
}

/* A delta of just so many lines and words, made by hand; its length. */
static size_t put_delta(uint8_t *out, unsigned int lines, unsigned int words)
{
	uint64_t mask = lines < 64 ? (UINT64_C(1) << lines) - 1 : UINT64_MAX;
	unsigned int left = words - lines;

	mask = htole64(mask);
	memcpy(out, &mask, 8);
	for (unsigned int i = 0; i < lines; i++) {
		unsigned int more = left < 7 ? left : 7;

		out[8 + i] = (uint8_t)((2U << more) - 1);
		left -= more;
	}
	assert_int_equal(left, 0);
	fill_noise(out + 8 + lines, words * 8, 1);
	return 8 + lines + words * 8;
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

		encode(b, WHOLE_PAGES, "n", LEVEL);
		memcpy(b->payload, &le, 4);
		expect_refused(b);
	}
	/* Well-formed but for the count: none, and one too many. */
	memset(b->payload, 0, HEADER);
	b->length = HEADER;
	expect_refused(b);
	memset(b->payload, 0, HEADER + 8 * (WIRE_BATCH_PAGES + 1));
	b->payload[0] = (WIRE_BATCH_PAGES + 1) & 0xff;
	b->payload[1] = (WIRE_BATCH_PAGES + 1) >> 8;
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

static void reserved_bits_and_unknown_kinds_are_refused(void **state)
{
	static uint8_t bodies[WIRE_PAGE_BYTES];
	struct batch *b = *state;

	/* Each of the known kinds is fine but for the bit. */
	for (unsigned int kind = 0; kind < 256; kind++) {
		uint64_t entry = (uint64_t)kind << 56 | 5;
		size_t n = kind == WIRE_PAGE_DATA    ? WIRE_PAGE_BYTES
			   : kind == WIRE_PAGE_DELTA ? put_delta(bodies, 1, 1)
						     : 0;

		build(b, &entry, 1, bodies, n);
		if (kind > WIRE_PAGE_DELTA) {
			expect_refused(b);
			continue;
		}
		expect_accepted(b);
		for (int bit = 32; bit < 56; bit++) {
			poke64(b, HEADER, entry | UINT64_C(1) << bit);
			expect_refused(b);
		}
	}
}

static void gfns_end_at_max_gfn(void **state)
{
	struct batch *b = *state;

	encode(b, 2, "z", LEVEL);
	poke64(b, HEADER + ENTRY, entry_of(WIRE_PAGE_ZERO, MAX_GFN));
	b->gfns[1] = MAX_GFN;
	expect_same(b);
	poke64(b, HEADER + ENTRY, entry_of(WIRE_PAGE_ZERO, MAX_GFN + 1));
	expect_refused(b);
	poke64(b, HEADER + ENTRY, entry_of(WIRE_PAGE_ZERO, UINT32_MAX));
	expect_refused(b);
}

static void the_largest_gfn_comes_back(void **state)
{
	struct batch *b = *state;
	struct expectation x = { b, 0, true, WIRE_GFN_MAX, -1 };

	encode(b, 1, "z", LEVEL);
	b->gfns[0] = WIRE_GFN_MAX;
	poke64(b, HEADER, entry_of(WIRE_PAGE_ZERO, WIRE_GFN_MAX));
	assert_int_equal(decode(b, b->length, &x), 1);
}

/* Replaces the body of a one-page payload by `len` bytes. */
static void set_body(struct batch *b, const void *body, size_t len)
{
	encode(b, 1, "n", 0);
	b->payload[4] = WIRE_ENCODING_ZSTD;
	memcpy(b->payload + HEADER + ENTRY, body, len);
	b->length = HEADER + ENTRY + len;
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

/* --- deltas ------------------------------------------------------------- */

static const uint64_t one_delta[] = { UINT64_C(2) << 56 | 5 };

static void a_delta_that_is_cut_short_is_refused(void **state)
{
	static uint8_t delta[DELTA_MAX];
	struct batch *b = *state;
	const unsigned int words[] = { 3, 20, 130 };

	for (int w = 0; w < 3; w++) {
		size_t n = put_delta(delta, 3 * (w + 1) * (w + 1), words[w]);

		for (size_t cut = 0; cut < n; cut++) {
			build(b, one_delta, 1, delta, cut);
			expect_refused(b);
		}
		build(b, one_delta, 1, delta, n);
		expect_accepted(b);
		for (size_t cut = 1; cut < n; cut += 7) {
			build_zstd(b, one_delta, 1, delta, cut);
			expect_refused(b);
		}
		build_zstd(b, one_delta, 1, delta, n);
		expect_accepted(b);
	}
}

static void a_delta_with_something_behind_it_is_refused(void **state)
{
	static uint8_t delta[2 * DELTA_MAX];
	const uint64_t behind[] = { 1, 8, 17, WIRE_PAGE_BYTES };
	struct batch *b = *state;
	size_t n = put_delta(delta, 5, 30);

	for (int i = 0; i < 4; i++) {
		build(b, one_delta, 1, delta, n + behind[i]);
		expect_refused(b);
		build_zstd(b, one_delta, 1, delta, n + behind[i]);
		expect_refused(b);
	}
}

static void a_delta_of_nothing_is_refused(void **state)
{
	static uint8_t delta[DELTA_MAX];
	struct batch *b = *state;

	/* No line, alone and with words that would be left over. */
	build(b, one_delta, 1, delta, 8);
	expect_refused(b);
	build(b, one_delta, 1, delta, 100);
	expect_refused(b);
	/* A line without a word: the first, the last, all of them. */
	for (unsigned int i = 0; i < 5; i++) {
		size_t n = put_delta(delta, 5, 5);

		delta[8 + i] = 0;
		build(b, one_delta, 1, delta, n);
		expect_refused(b);
		build(b, one_delta, 1, delta, n - 8);
		expect_refused(b);
	}
	put_delta(delta, 5, 5);
	memset(delta + 8, 0, 5);
	build(b, one_delta, 1, delta, 13);
	expect_refused(b);
}

static void a_delta_as_long_as_its_page_is_refused(void **state)
{
	const struct {
		unsigned int lines, words;
		size_t length;
		bool good;
	} cases[] = {
		{ 64, 502, 4088, true },       { 63, 503, 4095, true },
		{ 64, 503, 4096, false },      { 63, 504, 4103, false },
		{ 64, 512, DELTA_MAX, false },
	};
	static uint8_t delta[DELTA_MAX];
	struct batch *b = *state;

	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		size_t n = put_delta(delta, cases[c].lines, cases[c].words);

		assert_int_equal(n, cases[c].length);
		for (int zstd = 0; zstd < 2; zstd++) {
			(zstd ? build_zstd : build)(b, one_delta, 1, delta, n);
			(cases[c].good ? expect_accepted : expect_refused)(b);
		}
	}
}

/* One that is malformed spoils them all, wherever it stands. */
static void every_delta_is_checked_before_any_is_handed_out(void **state)
{
	enum { DELTAS = 20 };
	static uint8_t bodies[DELTAS * 64 + WIRE_PAGE_BYTES];
	uint64_t entries[DELTAS + 1];
	struct batch *b = *state;

	for (unsigned int bad = 0; bad <= DELTAS; bad++) {
		size_t n = 0;

		entries[DELTAS] = entry_of(WIRE_PAGE_DATA, 100);
		for (unsigned int i = 0; i < DELTAS; i++) {
			size_t at = n;

			entries[i] = entry_of(WIRE_PAGE_DELTA, i);
			n += put_delta(bodies + at, 2, 3);
			if (i == bad)
				bodies[at + 9] = 0;
		}
		build(b, entries, DELTAS + 1, bodies, n + WIRE_PAGE_BYTES);
		(bad < DELTAS ? expect_refused : expect_accepted)(b);
	}
}

static void bodies_have_to_be_as_many_as_entries(void **state)
{
	static uint8_t bodies[WIRE_PAYLOAD_MAX];
	const uint64_t entries[] = { entry_of(WIRE_PAGE_DATA, 1),
				     entry_of(WIRE_PAGE_DELTA, 2),
				     entry_of(WIRE_PAGE_ZERO, 3),
				     entry_of(WIRE_PAGE_DELTA, 4) };
	struct batch *b = *state;

	for (unsigned int deltas = 0; deltas < 4; deltas++)
		for (unsigned int pages = 0; pages < 3; pages++) {
			size_t n = 0;

			for (unsigned int i = 0; i < deltas; i++)
				n += put_delta(bodies + n, 1, 1);
			memset(bodies + n, 0xff, pages * WIRE_PAGE_BYTES);
			n += pages * WIRE_PAGE_BYTES;
			build(b, entries, 4, bodies, n);
			if (deltas == 2 && pages == 1)
				expect_accepted(b);
			else
				expect_refused(b);
		}
}

static void whole_pages_do_not_come_before_deltas(void **state)
{
	static uint8_t bodies[2 * WIRE_PAGE_BYTES];
	const uint64_t entries[] = { entry_of(WIRE_PAGE_DATA, 1),
				     entry_of(WIRE_PAGE_DELTA, 2) };
	struct batch *b = *state;
	size_t n = put_delta(bodies + WIRE_PAGE_BYTES, 1, 1);

	build(b, entries, 2, bodies, WIRE_PAGE_BYTES + n);
	expect_refused(b);
}

static void no_corrupted_byte_of_a_delta_does_harm(void **state)
{
	static uint8_t bodies[WIRE_PAGE_BYTES];
	const uint64_t entries[] = { entry_of(WIRE_PAGE_DELTA, 1),
				     entry_of(WIRE_PAGE_ZERO, 2),
				     entry_of(WIRE_PAGE_DELTA, 3) };
	struct batch *b = *state;
	size_t n = put_delta(bodies, 60, 70);

	n += put_delta(bodies + n, 9, 40);
	for (int zstd = 0; zstd < 2; zstd++) {
		(zstd ? build_zstd : build)(b, entries, 3, bodies, n);
		expect_accepted(b);
		for (size_t at = 0; at < b->length; at++)
			for (int flip = 1; flip < 256; flip += 2) {
				struct expectation x = { b, 0, false, MAX_GFN,
							 -1 };
				int err;

				b->payload[at] ^= (uint8_t)flip;
				err = decode(b, b->length, &x);
				assert_true(err == -EPROTO || err == 3);
				b->payload[at] ^= (uint8_t)flip;
			}
	}
}

/* As large as a payload may be, and a page more. */
static void a_zstd_frame_of_more_than_fits_is_refused(void **state)
{
	enum { FIT = WIRE_PAYLOAD_MAX / WIRE_PAGE_BYTES };
	static uint8_t bodies[WIRE_PAYLOAD_MAX + WIRE_PAGE_BYTES];
	uint64_t entries[FIT + 1];
	struct batch *b = *state;

	for (unsigned int i = 0; i <= FIT; i++)
		entries[i] = entry_of(WIRE_PAGE_DATA, i);
	build_zstd(b, entries, FIT, bodies, WIRE_PAYLOAD_MAX);
	expect_accepted(b);
	build_zstd(b, entries, FIT + 1, bodies, sizeof(bodies));
	expect_refused(b);
	build_zstd(b, entries, FIT, bodies, WIRE_PAYLOAD_MAX + 1);
	expect_refused(b);
}

/* The size that a frame says of itself is changed, its content is not. */
static void a_zstd_frame_that_lies_is_refused(void **state)
{
	static const uint64_t sizes[] = { 0,
					  1,
					  WIRE_PAGE_BYTES - 1,
					  WIRE_PAGE_BYTES + 1,
					  WIRE_PAYLOAD_MAX,
					  WIRE_PAYLOAD_MAX + 1,
					  UINT32_MAX,
					  UINT64_C(1) << 62,
					  UINT64_MAX - 2 };
	/* Magic, a window of 1 MiB, 8 bytes of size, one block of a byte
	 * repeated. */
	uint8_t frame[] = {
		0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0x50, 0,	  0x10, 0,
		0,    0,    0,	  0,	0,    0x03, 0x80, 0,	0x77
	};
	const uint64_t entry = entry_of(WIRE_PAGE_DATA, 1);
	struct batch *b = *state;

	build(b, &entry, 1, frame, sizeof(frame));
	b->payload[4] = WIRE_ENCODING_ZSTD;
	memset(b->bytes[0], 0x77, WIRE_PAGE_BYTES);
	b->gfns[0] = 1;
	expect_same(b);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		poke64(b, HEADER + ENTRY + 6, sizes[i]);
		expect_refused(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(truncation_at_every_byte_is_refused),
		cmocka_unit_test(anything_behind_the_bodies_is_refused),
		cmocka_unit_test(no_corrupted_byte_does_harm),
		cmocka_unit_test(counts_are_bounded),
		cmocka_unit_test(unknown_encodings_are_refused),
		cmocka_unit_test(reserved_bits_and_unknown_kinds_are_refused),
		cmocka_unit_test(gfns_end_at_max_gfn),
		cmocka_unit_test(the_largest_gfn_comes_back),
		cmocka_unit_test(zstd_frames_of_another_size_are_refused),
		cmocka_unit_test(more_than_one_zstd_frame_is_refused),
		cmocka_unit_test(a_zstd_frame_without_its_size_is_refused),
		cmocka_unit_test(a_zstd_frame_for_no_pages_is_refused),
		cmocka_unit_test(a_delta_that_is_cut_short_is_refused),
		cmocka_unit_test(a_delta_with_something_behind_it_is_refused),
		cmocka_unit_test(a_delta_of_nothing_is_refused),
		cmocka_unit_test(a_delta_as_long_as_its_page_is_refused),
		cmocka_unit_test(
			every_delta_is_checked_before_any_is_handed_out),
		cmocka_unit_test(bodies_have_to_be_as_many_as_entries),
		cmocka_unit_test(whole_pages_do_not_come_before_deltas),
		cmocka_unit_test(no_corrupted_byte_of_a_delta_does_harm),
		cmocka_unit_test(a_zstd_frame_of_more_than_fits_is_refused),
		cmocka_unit_test(a_zstd_frame_that_lies_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
