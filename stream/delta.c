/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deltas of pages (see delta.h).
 *
 * Lines are compared as a whole, and only those that differ word by word; the
 * line's new content goes to the base on the way.  A line is read once, for it
 * may be written to meanwhile, and the base has to become what the delta says.
 * The words are written behind the place for all masks and moved up at the end:
 * how many masks there are is known only then.
 */
#include "config.h"

#include "stream/delta.h"

#include <endian.h>
#include <stdatomic.h>
#include <string.h>

#include "stream/delta_x86.h"
#include "stream/read_once.h"

enum { LINE_WORDS = DELTA_LINE_BYTES / 8 };

/* The mask of the words that differ; `now` is in native order, as memory is. */
static unsigned int compare(const uint64_t *was, const uint64_t *is)
{
	unsigned int mask = 0;

	for (unsigned int j = 0; j < LINE_WORDS; j++)
		mask |= (unsigned int)(was[j] != is[j]) << j;
	return mask;
}

static size_t make_portable(uint8_t *base, const uint8_t *now, uint8_t *out)
{
	uint8_t masks[DELTA_LINES], *words = out + 8 + DELTA_LINES;
	uint64_t was[LINE_WORDS], is[LINE_WORDS], lines = 0;
	unsigned int mask, count = 0;

	for (unsigned int i = 0; i < DELTA_LINES; i++) {
		memcpy(was, base + i * DELTA_LINE_BYTES, sizeof(was));
		memcpy(is, now + i * DELTA_LINE_BYTES, sizeof(is));
		READ_ONCE("+m", is);
		mask = compare(was, is);
		if (!mask)
			continue;
		memcpy(base + i * DELTA_LINE_BYTES, is, sizeof(is));
		lines |= UINT64_C(1) << i;
		masks[count++] = (uint8_t)mask;
		for (; mask; mask &= mask - 1) {
			memcpy(words, &is[__builtin_ctz(mask)], 8);
			words += 8;
		}
	}
	return delta_close(out, lines, masks, count, words);
}

size_t delta_close(uint8_t *out, uint64_t lines, const uint8_t *masks,
		   unsigned int count, const uint8_t *words_end)
{
	const uint8_t *words = out + 8 + DELTA_LINES;
	size_t bytes = (size_t)(words_end - words);

	if (!lines)
		return 0;
	lines = htole64(lines);
	memcpy(out, &lines, 8);
	memcpy(out + 8, masks, count);
	if (count < DELTA_LINES)
		memmove(out + 8 + count, words, bytes);
	return 8 + count + bytes;
}

static uint64_t get_lines(const uint8_t *delta)
{
	uint64_t lines;

	memcpy(&lines, delta, 8);
	return le64toh(lines);
}

size_t delta_length(const uint8_t *bytes, size_t length)
{
	size_t count, words = 0;
	uint64_t lines;

	if (length < 8)
		return 0;
	lines = get_lines(bytes);
	count = (size_t)__builtin_popcountll(lines);
	if (!count || length < 8 + count)
		return 0;
	for (size_t i = 0; i < count; i++) {
		if (!bytes[8 + i])
			return 0;
		words += (size_t)__builtin_popcount(bytes[8 + i]);
	}
	if ((length - 8 - count) / 8 < words)
		return 0;
	return 8 + count + words * 8;
}

void delta_apply(uint8_t *page, const uint8_t *delta)
{
	uint64_t lines = get_lines(delta);
	const uint8_t *mask = delta + 8;
	const uint8_t *word = mask + __builtin_popcountll(lines);

	for (; lines; lines &= lines - 1, mask++) {
		uint8_t *line = page + (size_t)__builtin_ctzll(lines) *
					       DELTA_LINE_BYTES;

		for (unsigned int m = *mask; m; m &= m - 1, word += 8)
			memcpy(line + (size_t)__builtin_ctz(m) * 8, word, 8);
	}
}

delta_make_fn *delta_way(enum delta_way way)
{
	switch (way) {
	case DELTA_PORTABLE:
		return make_portable;
	case DELTA_AVX2:
		return delta_avx2();
	case DELTA_AVX512:
		return delta_avx512();
	default:
		return NULL;
	}
}

const char *delta_way_name(enum delta_way way)
{
	static const char *const names[] = { "portable", "AVX2", "AVX-512" };

	return names[way];
}

size_t delta_make(uint8_t *base, const uint8_t *now, uint8_t *out)
{
	/* Whoever comes second finds the same. */
	static _Atomic(delta_make_fn *) best;
	delta_make_fn *make = atomic_load_explicit(&best, memory_order_relaxed);

	for (int way = DELTA_WAYS - 1; !make; way--)
		make = delta_way((enum delta_way)way);
	atomic_store_explicit(&best, make, memory_order_relaxed);
	return make(base, now, out);
}
