/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The twins of delta.c's way, for processors that compare a line in one or two
 * instructions.  Which of them this one can is asked at run time.
 */
#include "config.h"

#include "stream/delta_x86.h"

#ifdef __x86_64__

#include <immintrin.h>
#include <stdbool.h>

#include "stream/read_once.h"

#define AVX2 __attribute__((target("avx2,bmi,popcnt")))
#define AVX512 __attribute__((target("avx512f,bmi,popcnt")))

/* Both halves of a line. */
struct line {
	__m256i low, high;
};

AVX2 static inline struct line load(const uint8_t *at)
{
	const __m256i *from = (const __m256i *)at;
	struct line l = { _mm256_loadu_si256(from),
			  _mm256_loadu_si256(from + 1) };

	READ_ONCE("+x", l.low);
	READ_ONCE("+x", l.high);
	return l;
}

AVX2 static inline void store(uint8_t *at, struct line l)
{
	__m256i *to = (__m256i *)at;

	_mm256_storeu_si256(to, l.low);
	_mm256_storeu_si256(to + 1, l.high);
}

/* The mask of the words that differ. */
AVX2 static inline unsigned int compare(struct line was, struct line is)
{
	__m256i low = _mm256_cmpeq_epi64(was.low, is.low);
	__m256i high = _mm256_cmpeq_epi64(was.high, is.high);
	int same = _mm256_movemask_pd(_mm256_castsi256_pd(low)) |
		   _mm256_movemask_pd(_mm256_castsi256_pd(high)) << 4;

	return (unsigned int)same ^ 0xff;
}

AVX2 static size_t make_avx2(uint8_t *base, const uint8_t *now, uint8_t *out)
{
	uint8_t masks[DELTA_LINES], *words = out + 8 + DELTA_LINES;
	unsigned int mask, count = 0;
	uint64_t lines = 0;

	for (unsigned int i = 0; i < DELTA_LINES; i++) {
		uint8_t *at = base + i * DELTA_LINE_BYTES;
		struct line is = load(now + i * DELTA_LINE_BYTES);

		mask = compare(load(at), is);
		if (!mask)
			continue;
		store(at, is);
		lines |= UINT64_C(1) << i;
		masks[count++] = (uint8_t)mask;
		if (mask == 0xff) {
			store(words, is);
			words += DELTA_LINE_BYTES;
			continue;
		}
		for (; mask; mask &= mask - 1, words += 8)
			__builtin_memcpy(words, at + _tzcnt_u32(mask) * 8, 8);
	}
	return delta_close(out, lines, masks, count, words);
}

/* The words that differ are stored side by side, and what they fill up with is
 * written over by the next line. */
AVX512 static size_t make_avx512(uint8_t *base, const uint8_t *now,
				 uint8_t *out)
{
	uint8_t masks[DELTA_LINES], *words = out + 8 + DELTA_LINES;
	unsigned int count = 0;
	uint64_t lines = 0;

	for (unsigned int i = 0; i < DELTA_LINES; i++) {
		__m512i was = _mm512_loadu_si512(base + i * DELTA_LINE_BYTES);
		__m512i is = _mm512_loadu_si512(now + i * DELTA_LINE_BYTES);
		__mmask8 mask;

		READ_ONCE("+v", is);
		mask = _mm512_cmpneq_epi64_mask(was, is);
		if (!mask)
			continue;
		_mm512_storeu_si512(base + i * DELTA_LINE_BYTES, is);
		_mm512_storeu_si512(words,
				    _mm512_maskz_compress_epi64(mask, is));
		words += 8 * (unsigned int)__builtin_popcount(mask);
		lines |= UINT64_C(1) << i;
		masks[count++] = mask;
	}
	return delta_close(out, lines, masks, count, words);
}

/* A virtual machine may have the wide registers and not these. */
static bool has_bits(void)
{
	return __builtin_cpu_supports("bmi") &&
	       __builtin_cpu_supports("popcnt");
}

delta_make_fn *delta_avx2(void)
{
	return __builtin_cpu_supports("avx2") && has_bits() ? make_avx2 : NULL;
}

delta_make_fn *delta_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && has_bits() ? make_avx512
							       : NULL;
}

#else

delta_make_fn *delta_avx2(void)
{
	return NULL;
}

delta_make_fn *delta_avx512(void)
{
	return NULL;
}

#endif
