/* SPDX-License-Identifier: Apache-2.0 */
/* stream/delta.c: every way makes the same, and that makes the page again. */
#include "config.h"

#include "stream/delta.h"

#include <endian.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/unit/live-fixture.h"

enum { WORDS = WIRE_PAGE_BYTES / 8, LINE_WORDS = DELTA_LINE_BYTES / 8 };

/* Bytes with pages behind and before them that nobody may touch. */
struct fenced {
	uint8_t *map;
	size_t map_bytes;
	uint8_t *room; /* accessible */
	size_t room_bytes;
	size_t size;
};

static struct fenced fenced_new(size_t size)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct fenced f = { .size = size };

	/* At any offset within a line. */
	f.room_bytes = (size + DELTA_LINE_BYTES + page - 1) / page * page;
	f.map_bytes = f.room_bytes + 2 * page;
	f.map = mmap(NULL, f.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	assert_ptr_not_equal(f.map, MAP_FAILED);
	f.room = f.map + page;
	assert_int_equal(mprotect(f.room, f.room_bytes, PROT_READ | PROT_WRITE),
			 0);
	return f;
}

/* The last place for `size` bytes, or `before` the last; 0xa5 all around. */
static uint8_t *fenced_place(struct fenced *f, size_t before)
{
	memset(f->room, 0xa5, f->room_bytes);
	return f->room + f->room_bytes - f->size - before;
}

static void expect_untouched(const struct fenced *f, const uint8_t *place)
{
	const uint8_t *end = f->room + f->room_bytes;
	size_t touched = 0;

	for (const uint8_t *at = f->room; at < end; at++)
		touched += (at < place || at >= place + f->size) && *at != 0xa5;
	assert_int_equal(touched, 0);
}

static struct fenced base_room, now_room, out_room;

static int setup(void **state)
{
	(void)state;
	base_room = fenced_new(WIRE_PAGE_BYTES);
	now_room = fenced_new(WIRE_PAGE_BYTES);
	out_room = fenced_new(DELTA_ROOM);
	for (int way = 0; way < DELTA_WAYS; way++)
		print_message("%s: %s\n", delta_way_name((enum delta_way)way),
			      delta_way((enum delta_way)way) ? "tried"
							     : "not here");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	munmap(base_room.map, base_room.map_bytes);
	munmap(now_room.map, now_room.map_bytes);
	munmap(out_room.map, out_room.map_bytes);
	return 0;
}

/* As delta.h has it, word by word. */
static size_t by_the_book(const uint8_t *base, const uint8_t *now, uint8_t *out)
{
	uint8_t masks[DELTA_LINES] = { 0 };
	uint64_t lines = 0;
	size_t at = 8;

	for (unsigned int i = 0; i < WORDS; i++)
		if (memcmp(base + i * 8, now + i * 8, 8)) {
			lines |= UINT64_C(1) << i / LINE_WORDS;
			masks[i / LINE_WORDS] |= (uint8_t)(1 << i % LINE_WORDS);
		}
	if (!lines)
		return 0;
	for (unsigned int i = 0; i < 8; i++)
		out[i] = (uint8_t)(lines >> 8 * i);
	for (unsigned int i = 0; i < DELTA_LINES; i++)
		if (masks[i])
			out[at++] = masks[i];
	for (unsigned int i = 0; i < WORDS; i++)
		if (masks[i / LINE_WORDS] >> i % LINE_WORDS & 1) {
			memcpy(out + at, now + i * 8, 8);
			at += 8;
		}
	return at;
}

/* One way, each page and the delta at an offset of its own from the fence. */
static void expect_way(delta_make_fn *make, const uint8_t *was,
		       const uint8_t *is, const size_t before[3])
{
	uint8_t *base = fenced_place(&base_room, before[0]);
	uint8_t *now = fenced_place(&now_room, before[1]);
	uint8_t *out = fenced_place(&out_room, before[2]);
	uint8_t expected[DELTA_MAX];
	size_t n = by_the_book(was, is, expected);

	memcpy(base, was, WIRE_PAGE_BYTES);
	memcpy(now, is, WIRE_PAGE_BYTES);
	assert_int_equal(make(base, now, out), n);
	assert_memory_equal(out, expected, n);
	assert_memory_equal(base, is, WIRE_PAGE_BYTES);
	assert_memory_equal(now, is, WIRE_PAGE_BYTES);
	expect_untouched(&base_room, base);
	expect_untouched(&now_room, now);
	expect_untouched(&out_room, out);
}

