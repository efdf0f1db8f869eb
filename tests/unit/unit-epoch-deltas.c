/* SPDX-License-Identifier: Apache-2.0 */
/* stream/epoch.c: deltas, and that none is ever of what the other side lacks.
 */
#include "config.h"

#include "stream/epoch_encoder.h"

#include "tests/unit/epoch-fixture.h"

static void change(struct bench *b, uint64_t gfn, unsigned int words,
		   uint64_t *x)
{
	change_words(b->sent[gfn], words, x);
	capture_page(b, gfn);
}

/* The kinds of the pages of one frame: w(hole), z(ero), d(elta). */
static void expect_kinds(struct bench *b, size_t frame, const char *letters)
{
	const uint8_t *payload = frame_payload(b->frames[frame]);
	char got[GUEST_PAGES + 1] = { 0 };
	uint32_t count;

	assert_int_equal(b->frames[frame]->type, WIRE_PAGES);
	memcpy(&count, payload, sizeof(count));
	assert_true(count <= GUEST_PAGES);
	for (uint32_t i = 0; i < count; i++)
		got[i] = "wzd"[payload[8 + i * 8 + 7]];
	assert_string_equal(got, letters);
}

static void what_was_sent_before_is_a_delta(void **state)
{
	struct bench *b = *state;
	uint64_t x = 1;

	round_begin(b, 1, false);
	capture(b, 1, 't', 1);
	capture(b, 2, 'z', 0);
	capture(b, 3, 'n', 1);
	assert_int_equal(encode(b), 0);
	expect_kinds(b, 1, "wzw");
	expect_same_memory(b);
	drop_frames(b);
	round_begin(b, 2, false);
	change(b, 1, 3, &x);
	change(b, 2, 3, &x);
	change(b, 3, 3, &x);
	capture(b, 4, 't', 1);
	assert_int_equal(encode(b), 0);
	expect_types(b, "BPE");
	expect_kinds(b, 1, "dddw");
	expect_same_memory(b);
}

/* The buffer for its first payload goes back. */
static void without_a_change_there_are_no_pages(void **state)
{
	struct bench *b = *state;

	for (uint64_t number = 1; number < 4; number++) {
		round_begin(b, number, false);
		for (uint64_t gfn = 0; gfn < 200; gfn++)
			capture(b, gfn, "tzn"[gfn % 3], gfn);
		assert_int_equal(encode(b), 0);
		expect_types(b, number == 1 ? "BPPPE" : "BE");
		expect_same_memory(b);
		drop_frames(b);
		assert_int_equal(b->ungets, number - 1);
	}
}

/* Of the last payload of a round, too. */
static void a_payload_of_nothing_is_not_put(void **state)
{
	struct bench *b = *state;

	round_begin(b, 1, false);
	for (uint64_t gfn = 0; gfn < WHOLE_PAGES + 5; gfn++)
		capture(b, gfn, 'n', gfn);
	assert_int_equal(encode(b), 0);
	drop_frames(b);
	round_begin(b, 2, false);
	for (uint64_t gfn = 0; gfn < WHOLE_PAGES + 5; gfn++)
		capture(b, gfn, 'n', gfn < WHOLE_PAGES ? 1000 + gfn : gfn);
	assert_int_equal(encode(b), 0);
	expect_types(b, "BPE");
	assert_int_equal(b->ungets, 1);
}

/* A round with page after page c(hanged), s(ame), ' ' not there, or anew. */
static void play(struct bench *b, uint64_t number, bool partial,
		 const char *script, uint64_t *x)
{
	round_begin(b, number, partial);
	for (uint64_t gfn = 0; script[gfn]; gfn++) {
		if (script[gfn] == 'c')
			change(b, gfn, 2, x);
		else if (script[gfn] == 's')
			capture_page(b, gfn);
		else if (script[gfn] != ' ')
			capture(b, gfn, script[gfn], next_random(x));
	}
	assert_int_equal(encode(b), 0);
}

struct round_script {
	const char *pages, *kinds;
};

/* An epoch of four rounds. */
static void play_rounds(struct bench *b, uint64_t number,
			const struct round_script *rounds, uint64_t *x)
{
	for (int i = 0; i < 4; i++) {
		play(b, number, i < 3, rounds[i].pages, x);
		expect_kinds(b, (size_t)i + 1, rounds[i].kinds);
	}
	expect_types(b, "BPPPPE");
	expect_same_memory(b);
	drop_frames(b);
}

static void in_an_epoch_a_page_is_a_delta_twice_and_then_whole(void **state)
{
	static const struct round_script rounds[] = {
		{ "ccc ccs", "ddddd" },
		{ "czs  nc", "dzwd" },
		{ "c  c  z", "wdz" },
		{ "cc cccs", "wwddw" },
	};
	struct bench *b = *state;
	const struct page_counts *n = epoch_encoder_counts(b->encoder);
	uint64_t x = 2;

	play(b, 1, false, "ttttttz", &x);
	expect_same_memory(b);
	drop_frames(b);
	for (uint64_t number = 2; number < 5; number++) {
		const struct page_counts was = *n;

		play_rounds(b, number, rounds, &x);
		assert_int_equal(n->delta - was.delta, 10);
		assert_int_equal(n->whole - was.whole, 5);
		assert_int_equal(n->zero - was.zero, 2);
		assert_int_equal(n->same - was.same, 3);
	}
}

