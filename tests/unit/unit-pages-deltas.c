/* SPDX-License-Identifier: Apache-2.0 */
/* stream/pages.c: pages epoch after epoch, as deltas of what was sent before.
 */
#include "config.h"

#include "stream/pages.h"

#include "base/cursor.h"
#include "stream/delta.h"
#include "tests/unit/live-fixture.h"
#include "tests/unit/pages-fixture.h"

enum { PAGES = 1100, GFNS = 300 /* of the random ones */ };

/* A guest's memory, its pages that were written, and the other side's. */
static struct pair {
	struct page_encoder *encoder;
	struct shadow *shadow;
	bool compress;
	bool raw; /* so that a payload's length says what is in it */
	uint64_t epoch;
	uint64_t x;
	uint8_t now[PAGES][WIRE_PAGE_BYTES];
	uint8_t far[PAGES][WIRE_PAGE_BYTES];
	size_t count;
	uint64_t gfns[PAGES];
	uint8_t written[PAGES][WIRE_PAGE_BYTES];
	const uint8_t *pages[PAGES];

	size_t length; /* of the last payload */
	uint8_t payload[WIRE_PAYLOAD_MAX + FENCE];
	/* Of the last epoch: */
	unsigned int payloads;
	unsigned int kinds[3];
} p;

static void pair_open(size_t shadow_pages, int level, bool compress)
{
	memset(&p, 0, sizeof(p));
	p.encoder = page_encoder_new(level);
	p.compress = compress;
	p.raw = !level || !compress;
	p.x = 1;
	assert_non_null(p.encoder);
	if (!shadow_pages)
		return;
	p.shadow = shadow_new(shadow_pages * WIRE_PAGE_BYTES, PAGES - 1);
	assert_non_null(p.shadow);
}

static void pair_close(void)
{
	page_encoder_free(p.encoder);
	shadow_free(p.shadow);
}

/* The guest writes a page: z(ero), t(ext), n(oise), s(ame), w(ords). */
static void guest_write(uint64_t gfn, char kind, unsigned int words)
{
	uint8_t *page = p.now[gfn];

	if (kind == 'z')
		memset(page, 0, WIRE_PAGE_BYTES);
	else if (kind == 't')
		fill_text(page, next_random(&p.x));
	else if (kind == 'n')
		fill_noise(page, WIRE_PAGE_BYTES, next_random(&p.x));
	else if (kind == 'w')
		change_words(page, words, &p.x);
	memcpy(p.written[p.count], page, WIRE_PAGE_BYTES);
	p.pages[p.count] = p.written[p.count];
	p.gfns[p.count++] = gfn;
}

static int take_page(void *arg, const struct page_item *item)
{
	(void)arg;
	assert_true(item->gfn < PAGES);
	p.kinds[item->kind]++;
	page_item_apply(item, p.far[item->gfn]);
	return 0;
}

static void take_payload(unsigned int entries)
{
	AUTO_FREE uint8_t *copy = malloc(p.length);
	const char *why = NULL;

	memcpy(copy, p.payload, p.length);
	assert_int_equal(page_decode(decoder, copy, p.length, PAGES - 1,
				     take_page, NULL, &why),
			 entries);
	p.payloads++;
}

/* A payload is full, but for a whole page, unless it is the last. */
static void expect_full(unsigned int entries)
{
	if (p.raw && entries < WIRE_BATCH_PAGES)
		assert_true(p.length + ENTRY + WIRE_PAGE_BYTES >
			    WIRE_PAYLOAD_MAX);
}

/* Sends what was written since, and compares both memories. */
static void send_epoch(void)
{
	struct page_run run = { ++p.epoch, p.count, p.gfns, p.pages };
	const struct page_counts before = *page_counts(p.encoder), *n;
	unsigned int entries;

	p.payloads = 0;
	memset(p.kinds, 0, sizeof(p.kinds));
	while (run.count) {
		p.length = encode_some(p.encoder, &run, p.shadow, p.compress,
				       p.payload, &entries);
		if (entries)
			take_payload(entries);
		if (run.count)
			expect_full(entries);
	}
	n = page_counts(p.encoder);
	assert_int_equal(n->whole - before.whole, p.kinds[WIRE_PAGE_DATA]);
	assert_int_equal(n->zero - before.zero, p.kinds[WIRE_PAGE_ZERO]);
	assert_int_equal(n->delta - before.delta, p.kinds[WIRE_PAGE_DELTA]);
	assert_int_equal(n->same - before.same,
			 p.count - p.kinds[0] - p.kinds[1] - p.kinds[2]);
	assert_int_equal(memcmp(p.far, p.now, sizeof(p.far)), 0);
	p.count = 0;
}

