/* SPDX-License-Identifier: Apache-2.0 */
/* A store that is fed a page at a time, and what is looked for in it. */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include <errno.h>

#include "base/cleanup.h"
#include "stream/checksum.h"
#include "stream/delta.h"
#include "stream/pages.h"
#include "stream/store.h"
#include "tests/unit/unit-stream.h"

enum { MAX_GFN = 0xfefff, RAM_BYTES = 8 * 1024 * 1024 };

/* A store under test and the sums of what it was fed. */
struct bench {
	struct history *history;
	struct store *store;
	struct page_encoder *encoder;
	struct checksum *checksum;
	struct wire_epoch_end end;
	uint8_t payload[WIRE_PAYLOAD_MAX];
	const char *why;
};

static inline int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	b->history = history_new(MAX_GFN);
	b->store = store_new(RAM_BYTES, MAX_GFN, b->history);
	b->encoder = page_encoder_new(1);
	b->checksum = checksum_new();
	*state = b;
	return b->history && b->store && b->encoder && b->checksum ? 0 : -1;
}

static inline int teardown(void **state)
{
	struct bench *b = *state;

	store_free(b->store);
	history_free(b->history);
	page_encoder_free(b->encoder);
	checksum_free(b->checksum);
	free(b);
	return 0;
}

static inline void begin(struct bench *b, uint64_t number)
{
	store_begin(b->store, number);
	checksum_reset(b->checksum);
	b->end = (struct wire_epoch_end){ 0 };
}

static inline void count(struct bench *b, const void *payload, size_t len)
{
	b->end.bytes += len;
	checksum_add(b->checksum, payload, len);
}

/* 0 is a page of zeroes, one with SPARSE has little else. */
#define SPARSE (UINT64_C(1) << 63)

static inline void make_page(uint8_t *page, uint64_t seed)
{
	memset(page, 0, WIRE_PAGE_BYTES);
	if (seed & SPARSE)
		memcpy(page + 8, &seed, 8);
	else if (seed)
		fill_text(page, seed);
}

/* The payload of one page at gfn, made of `seed`. */
static inline size_t encode_page(struct bench *b, uint64_t gfn, uint64_t seed,
				 uint8_t *payload)
{
	uint8_t page[WIRE_PAGE_BYTES];
	struct page_run run = { 1, 1, &gfn, page };
	unsigned int entries;

	make_page(page, seed);
	return page_encode(b->encoder, &run, NULL, true, payload, &entries);
}

static inline int feed(struct bench *b, size_t len)
{
	b->end.pages++;
	count(b, b->payload, len);
	return store_pages(b->store, b->payload, len, &b->why);
}

static inline int feed_page(struct bench *b, uint64_t gfn, uint64_t seed)
{
	return feed(b, encode_page(b, gfn, seed, b->payload));
}

/* A delta of one page of another, however it was made. */
static inline int feed_delta_of(struct bench *b, uint64_t gfn, uint8_t *was,
				const uint8_t *is)
{
	struct cursor c = cursor_over(b->payload, sizeof(b->payload));

	cursor_put_u32(&c, 1);
	cursor_put_u32(&c, WIRE_ENCODING_RAW);
	cursor_put_u64(&c, (uint64_t)WIRE_PAGE_DELTA << 56 | gfn);
	c.at += delta_make(was, is, c.at);
	return feed(b, (size_t)(c.at - b->payload));
}

static inline int feed_delta(struct bench *b, uint64_t gfn, uint64_t was,
			     uint64_t seed)
{
	uint8_t base[WIRE_PAGE_BYTES], page[WIRE_PAGE_BYTES];

	make_page(base, was);
	make_page(page, seed);
	return feed_delta_of(b, gfn, base, page);
}

static inline int feed_state(struct bench *b, const void *bytes, size_t len)
{
	count(b, bytes, len);
	return store_state(b->store, bytes, len, &b->why);
}

static inline int finish(struct bench *b)
{
	b->end.checksum = checksum_value(b->checksum);
	return store_end(b->store, &b->end, &b->why);
}

struct lookup {
	uint64_t gfn;
	enum wire_page_kind kind;
	uint8_t page[WIRE_PAGE_BYTES]; /* before, and then after it */
	int seen;
};

static inline int look(void *arg, const struct page_item *item)
{
	struct lookup *l = arg;

	if (item->gfn != l->gfn)
		return 0;
	l->seen++;
	l->kind = item->kind;
	page_item_apply(item, l->page);
	return 0;
}

/* Exactly one at gfn, which makes of one page the other. */
static inline void expect_item(struct bench *b, uint64_t gfn,
			       enum wire_page_kind kind, uint64_t was,
			       uint64_t seed)
{
	struct lookup l = { .gfn = gfn };
	uint8_t expected[WIRE_PAGE_BYTES];

	make_page(l.page, was);
	make_page(expected, seed);
	assert_int_equal(store_each_page(b->store, look, &l), 0);
	assert_int_equal(l.seen, 1);
	assert_int_equal(l.kind, kind);
	assert_memory_equal(l.page, expected, sizeof(expected));
}

static inline void expect_page(struct bench *b, uint64_t gfn, uint64_t seed)
{
	expect_item(b, gfn, seed ? WIRE_PAGE_DATA : WIRE_PAGE_ZERO, 12345,
		    seed);
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