static void a_new_page_is_a_delta_once_in_its_epoch(void **state)
{
	static const struct round_script rounds[] = {
		{ "tzn", "wzw" },
		{ "cccz", "dddz" },
		{ "cccc", "wwwd" },
		{ "cccc", "wwww" },
	};
	struct bench *b = *state;
	uint64_t x = 3;

	play_rounds(b, 1, rounds, &x);
	play(b, 2, false, "cccc", &x);
	expect_kinds(b, 1, "dddd");
	expect_same_memory(b);
}

/* And what comes in its place counts from its own first time. */
static void a_page_that_gave_way_is_whole(void **state)
{
	static const struct round_script rounds[] = {
		{ "c", "d" },
		{ "cc", "dw" },
		{ "cc", "ww" },
		{ "cc", "ww" },
	};
	struct bench *b = *state;
	uint64_t x = 4;

	b->peer.shadow_bytes = WIRE_PAGE_BYTES;
	reconnect(b);
	play(b, 1, false, "t", &x);
	expect_same_memory(b);
	drop_frames(b);
	play_rounds(b, 2, rounds, &x);
	play(b, 3, true, " c", &x);
	play(b, 3, true, " c", &x);
	play(b, 3, true, "c", &x);
	play(b, 3, false, "c", &x);
	expect_kinds(b, 1, "d");
	expect_kinds(b, 2, "d");
	expect_kinds(b, 3, "w");
	expect_kinds(b, 4, "d");
	expect_same_memory(b);
}

static void a_new_connection_gets_all_of_it_whole(void **state)
{
	struct bench *b = *state;

	for (int again = 0; again < 3; again++) {
		round_begin(b, 1, false);
		for (uint64_t gfn = 0; gfn < 6; gfn++)
			capture(b, gfn, "tzn"[gfn % 3], gfn);
		assert_int_equal(encode(b), 0);
		expect_types(b, "BPE");
		expect_kinds(b, 1, "wzwwzw");
		expect_same_memory(b);
		drop_frames(b);
		reconnect(b);
	}
	assert_int_equal(epoch_encoder_counts(b->encoder)->whole, 12);
	assert_int_equal(epoch_encoder_counts(b->encoder)->zero, 6);
}

/* Its peer may be one that takes none, or has less memory. */
static void a_peer_is_sent_no_more_deltas_than_it_wants(void **state)
{
	struct bench *b = *state;
	uint64_t x = 3;

	for (int limit = 0; limit < 2; limit++) {
		b->peer.shadow_bytes = limit ? 5 * WIRE_PAGE_BYTES : 0;
		b->peer.max_gfn = limit ? 2 : GUEST_PAGES - 1;
		reconnect(b);
		round_begin(b, 1, false);
		for (uint64_t gfn = 0; gfn < 5; gfn++)
			capture(b, gfn, 't', gfn);
		assert_int_equal(encode(b), 0);
		drop_frames(b);
		round_begin(b, 2, false);
		for (uint64_t gfn = 0; gfn < 5; gfn++)
			change(b, gfn, 1, &x);
		assert_int_equal(encode(b), 0);
		expect_kinds(b, 1, limit ? "dddww" : "wwwww");
		drop_frames(b);
		assert_int_equal(epoch_encoder_memory_bytes(b->encoder) > 0,
				 limit);
	}
}

static void where_nothing_waits_nothing_is_compressed(void **state)
{
	struct bench *b = *state;

	for (int behind = 0; behind < 2; behind++) {
		b->behind = behind;
		reconnect(b);
		round_begin(b, 1, false);
		for (uint64_t gfn = 0; gfn < 10; gfn++)
			capture(b, gfn, 't', gfn);
		assert_int_equal(encode(b), 0);
		assert_int_equal(frame_payload(b->frames[1])[4],
				 behind ? WIRE_ENCODING_ZSTD
					: WIRE_ENCODING_RAW);
		expect_same_memory(b);
		drop_frames(b);
	}
}

/* --- many epochs, over connections that break --------------------------- */

/* An epoch that is stored and not applied yet, and what it has to make. */
struct pending {
	struct store *store;
	bool waits;
	uint8_t memory[GUEST_PAGES][WIRE_PAGE_BYTES];
};

struct peers {
	struct bench *b;
	uint64_t x;
	struct pending pending[2]; /* used in turn */
	unsigned int turn;
	unsigned int applied, broken;
	size_t items; /* of the epoch that is being applied */
	size_t twice; /* second deltas of a page */
};

static int apply_item(void *arg, const struct page_item *item)
{
	struct peers *p = arg;

	p->items++;
	return receive_page(p->b, item);
}

static void apply(struct peers *p, struct pending *e)
{
	if (!e->waits)
		return;
	e->waits = false;
	p->items = 0;
	assert_int_equal(store_each_page(e->store, apply_item, p), 0);
	assert_int_equal(memcmp(p->b->received, e->memory, sizeof(e->memory)),
			 0);
	p->twice += p->items - store_page_count(e->store);
	p->applied++;
}

