/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages to encode, the payload made of them, and a decoder that is given no
 * byte more than it should read.
 */
#ifndef TESTS_UNIT_PAGES_FIXTURE_H
#define TESTS_UNIT_PAGES_FIXTURE_H

#include <endian.h>
#include <errno.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "stream/pages.h"
#include "tests/unit/unit-stream.h"

enum {
	LEVEL = 1,
	MAX_GFN = 0xfefff,
	HEADER = 8,
	ENTRY = 8,
	FENCE = 64,
	/* As many whole pages fit one payload raw. */
	WHOLE_PAGES = (WIRE_PAYLOAD_MAX - HEADER) / (ENTRY + WIRE_PAGE_BYTES),
};

struct batch {
	unsigned int count;
	uint64_t gfns[WIRE_BATCH_PAGES];
	uint8_t bytes[WIRE_BATCH_PAGES][WIRE_PAGE_BYTES];
	const uint8_t *pages[WIRE_BATCH_PAGES];
	size_t length;
	uint8_t payload[WIRE_PAYLOAD_MAX + FENCE];
};

static struct page_decoder *decoder;

static inline int setup(void **state)
{
	decoder = page_decoder_new();
	*state = calloc(1, sizeof(struct batch));
	return decoder && *state ? 0 : -1;
}

static inline int teardown(void **state)
{
	page_decoder_free(decoder);
	free(*state);
	return 0;
}

/* As page_encode(), into a payload with a fence behind it. */
static inline size_t encode_some(struct page_encoder *e, struct page_run *run,
				 struct shadow *shadow, bool compress,
				 uint8_t *payload, unsigned int *entries)
{
	size_t length;

	memset(payload, 0xa5, WIRE_PAYLOAD_MAX + FENCE);
	length = page_encode(e, run, shadow, compress, payload, entries);
	assert_true(length <= WIRE_PAYLOAD_MAX);
	assert_true(*entries <= WIRE_BATCH_PAGES);
	assert_int_equal(!length, !*entries);
	for (size_t i = 0; i < FENCE; i++)
		assert_int_equal(payload[WIRE_PAYLOAD_MAX + i], 0xa5);
	return length;
}

/* `pattern`: z(ero), t(ext), n(oise), repeated up to `count`. */
static inline void fill(struct batch *b, unsigned int count,
			const char *pattern)
{
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
}

static inline struct page_run run_of(const struct batch *b)
{
	return (struct page_run){ 1, b->count, b->gfns, b->pages };
}

/* All of them, in one payload. */
static inline void encode_with(struct page_encoder *e, struct batch *b)
{
	struct page_run run = run_of(b);
	unsigned int entries;

	b->length = encode_some(e, &run, NULL, true, b->payload, &entries);
	assert_int_equal(run.count, 0);
	assert_int_equal(entries, b->count);
}

static inline void encode(struct batch *b, unsigned int count,
			  const char *pattern, int level)
{
	struct page_encoder *e = page_encoder_new(level);

	assert_non_null(e);
	fill(b, count, pattern);
	encode_with(e, b);
	page_encoder_free(e);
}

struct expectation {
	const struct batch *b;
	unsigned int seen;
	bool compare;
	uint64_t max_gfn;
	int fail_at; /* call that returns -ENOSPC, or -1 */
};

/* Applied to a page with a fence on either side. */
static inline int expect_page(void *arg, const struct page_item *item)
{
	uint8_t page[FENCE + WIRE_PAGE_BYTES + FENCE];
	struct expectation *x = arg;

	assert_true(item->gfn <= x->max_gfn);
	if ((int)x->seen == x->fail_at)
		return -ENOSPC;
	memset(page, 0xa5, sizeof(page));
	page_item_apply(item, page + FENCE);
	for (size_t i = 0; i < FENCE; i++) {
		assert_int_equal(page[i], 0xa5);
		assert_int_equal(page[FENCE + WIRE_PAGE_BYTES + i], 0xa5);
	}
	if (x->compare) {
		assert_true(x->seen < x->b->count);
		assert_int_equal(item->gfn, x->b->gfns[x->seen]);
		assert_memory_equal(page + FENCE, x->b->bytes[x->seen],
				    WIRE_PAGE_BYTES);
	}
	x->seen++;
	return 0;
}

/* Decodes `length` bytes out of memory of exactly that size. */
static inline int decode(const struct batch *b, size_t length,
			 struct expectation *x)
{
	AUTO_FREE uint8_t *copy = malloc(length ? length : 1);
	unsigned int before = x->seen;
	const char *why = NULL;
	int n;

	assert_non_null(copy);
	memcpy(copy, b->payload, length);
	n = page_decode(decoder, copy, length, x->max_gfn, expect_page, x,
			&why);
	if (n == -EPROTO) {
		assert_non_null(why);
		assert_int_equal(x->seen, before);
	}
	return n;
}

static inline void expect_same(const struct batch *b)
{
	struct expectation x = { b, 0, true, MAX_GFN, -1 };

	assert_int_equal(decode(b, b->length, &x), b->count);
	assert_int_equal(x.seen, b->count);
}

static inline void expect_refused(const struct batch *b)
{
	struct expectation x = { b, 0, false, MAX_GFN, -1 };

	assert_int_equal(decode(b, b->length, &x), -EPROTO);
}

static inline uint32_t encoding_of(const struct batch *b)
{
	return b->payload[4];
}

static inline uint64_t entry_of(enum wire_page_kind kind, uint64_t gfn)
{
	return (uint64_t)kind << 56 | gfn;
}

static inline void poke64(struct batch *b, size_t at, uint64_t value)
{
	value = htole64(value);
	memcpy(b->payload + at, &value, sizeof(value));
}

#endif
