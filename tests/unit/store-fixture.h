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

enum { MAX_GFN = 0xfefff, RAM_BYTES = 8 * 1024 * 1024, PARCEL_MAX = 24 };

/* Pages on their way into one payload, raw. */
struct parcel {
	unsigned int count;
	uint64_t entry[PARCEL_MAX];
	size_t delta_bytes;
	uint8_t deltas[PARCEL_MAX * WIRE_PAGE_BYTES + DELTA_ROOM];
	size_t whole_bytes;
	uint8_t whole[PARCEL_MAX * WIRE_PAGE_BYTES];
};

/* A store under test and the sums of what it was fed. */
struct bench {
	struct parcel parcel;
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
	b->parcel.count = 0;
	b->parcel.delta_bytes = b->parcel.whole_bytes = 0;
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

/* Each has a word where its neighbours have none: one that is lost shows. */
static inline void make_page(uint8_t *page, uint64_t seed)
{
	memset(page, 0, WIRE_PAGE_BYTES);
	if (!seed)
		return;
	if (!(seed & SPARSE))
		fill_text(page, seed);
	memcpy(page + 8, &seed, 8);
	memcpy(page + 16 + seed % 500 * 8, &seed, 8);
}

/* The payload of one page at gfn, made of `seed`. */
static inline size_t encode_page(struct bench *b, uint64_t gfn, uint64_t seed,
				 uint8_t *payload)
{
	uint8_t page[WIRE_PAGE_BYTES];
	const uint8_t *at = page;
	struct page_run run = { 1, 1, &gfn, &at };
	unsigned int entries;

	make_page(page, seed);
	return page_encode(b->encoder, &run, NULL, true, payload, &entries);
}

static inline int feed(struct bench *b, unsigned int entries, size_t len)
{
	b->end.pages += entries;
	count(b, b->payload, len);
	return store_pages(b->store, b->payload, len, &b->why);
}

static inline int feed_page(struct bench *b, uint64_t gfn, uint64_t seed)
{
	return feed(b, 1, encode_page(b, gfn, seed, b->payload));
}

static inline void put_entry(struct bench *b, uint64_t gfn,
			     enum wire_page_kind kind)
{
	struct parcel *p = &b->parcel;