/* The other side starts from an image of the guest. */
static void connect_again(struct peers *p)
{
	reconnect(p->b);
	for (int i = 0; i < 2; i++) {
		store_free(p->pending[i].store);
		p->pending[i].store =
			store_new((uint64_t)GUEST_PAGES * WIRE_PAGE_BYTES,
				  GUEST_PAGES - 1, p->b->history);
		assert_non_null(p->pending[i].store);
	}
	memcpy(p->b->received, p->b->sent, sizeof(p->b->sent));
}

static void capture_some(struct peers *p)
{
	static const char kinds[] = "sztnwwwwww";
	uint64_t share = 1 + next_random(&p->x) % 30;

	for (uint64_t gfn = 0; gfn < GUEST_PAGES; gfn++) {
		char kind = kinds[next_random(&p->x) % (sizeof(kinds) - 1)];
		uint64_t r = next_random(&p->x);

		if (r % share)
			continue;
		if (kind == 's')
			capture_page(p->b, gfn);
		else if (kind == 'w')
			change(p->b, gfn, r >> 8 & 1 ? 3 : r >> 9 & 511, &p->x);
		else
			capture(p->b, gfn, kind, next_random(&p->x));
	}
}

static int one_epoch(struct peers *p, uint64_t number)
{
	uint64_t rounds = 1 + next_random(&p->x) % 4;
	int err = 0;

	while (rounds-- && !err) {
		p->b->behind = next_random(&p->x) % 2;
		round_begin(p->b, number, rounds);
		capture_some(p);
		capture_state(p->b, 100);
		err = encode(p->b);
	}
	return err;
}

/* What arrived of an epoch that broke off is not a whole one. */
static void broken_off(struct peers *p, struct pending *now, uint64_t number)
{
	for (size_t i = 0; i < p->b->count; i++)
		assert_int_equal(deliver(now->store, p->b->frames[i]), 0);
	assert_true(!p->b->count || !store_complete(now->store));
	drop_frames(p->b);
	assert_int_equal(one_epoch(p, number), -ECANCELED);
	assert_int_equal(one_epoch(p, number + 1), -ECANCELED);
	assert_int_equal(p->b->count, 0);
	apply(p, &p->pending[!p->turn]);
	p->broken++;
	connect_again(p);
}

/*
 * Stored while the one before may not be applied yet, in the other store, as
 * on a secondary.
 */
static void arrived(struct peers *p, struct pending *now)
{
	for (size_t i = 0; i < p->b->count; i++)
		assert_int_equal(deliver(now->store, p->b->frames[i]), 0);
	assert_true(store_complete(now->store));
	drop_frames(p->b);
	memcpy(now->memory, p->b->sent, sizeof(now->memory));
	now->waits = true;
	apply(p, &p->pending[!p->turn]);
	if (next_random(&p->x) % 2)
		apply(p, now);
	p->turn = !p->turn;
}

static void run_epochs(struct bench *b, uint64_t shadow_pages)
{
	static struct peers peers;
	struct peers *p = &peers;

	memset(p, 0, sizeof(*p));
	p->b = b;
	p->x = 1 + shadow_pages;
	b->peer.shadow_bytes = shadow_pages * WIRE_PAGE_BYTES;
	connect_again(p);
	for (uint64_t number = 1; number <= 150; number++) {
		struct pending *now = &p->pending[p->turn];

		b->refuse_at = next_random(&p->x) % 6
				       ? SIZE_MAX
				       : b->gets + next_random(&p->x) % 10;
		if (one_epoch(p, number) == 0)
			arrived(p, now);
		else
			broken_off(p, now, number);
	}
	assert_in_range(p->broken, 5, 50);
	assert_in_range(p->applied, 100, 145);
	assert_int_equal(p->twice > 100, shadow_pages >= 300);
	store_free(p->pending[0].store);
	store_free(p->pending[1].store);
}

static void any_shadow_gives_the_same_memory(void **state)
{
	const uint64_t pages[] = { GUEST_PAGES, 300, 40, 1, 0 };
	struct bench *b = *state;
	const struct page_counts *n = epoch_encoder_counts(b->encoder);

	for (int i = 0; i < 5; i++) {
		uint64_t deltas = n->delta;

		run_epochs(b, pages[i]);
		if (pages[i] != 1)
			assert_int_equal(n->delta > deltas, pages[i] > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FRESH(what_was_sent_before_is_a_delta),
		FRESH(without_a_change_there_are_no_pages),
		FRESH(a_payload_of_nothing_is_not_put),
		FRESH(in_an_epoch_a_page_is_a_delta_twice_and_then_whole),
		FRESH(a_new_page_is_a_delta_once_in_its_epoch),
		FRESH(a_page_that_gave_way_is_whole),
		FRESH(a_new_connection_gets_all_of_it_whole),
		FRESH(a_peer_is_sent_no_more_deltas_than_it_wants),
		FRESH(where_nothing_waits_nothing_is_compressed),
		FRESH(any_shadow_gives_the_same_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