static void expect_kinds(unsigned int whole, unsigned int zero,
			 unsigned int deltas)
{
	assert_int_equal(p.kinds[WIRE_PAGE_DATA], whole);
	assert_int_equal(p.kinds[WIRE_PAGE_ZERO], zero);
	assert_int_equal(p.kinds[WIRE_PAGE_DELTA], deltas);
}

/* As it is, zeroes, all of it new, a few words, or any number of them. */
static void random_write(uint64_t gfn)
{
	static const char kinds[] = "ssztnwwwwwww";
	char kind = kinds[next_random(&p.x) % (sizeof(kinds) - 1)];
	unsigned int most = next_random(&p.x) % 4 ? 8 : 512;

	guest_write(gfn, kind, 1 + next_random(&p.x) % most);
}

static void deltas_come_back_over_many_epochs(void **state)
{
	const struct {
		size_t shadow;
		int level;
		bool compress;
	} cases[] = {
		{ GFNS, 0, false }, { GFNS, 1, true }, { GFNS, 3, true },
		{ GFNS, 1, false }, { 100, 1, true },  { 100, 0, true },
		{ 1, 1, true },	    { 0, 1, true },
	};

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		const struct page_counts *n;

		pair_open(cases[c].shadow, cases[c].level, cases[c].compress);
		n = page_counts(p.encoder);
		for (int epoch = 0; epoch < 60; epoch++) {
			uint64_t share = 1 + next_random(&p.x) % 20;

			for (uint64_t gfn = 0; gfn < GFNS; gfn++)
				if (next_random(&p.x) % share == 0)
					random_write(gfn);
			send_epoch();
		}
		assert_true(n->whole && n->zero);
		if (cases[c].shadow != 1)
			assert_int_equal(n->delta && n->same,
					 cases[c].shadow > 0);
		pair_close();
	}
}

static void a_page_as_before_is_left_out(void **state)
{
	(void)state;
	pair_open(PAGES, LEVEL, true);
	guest_write(1, 't', 0);
	guest_write(2, 'z', 0);
	guest_write(3, 'n', 0);
	send_epoch();
	expect_kinds(2, 1, 0);
	for (int again = 0; again < 3; again++) {
		for (uint64_t gfn = 1; gfn <= 3; gfn++)
			guest_write(gfn, 's', 0);
		send_epoch();
		assert_int_equal(p.payloads, 0);
	}
	/* Between others it takes no entry either. */
	guest_write(1, 's', 0);
	guest_write(2, 'w', 5);
	guest_write(3, 's', 0);
	guest_write(4, 't', 0);
	send_epoch();
	assert_int_equal(p.payloads, 1);
	expect_kinds(1, 0, 1);
	pair_close();
}

static void without_a_shadow_all_is_sent_again(void **state)
{
	(void)state;
	pair_open(0, LEVEL, true);
	for (int again = 0; again < 3; again++) {
		guest_write(1, again ? 's' : 't', 0);
		guest_write(2, 'z', 0);
		send_epoch();
		expect_kinds(1, 1, 0);
	}
	pair_close();
}

static void zeroes_come_and_go(void **state)
{
	(void)state;
	pair_open(PAGES, 0, true);
	guest_write(7, 'z', 0);
	send_epoch();
	expect_kinds(0, 1, 0);
	guest_write(7, 'w', 1);
	send_epoch();
	expect_kinds(0, 0, 1);
	guest_write(7, 'z', 0);
	send_epoch();
	expect_kinds(0, 1, 0);
	guest_write(7, 'n', 0);
	send_epoch();
	expect_kinds(1, 0, 0);
	guest_write(7, 'z', 0);
	send_epoch();
	expect_kinds(0, 1, 0);
	guest_write(7, 's', 0);
	send_epoch();
	expect_kinds(0, 0, 0);
	pair_close();
}

