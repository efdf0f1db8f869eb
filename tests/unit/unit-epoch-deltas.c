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

static void a_page_of_two_rounds_is_whole_in_the_second(void **state)
{
	struct bench *b = *state;
	uint64_t x = 2;

	round_begin(b, 1, false);
	for (uint64_t gfn = 1; gfn <= 5; gfn++)
		capture(b, gfn, 't', gfn);
	assert_int_equal(encode(b), 0);
	expect_same_memory(b);
	drop_frames(b);
	for (uint64_t number = 2; number < 5; number++) {
		round_begin(b, number, true);
		change(b, 1, 2, &x); /* and again */
		change(b, 2, 2, &x); /* and is zeroes */
		change(b, 3, 2, &x); /* and is as it was */
		capture_page(b, 4);  /* unchanged, and then changed */
		assert_int_equal(encode(b), 0);
		expect_kinds(b, 1, "ddd");
		round_begin(b, number, false);
		change(b, 1, 2, &x);
		capture(b, 2, 'z', 0);
		capture_page(b, 3);
		change(b, 4, 2, &x);
		change(b, 5, 2, &x); /* only now */
		assert_int_equal(encode(b), 0);
		expect_types(b, "BPPE");
		expect_kinds(b, 2, "wzwwd");
		expect_same_memory(b);
		drop_frames(b);
	}
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
};

static void apply(struct peers *p, struct pending *e)
{
	if (!e->waits)
		return;
	e->waits = false;
	assert_int_equal(store_each_page(e->store, receive_page, p->b), 0);
	assert_int_equal(memcmp(p->b->received, e->memory, sizeof(e->memory)),
			 0);
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
	uint64_t rounds = 1 + next_random(&p->x) % 3;
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
		FRESH(a_page_of_two_rounds_is_whole_in_the_second),
		FRESH(a_new_connection_gets_all_of_it_whole),
		FRESH(a_peer_is_sent_no_more_deltas_than_it_wants),
		FRESH(where_nothing_waits_nothing_is_compressed),
		FRESH(any_shadow_gives_the_same_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