/* Every way, and that it leads back; nothing is read behind the delta. */
static void expect_all(const uint8_t *was, const uint8_t *is,
		       const size_t before[3])
{
	uint8_t expected[DELTA_MAX];
	size_t n = by_the_book(was, is, expected);
	uint8_t *page = fenced_place(&base_room, before[0]);
	struct fenced delta = out_room;
	uint8_t *bytes;

	delta.size = n;
	bytes = fenced_place(&delta, 0);
	memcpy(bytes, expected, n);
	memcpy(page, was, WIRE_PAGE_BYTES);
	assert_int_equal(delta_length(bytes, n), n);
	if (n)
		delta_apply(page, bytes);
	assert_memory_equal(page, is, WIRE_PAGE_BYTES);
	expect_untouched(&base_room, page);

	for (int way = 0; way < DELTA_WAYS; way++)
		if (delta_way((enum delta_way)way))
			expect_way(delta_way((enum delta_way)way), was, is,
				   before);
	expect_way(delta_make, was, is, before);
}

static const size_t at_the_fence[3];

static void any_number_of_words(void **state)
{
	const unsigned int counts[] = { 0, 1, 2, 3, 8, 64, 200, 511, 512 };
	uint8_t was[WIRE_PAGE_BYTES], is[WIRE_PAGE_BYTES];
	uint64_t x = 1;

	(void)state;
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
		for (uint64_t seed = 1; seed <= 50; seed++) {
			fill_noise(was, sizeof(was), seed);
			memcpy(is, was, sizeof(is));
			change_words(is, counts[c], &x);
			expect_all(was, is, at_the_fence);
		}
}

static void each_word_alone(void **state)
{
	uint8_t was[WIRE_PAGE_BYTES], is[WIRE_PAGE_BYTES];

	(void)state;
	fill_noise(was, sizeof(was), 1);
	memcpy(is, was, sizeof(is));
	for (unsigned int i = 0; i < WIRE_PAGE_BYTES; i += i % 8 ? 1 : 7) {
		is[i] ^= 0x80; /* of each word the first byte and the last */
		expect_all(was, is, at_the_fence);
		is[i] ^= 0x80;
	}
}

/* Each set of words of a line, in the first, the last and another one. */
static void each_mask(void **state)
{
	const unsigned int lines[] = { 0, 1, 31, 62, 63 };
	uint8_t was[WIRE_PAGE_BYTES], is[WIRE_PAGE_BYTES];

	(void)state;
	fill_noise(was, sizeof(was), 2);
	for (size_t l = 0; l < sizeof(lines) / sizeof(lines[0]); l++)
		for (unsigned int mask = 1; mask < 256; mask++) {
			memcpy(is, was, sizeof(is));
			for (unsigned int j = 0; j < LINE_WORDS; j++)
				if (mask >> j & 1)
					is[lines[l] * DELTA_LINE_BYTES +
					   j * 8]++;
			expect_all(was, is, at_the_fence);
		}
}

static void whole_lines(void **state)
{
	const uint64_t sets[] = {
		UINT64_C(1),
		UINT64_C(1) << 63,
		UINT64_C(1) << 63 | 1,
		UINT64_C(0x5555555555555555),
		UINT64_C(0xaaaaaaaaaaaaaaaa),
		UINT64_C(0x00ffffff00000000),
		UINT64_C(0x7fffffffffffffff),
		UINT64_MAX,
	};
	uint8_t was[WIRE_PAGE_BYTES], is[WIRE_PAGE_BYTES];

	(void)state;
	fill_noise(was, sizeof(was), 3);
	for (size_t s = 0; s < sizeof(sets) / sizeof(sets[0]); s++)
		for (int more = 0; more < 2; more++) {
			memcpy(is, was, sizeof(is));
			for (unsigned int i = 0; i < WORDS; i++)
				if (sets[s] >> i / LINE_WORDS & 1)
					is[i * 8 + i % 8] ^= 0xff;
			/* And a single word of a line that may be whole. */
			is[33 * DELTA_LINE_BYTES + 16] ^= more ? 1 : 0;
			expect_all(was, is, at_the_fence);
		}
}