/* What the payload has to be, byte by byte. */
static void deltas_come_before_whole_pages(void **state)
{
	const uint64_t entries[] = { entry_of(WIRE_PAGE_DATA, 1),
				     entry_of(WIRE_PAGE_DELTA, 2),
				     entry_of(WIRE_PAGE_ZERO, 3),
				     entry_of(WIRE_PAGE_DATA, 5),
				     entry_of(WIRE_PAGE_DELTA, 6) };
	static uint8_t expected[5 * WIRE_PAGE_BYTES];
	struct cursor c = cursor_over(expected, sizeof(expected));
	uint8_t was[2][WIRE_PAGE_BYTES];

	(void)state;
	pair_open(PAGES, 0, true);
	for (uint64_t gfn = 1; gfn <= 6; gfn++)
		guest_write(gfn, 't', 0);
	send_epoch();
	memcpy(was[0], p.now[2], WIRE_PAGE_BYTES);
	memcpy(was[1], p.now[6], WIRE_PAGE_BYTES);
	guest_write(1, 'n', 0);
	guest_write(2, 'w', 1);
	guest_write(3, 'z', 0);
	guest_write(4, 's', 0);
	guest_write(5, 'n', 0);
	guest_write(6, 'w', 20);
	send_epoch();

	cursor_put_u32(&c, 5);
	cursor_put_u32(&c, WIRE_ENCODING_RAW);
	for (int i = 0; i < 5; i++)
		cursor_put_u64(&c, entries[i]);
	c.at += delta_make(was[0], p.now[2], c.at);
	c.at += delta_make(was[1], p.now[6], c.at);
	cursor_put_bytes(&c, p.now[1], WIRE_PAGE_BYTES);
	cursor_put_bytes(&c, p.now[5], WIRE_PAGE_BYTES);
	assert_int_equal(p.length, c.at - expected);
	assert_memory_equal(p.payload, expected, p.length);
	pair_close();
}

static void no_delta_is_as_long_as_its_page(void **state)
{
	const struct {
		unsigned int first; /* so many words at the start change */
		bool last;	    /* and the last one */
		size_t body;
		enum wire_page_kind kind;
	} cases[] = {
		{ 503, false, 8 + 63 + 503 * 8, WIRE_PAGE_DELTA }, /* 4095 */
		{ 502, true, WIRE_PAGE_BYTES, WIRE_PAGE_DATA },
		{ 501, true, 8 + 64 + 502 * 8, WIRE_PAGE_DELTA },
		{ 512, false, WIRE_PAGE_BYTES, WIRE_PAGE_DATA },
		{ 1, false, 8 + 1 + 8, WIRE_PAGE_DELTA },
	};

	(void)state;
	pair_open(PAGES, 0, true);
	guest_write(1, 't', 0);
	send_epoch();
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		for (unsigned int i = 0; i < cases[c].first; i++)
			p.now[1][8 * i] ^= 0x55;
		p.now[1][WIRE_PAGE_BYTES - 1] ^= cases[c].last;
		guest_write(1, 's', 0);
		send_epoch();
		assert_int_equal(p.kinds[cases[c].kind], 1);
		assert_int_equal(p.length, HEADER + ENTRY + cases[c].body);
	}
	pair_close();
}

/* All of them are taken, in as many payloads as it needs and no more. */
static void no_payload_is_too_long(void **state)
{
	const struct {
		char kind;
		unsigned int words;
		unsigned int each; /* pages a payload */
	} cases[] = {
		{ 'n', 0, WHOLE_PAGES },
		{ 'w', 496, WHOLE_PAGES }, /* 4038 bytes and more */
		{ 'w', 1, WIRE_BATCH_PAGES },
		{ 'z', 0, WIRE_BATCH_PAGES },
		{ 'n', 0, WHOLE_PAGES },
	};

	(void)state;
	for (int compress = 0; compress < 2; compress++) {
		pair_open(PAGES, LEVEL, compress);
		for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
			for (uint64_t gfn = 0; gfn < PAGES; gfn++)
				guest_write(gfn, cases[c].kind, cases[c].words);
			send_epoch();
			assert_int_equal(p.payloads, (PAGES + cases[c].each -
						      1) / cases[c].each);
			assert_int_equal(p.kinds[0] + p.kinds[1] + p.kinds[2],
					 PAGES);
		}
		pair_close();
	}
}

static void payloads_of_any_mix_are_full(void **state)
{
	(void)state;
	pair_open(PAGES, 0, true);
	for (int epoch = 0; epoch < 20; epoch++) {
		for (uint64_t gfn = 0; gfn < PAGES; gfn++)
			guest_write(gfn, next_random(&p.x) % 4 ? 'w' : 'z',
				    1 + next_random(&p.x) % 512);
		send_epoch();
		assert_true(p.payloads > 1);
	}
	pair_close();
}

static void send_changed(uint64_t gfns)
{
	for (uint64_t gfn = 0; gfn < gfns; gfn++) {
		memset(p.now[gfn], '-', 8 * 10);
		guest_write(gfn, 's', 0);
	}
	send_epoch();
}

/* That zstd could do nothing with whole pages says nothing of deltas. */
static void deltas_are_compressed_behind_noise(void **state)
{
	const struct page_counts *n;

	(void)state;
	pair_open(PAGES, LEVEL, true);
	n = page_counts(p.encoder);
	for (uint64_t gfn = 0; gfn < 100; gfn++)
		guest_write(gfn, 't', 0);
	send_epoch();
	guest_write(200, 'n', 0);
	send_epoch();
	assert_int_equal(n->incompressible, 1);
	send_changed(100);
	expect_kinds(0, 0, 100);
	assert_int_equal(p.payload[4], WIRE_ENCODING_ZSTD);
	assert_true(p.length < 100 * (ENTRY + 8 + 2 + 80) / 2);
	pair_close();
}