	assert_true(p->count < PARCEL_MAX);
	p->entry[p->count++] = (uint64_t)kind << 56 | gfn;
}

/* NULL: a page of zeroes. */
static inline void put_page(struct bench *b, uint64_t gfn, const uint8_t *page)
{
	struct parcel *p = &b->parcel;

	put_entry(b, gfn, page ? WIRE_PAGE_DATA : WIRE_PAGE_ZERO);
	if (!page)
		return;
	memcpy(p->whole + p->whole_bytes, page, WIRE_PAGE_BYTES);
	p->whole_bytes += WIRE_PAGE_BYTES;
}

/* `was` becomes as `is`. */
static inline void put_delta(struct bench *b, uint64_t gfn, uint8_t *was,
			     const uint8_t *is)
{
	struct parcel *p = &b->parcel;
	size_t n = delta_make(was, is, p->deltas + p->delta_bytes);

	assert_in_range(n, 1, WIRE_PAGE_BYTES - 1);
	put_entry(b, gfn, WIRE_PAGE_DELTA);
	p->delta_bytes += n;
}

/* All that was put, in one payload. */
static inline int feed_parcel(struct bench *b)
{
	struct cursor c = cursor_over(b->payload, sizeof(b->payload));
	struct parcel *p = &b->parcel;
	unsigned int entries = p->count;

	cursor_put_u32(&c, entries);
	cursor_put_u32(&c, WIRE_ENCODING_RAW);
	for (unsigned int i = 0; i < entries; i++)
		cursor_put_u64(&c, p->entry[i]);
	cursor_put_bytes(&c, p->deltas, p->delta_bytes);
	cursor_put_bytes(&c, p->whole, p->whole_bytes);
	assert_false(c.bad);
	p->count = 0;
	p->delta_bytes = p->whole_bytes = 0;
	return feed(b, entries, (size_t)(c.at - b->payload));
}

static inline int feed_delta(struct bench *b, uint64_t gfn, uint64_t was,
			     uint64_t seed)
{
	uint8_t base[WIRE_PAGE_BYTES], page[WIRE_PAGE_BYTES];

	make_page(base, was);
	make_page(page, seed);
	put_delta(b, gfn, base, page);
	return feed_parcel(b);
}

static inline int feed_state(struct bench *b, const void *bytes, size_t len)
{
	count(b, bytes, len);
	return store_state(b->store, bytes, len, &b->why);
}

static inline int feed_disk(struct bench *b, const void *bytes, size_t len)
{
	count(b, bytes, len);
	return store_disk(b->store, bytes, len, &b->why);
}

static inline int finish(struct bench *b)
{
	b->end.checksum = checksum_value(b->checksum);
	return store_end(b->store, &b->end, &b->why);
}

static inline void end_epoch(struct bench *b)
{
	assert_int_equal(finish(b), 0);
	assert_true(store_complete(b->store));
}

/* Its bytes are as many as it is made of. */
static inline void expect_length(const struct page_item *item)
{
	if (item->kind == WIRE_PAGE_DATA)
		assert_int_equal(item->length, WIRE_PAGE_BYTES);
	else if (item->kind == WIRE_PAGE_ZERO)
		assert_null(item->bytes);
	else
		assert_int_equal(item->length,
				 delta_length(item->bytes, item->length));
}

/* What is to be handed out of one gfn. */
struct lookup {
	uint64_t gfn;
	const char *kinds;
	const uint64_t *versions; /* before the first, and behind each */
	uint8_t page[WIRE_PAGE_BYTES];
	size_t seen;
};

static inline int look(void *arg, const struct page_item *item)
{
	uint8_t expected[WIRE_PAGE_BYTES];
	struct lookup *l = arg;

	if (item->gfn != l->gfn)
		return 0;
	assert_true(l->seen < strlen(l->kinds));
	assert_int_equal("wzd"[item->kind], l -> kinds[l->seen++]);
	expect_length(item);
	page_item_apply(item, l->page);
	make_page(expected, l->versions[l->seen]);
	assert_memory_equal(l->page, expected, sizeof(expected));
	return 0;
}

/*
 * Just these at gfn, each w(hole), z(eroes) or d(elta), which make of one
 * version the next.
 */
static inline void expect_items(struct bench *b, uint64_t gfn,
				const char *kinds, const uint64_t *versions)
{
	struct lookup l = { .gfn = gfn, .kinds = kinds, .versions = versions };

	make_page(l.page, versions[0]);
	assert_int_equal(store_each_page(b->store, look, &l), 0);
	assert_int_equal(l.seen, strlen(kinds));
}

static inline void expect_item(struct bench *b, uint64_t gfn,
			       enum wire_page_kind kind, uint64_t was,
			       uint64_t seed)
{
	const char kinds[] = { "wzd"[kind], 0 };
	const uint64_t versions[] = { was, seed };

	expect_items(b, gfn, kinds, versions);
}

static inline void expect_page(struct bench *b, uint64_t gfn, uint64_t seed)
{
	expect_item(b, gfn, seed ? WIRE_PAGE_DATA : WIRE_PAGE_ZERO, 12345,
		    seed);
}

enum { PATH_MAX_VERSIONS = 12 };

/* A page on its way through an epoch. */
struct path {
	uint64_t gfn;
	size_t count;
	uint64_t versions[PATH_MAX_VERSIONS]; /* the first is the one before */
};

/* The next version as w(hole), z(eroes) or d(elta). */
static inline void put_next(struct bench *b, struct path *p, char kind)
{
	uint8_t base[WIRE_PAGE_BYTES], page[WIRE_PAGE_BYTES];
	uint64_t was = p->versions[p->count++];
	uint64_t is = was ? (was & ~SPARSE) + 1 : 1000 + 16 * p->gfn + p->count;

	/* Of all that a page of text has, a delta would be too long. */
	if (kind == 'd' && (!was || was & SPARSE))
		is |= SPARSE;
	p->versions[p->count] = kind == 'z' ? 0 : is;
	make_page(base, was);
	make_page(page, is);
	if (kind == 'd')
		put_delta(b, p->gfn, base, page);
	else
		put_page(b, p->gfn, kind == 'w' ? page : NULL);
}

/* So many in each payload; ends where one is refused. */
static inline int feed_path(struct bench *b, struct path *p, const char *kinds,
			    size_t each)
{
	int err = 0;

	for (size_t i = 0; kinds[i] && !err; i++) {
		put_next(b, p, kinds[i]);
		if ((i + 1) % each == 0 || !kinds[i + 1])
			err = feed_parcel(b);
	}
	return err;
}

/* What has come as `out`: all the deltas, or the last version. */
static inline void expect_path(struct bench *b, const struct path *p,
			       const char *out)
{
	const uint64_t last[] = { 12345, p->versions[p->count] };

	expect_items(b, p->gfn, out, *out == 'd' ? p->versions : last);
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