static void pages_of_zeroes_are_pages(void **state)
{
	uint8_t zeroes[WIRE_PAGE_BYTES] = { 0 }, is[WIRE_PAGE_BYTES];

	(void)state;
	expect_all(zeroes, zeroes, at_the_fence);
	fill_noise(is, sizeof(is), 4);
	expect_all(zeroes, is, at_the_fence);
	expect_all(is, zeroes, at_the_fence);
	memset(is, 0, sizeof(is));
	is[sizeof(is) - 1] = 1;
	expect_all(zeroes, is, at_the_fence);
}

static void nothing_needs_to_be_aligned(void **state)
{
	uint8_t was[WIRE_PAGE_BYTES], is[WIRE_PAGE_BYTES];
	uint64_t x = 5;

	(void)state;
	fill_noise(was, sizeof(was), 5);
	for (size_t i = 0; i < DELTA_LINE_BYTES; i++) {
		const size_t before[3] = { i, i * 7 % DELTA_LINE_BYTES,
					   i * 13 % DELTA_LINE_BYTES };

		memcpy(is, was, sizeof(is));
		change_words(is, 40, &x);
		expect_all(was, is, before);
		change_words(is, 480, &x);
		expect_all(was, is, before);
		fill_noise(is, sizeof(is), 100 + i);
		expect_all(was, is, before);
	}
}

/* The first and the last word of a page of zeroes, byte by byte. */
static void the_format_does_not_change(void **state)
{
	static const uint8_t expected[] = {
		1,    0,    0, 0, 0, 0, 0, 0x80, /* lines */
		0x01, 0x80,			 /* words */
		1,    2,    3, 4, 5, 6, 7, 8,	 9, 10, 11, 12, 13, 14, 15, 16,
	};
	uint8_t base[WIRE_PAGE_BYTES] = { 0 }, now[WIRE_PAGE_BYTES] = { 0 };
	uint8_t out[DELTA_ROOM];

	(void)state;
	for (uint8_t i = 0; i < 8; i++) {
		now[i] = (uint8_t)(1 + i);
		now[WIRE_PAGE_BYTES - 8 + i] = (uint8_t)(9 + i);
	}
	assert_int_equal(delta_make(base, now, out), sizeof(expected));
	assert_memory_equal(out, expected, sizeof(expected));
}

/* Of memory of exactly that size, so that a sanitizer sees what is read. */
static size_t length_of(const uint8_t *bytes, size_t n)
{
	AUTO_FREE uint8_t *copy = malloc(n ? n : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, n);
	return delta_length(copy, n);
}

static void its_length_is_found_in_it(void **state)
{
	const unsigned int counts[] = { 1, 2, 8, 64, 511, 512 };
	uint8_t was[WIRE_PAGE_BYTES], is[WIRE_PAGE_BYTES];
	uint8_t delta[DELTA_ROOM + 100];
	uint64_t x = 6;

	(void)state;
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		size_t n;

		fill_noise(was, sizeof(was), c + 1);
		memcpy(is, was, sizeof(is));
		change_words(is, counts[c], &x);
		n = delta_make(was, is, delta);
		memset(delta + n, 0xff, sizeof(delta) - n);
		assert_int_equal(length_of(delta, n), n);
		for (size_t more = 1; more <= 100; more += 9)
			assert_int_equal(length_of(delta, n + more), n);
		for (size_t cut = 0; cut < n; cut++)
			assert_int_equal(length_of(delta, cut), 0);
	}
}

