/* SPDX-License-Identifier: Apache-2.0 */
/* What the unit tests of stream/ share: cmocka, sample bytes, frames. */
#ifndef TESTS_UNIT_STREAM_H
#define TESTS_UNIT_STREAM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stream/frame.h"

/* Deterministic noise (Marsaglia's xorshift64); zstd makes nothing of it. */
static inline void fill_noise(uint8_t *out, size_t len, uint64_t seed)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		out[i] = (uint8_t)(x >> 32);
	}
}

/* A page that zstd makes small, different for each seed. */
static inline void fill_text(uint8_t *page, uint64_t seed)
{
	static const char words[] = "the pages of an epoch, in order; ";

	for (size_t i = 0; i < WIRE_PAGE_BYTES; i++)
		page[i] = (uint8_t)words[i % (sizeof(words) - 1)];
	memcpy(page, &seed, sizeof(seed));
}

/* The next of a sequence that is the same each time; *x is not 0. */
static inline uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

/* Changes just so many words of a page, and each of them. */
static inline void change_words(uint8_t *page, unsigned int count, uint64_t *x)
{
	enum { WORDS = WIRE_PAGE_BYTES / 8 };

	for (unsigned int i = 0; i < WORDS; i++) {
		if (next_random(x) % (WORDS - i) >= count)
			continue;
		page[i * 8 + next_random(x) % 8] ^=
			(uint8_t)(1 + next_random(x) % 255);
		count--;
	}
}

/* What the receiver of `b` would see; the payload stays in `b`. */
static inline struct frame frame_of(struct frame_buf *b)
{
	return (struct frame){
		.type = b->type,
		.length = b->length,
		.epoch = b->epoch,
		.payload = frame_payload(b),
	};
}

/*
 * The payload of `b`, cut or grown to `length`, in memory of exactly that
 * size, so that a sanitizer sees every read behind it.  Caller frees.
 */
static inline uint8_t *payload_copy(struct frame_buf *b, size_t length)
{
	uint8_t *p = malloc(length ? length : 1);

	assert_non_null(p);
	memset(p, 0, length);
	memcpy(p, frame_payload(b), length < b->length ? length : b->length);
	return p;
}

#endif