/* Where nothing waits for the link, what takes zstd long is left as it is. */
static void deltas_are_compressed_in_a_hurry_too(void **state)
{
	(void)state;
	pair_open(PAGES, LEVEL, false);
	for (uint64_t gfn = 0; gfn < 100; gfn++)
		guest_write(gfn, 't', 0);
	send_epoch();
	assert_int_equal(p.payload[4], WIRE_ENCODING_RAW);
	send_changed(100);
	expect_kinds(0, 0, 100);
	assert_int_equal(p.payload[4], WIRE_ENCODING_ZSTD);
	for (uint64_t gfn = 200; gfn < 210; gfn++)
		guest_write(gfn, 't', 0);
	memset(p.now[0], '+', 8);
	guest_write(0, 's', 0);
	send_epoch();
	expect_kinds(10, 0, 1);
	assert_int_equal(p.payload[4], WIRE_ENCODING_RAW);
	pair_close();
}

static void what_the_shadow_does_not_cover_goes_whole(void **state)
{
	(void)state;
	pair_open(0, 0, true);
	p.shadow = shadow_new(PAGES * WIRE_PAGE_BYTES, 9);
	for (int epoch = 0; epoch < 3; epoch++) {
		for (uint64_t gfn = 0; gfn < 20; gfn++)
			guest_write(gfn, epoch ? 'w' : 't', 1);
		guest_write(20, 'z', 0);
		send_epoch();
		expect_kinds(epoch ? 10 : 20, 1, epoch ? 10 : 0);
	}
	pair_close();
}

/* What the shadow has is what the other side has. */
static void expect_shadow_as_far(size_t gfns)
{
	for (uint64_t gfn = 0; gfn < gfns; gfn++) {
		unsigned int times;
		const uint8_t *base =
			shadow_find(p.shadow, gfn, p.epoch, &times);

		if (base && memcmp(base, p.far[gfn], WIRE_PAGE_BYTES))
			fail_msg("epoch %d, gfn %d", (int)p.epoch, (int)gfn);
	}
}

static void send_live(const struct live *l)
{
	struct page_run run = { ++p.epoch, l->pages, p.gfns, p.pages };
	unsigned int entries;

	while (run.count) {
		p.length = encode_some(p.encoder, &run, p.shadow, p.compress,
				       p.payload, &entries);
		if (entries)
			take_payload(entries);
	}
	expect_shadow_as_far(l->pages);
}

static void pages_may_be_written_to_meanwhile(void **state)
{
	enum { LIVE = 8, EPOCHS = 1000 };
	const size_t shadows[] = { LIVE, LIVE / 2 };
	const struct page_counts *n;
	struct live l;

	(void)state;
	for (size_t s = 0; s < 4; s++) {
		pair_open(shadows[s / 2], LEVEL, s % 2);
		live_start(&l, LIVE);
		for (uint64_t gfn = 0; gfn < LIVE; gfn++) {
			p.gfns[gfn] = gfn;
			p.pages[gfn] = l.at + gfn * WIRE_PAGE_BYTES;
		}
		n = page_counts(p.encoder);
		for (int i = 0; i < EPOCHS || (!n->zero && i < 1000 * EPOCHS);
		     i++)
			send_live(&l);
		live_stop(&l);
		send_live(&l);
		assert_memory_equal(p.far, l.at, LIVE * WIRE_PAGE_BYTES);
		assert_true(n->whole > LIVE && n->zero);
		/* In turn, none is there any more when it comes again. */
		assert_int_equal(!n->delta, shadows[s / 2] < LIVE);
		live_free(&l);
		pair_close();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deltas_come_back_over_many_epochs),
		cmocka_unit_test(a_page_as_before_is_left_out),
		cmocka_unit_test(without_a_shadow_all_is_sent_again),
		cmocka_unit_test(zeroes_come_and_go),
		cmocka_unit_test(deltas_come_before_whole_pages),
		cmocka_unit_test(no_delta_is_as_long_as_its_page),
		cmocka_unit_test(no_payload_is_too_long),
		cmocka_unit_test(payloads_of_any_mix_are_full),
		cmocka_unit_test(deltas_are_compressed_behind_noise),
		cmocka_unit_test(deltas_are_compressed_in_a_hurry_too),
		cmocka_unit_test(what_the_shadow_does_not_cover_goes_whole),
		cmocka_unit_test(pages_may_be_written_to_meanwhile),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