static void empty_masks_make_no_delta(void **state)
{
	uint8_t was[WIRE_PAGE_BYTES], is[WIRE_PAGE_BYTES];
	uint8_t delta[DELTA_ROOM], bad[DELTA_ROOM];
	uint64_t x = 7;
	unsigned int lines;
	size_t n;

	(void)state;
	fill_noise(was, sizeof(was), 7);
	memcpy(is, was, sizeof(is));
	change_words(is, 100, &x);
	memset(delta, 0, sizeof(delta));
	n = delta_make(was, is, delta);
	assert_int_equal(length_of(delta, n), n);

	memcpy(bad, delta, sizeof(bad));
	memset(bad, 0, 8);
	assert_int_equal(length_of(bad, n), 0);
	assert_int_equal(length_of(bad, sizeof(bad)), 0);
	lines = (unsigned int)(n - 100 * 8 - 8);
	for (unsigned int i = 0; i < lines; i++) {
		memcpy(bad, delta, sizeof(bad));
		bad[8 + i] = 0;
		assert_int_equal(length_of(bad, n), 0);
		assert_int_equal(length_of(bad, sizeof(bad)), 0);
	}
	memset(bad, 0, sizeof(bad));
	assert_int_equal(length_of(bad, sizeof(bad)), 0);
}

static void the_longest_is_as_long_as_was_said(void **state)
{
	uint8_t was[WIRE_PAGE_BYTES] = { 0 }, is[WIRE_PAGE_BYTES];
	uint8_t delta[DELTA_ROOM];

	(void)state;
	memset(is, 1, sizeof(is));
	assert_int_equal(delta_make(was, is, delta), DELTA_MAX);
	assert_int_equal(delta_length(delta, DELTA_MAX), DELTA_MAX);
}

/* What was not changed since stays as the other side has it. */
static void only_what_it_names_is_written(void **state)
{
	uint8_t was[WIRE_PAGE_BYTES] = { 0 }, is[WIRE_PAGE_BYTES] = { 0 };
	uint8_t page[WIRE_PAGE_BYTES];
	uint8_t delta[DELTA_ROOM];

	(void)state;
	is[0] = is[8 * 100] = is[WIRE_PAGE_BYTES - 1] = 0x11;
	assert_true(delta_make(was, is, delta));
	memset(page, 0xee, sizeof(page));
	delta_apply(page, delta);
	for (unsigned int i = 0; i < WORDS; i++) {
		bool named = i == 0 || i == 100 || i == WORDS - 1;

		for (unsigned int j = 0; j < 8; j++)
			assert_int_equal(page[i * 8 + j],
					 named ? is[i * 8 + j] : 0xee);
	}
}

/* What came of it is what it says, whatever `now` was meanwhile. */
static void expect_base_as_told(delta_make_fn *make, const uint8_t *now)
{
	uint8_t far[WIRE_PAGE_BYTES] = { 0 }, base[WIRE_PAGE_BYTES] = { 0 };
	uint8_t delta[DELTA_ROOM];
	unsigned int changes = 0;

	for (int i = 0; i < 20000 || (!changes && i < 100000000); i++) {
		size_t n = make(base, now, delta);

		if (n)
			delta_apply(far, delta);
		if (memcmp(far, base, sizeof(far)))
			fail_msg("delta %d says something else", i);
		changes += n && n < WIRE_PAGE_BYTES;
	}
	assert_true(changes);
}

static void a_page_may_be_written_to_meanwhile(void **state)
{
	struct live l;

	(void)state;
	live_start(&l, 1);
	for (int way = 0; way < DELTA_WAYS; way++)
		if (delta_way((enum delta_way)way))
			expect_base_as_told(delta_way((enum delta_way)way),
					    l.at);
	live_stop(&l);
	live_free(&l);
}

static void the_portable_way_is_always_there(void **state)
{
	(void)state;
	assert_non_null(delta_way(DELTA_PORTABLE));
	assert_null(delta_way(DELTA_WAYS));
	for (int way = 0; way < DELTA_WAYS; way++)
		assert_non_null(delta_way_name((enum delta_way)way));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_number_of_words),
		cmocka_unit_test(each_word_alone),
		cmocka_unit_test(each_mask),
		cmocka_unit_test(whole_lines),
		cmocka_unit_test(pages_of_zeroes_are_pages),
		cmocka_unit_test(nothing_needs_to_be_aligned),
		cmocka_unit_test(the_format_does_not_change),
		cmocka_unit_test(its_length_is_found_in_it),
		cmocka_unit_test(empty_masks_make_no_delta),
		cmocka_unit_test(the_longest_is_as_long_as_was_said),
		cmocka_unit_test(only_what_it_names_is_written),
		cmocka_unit_test(a_page_may_be_written_to_meanwhile),
		cmocka_unit_test(the_portable_way_is_always_there),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
