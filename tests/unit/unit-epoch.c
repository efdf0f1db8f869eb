/* SPDX-License-Identifier: Apache-2.0 */
/* stream/epoch.c, and the whole way: epoch, frames, store, guest memory. */
#include "config.h"

#include "stream/epoch.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "stream/messages.h"
#include "stream/store.h"
#include "tests/unit/unit-stream.h"

enum { FRAMES_MAX = 256, GUEST_PAGES = 512, STATE_ROOM = 600 * 1024 };

/* A sink that keeps the frames, and a guest's memory on either side. */
struct bench {
	struct epoch *epoch;
	struct epoch_encoder *encoder;
	struct frame_sink sink;
	struct frame_buf *frames[FRAMES_MAX];
	size_t count;
	size_t refuse_at; /* the call of get that finds no buffer */
	size_t gets;
	uint64_t sent_bytes;
	uint8_t sent[GUEST_PAGES][WIRE_PAGE_BYTES];
	uint8_t received[GUEST_PAGES][WIRE_PAGE_BYTES];
};

static struct frame_buf *bench_get(void *arg)
{
	struct bench *b = arg;

	if (b->gets++ == b->refuse_at)
		return NULL;
	return frame_buf_new(0, 0, WIRE_PAYLOAD_MAX);
}

static void bench_put(void *arg, struct frame_buf *f)
{
	struct bench *b = arg;

	assert_true(b->count < FRAMES_MAX);
	b->frames[b->count++] = f;
}

static void drop_frames(struct bench *b)
{
	for (size_t i = 0; i < b->count; i++)
		b->frames[i]->release(b->frames[i]);
	b->count = 0;
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	b->epoch = epoch_new(GUEST_PAGES, STATE_ROOM);
	b->encoder = epoch_encoder_new(1);
	b->sink = (struct frame_sink){ bench_get, bench_put, b };
	b->refuse_at = SIZE_MAX;
	*state = b;
	return b->epoch && b->encoder ? 0 : -1;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	drop_frames(b);
	epoch_free(b->epoch);
	epoch_encoder_free(b->encoder);
	free(b);
	return 0;
}

/* Starts a round of epoch `number` without pages and state. */
static void round_begin(struct bench *b, uint64_t number, bool partial)
{
	b->epoch->number = number;
	b->epoch->partial = partial;
	b->epoch->page_count = 0;
	b->epoch->state_bytes = 0;
}

/* The guest writes a page and the capture takes it: z(ero), t(ext), n(oise). */
static void capture(struct bench *b, uint64_t gfn, char kind, uint64_t seed)
{
	struct epoch *e = b->epoch;
	uint8_t *page = b->sent[gfn];

	memset(page, 0, WIRE_PAGE_BYTES);
	if (kind == 't')
		fill_text(page, seed);
	else if (kind == 'n')
		fill_noise(page, WIRE_PAGE_BYTES, seed);
	e->gfns[e->page_count] = gfn;
	memcpy(e->pages + e->page_count * WIRE_PAGE_BYTES, page,
	       WIRE_PAGE_BYTES);
	e->page_count++;
}

static void capture_state(struct bench *b, uint32_t length)
{
	struct cursor c =
		cursor_over(b->epoch->state, b->epoch->state_capacity);
	uint8_t *body = record_put(&c, WIRE_RECORD_HVM_CONTEXT, length);

	assert_non_null(body);
	fill_noise(body, length, 99);
	b->epoch->state_bytes = (size_t)(c.at - b->epoch->state);
}

static int encode(struct bench *b)
{
	return epoch_encode(b->encoder, b->epoch, &b->sink, &b->sent_bytes);
}

static int receive_page(void *arg, uint64_t gfn, const uint8_t *bytes)
{
	struct bench *b = arg;

	assert_true(gfn < GUEST_PAGES);
	if (bytes)
		memcpy(b->received[gfn], bytes, WIRE_PAGE_BYTES);
	else
		memset(b->received[gfn], 0, WIRE_PAGE_BYTES);
	return 0;
}

/* Feeds one frame to the store as the secondary would. */
static int deliver(struct store *s, struct frame_buf *b)
{
	struct frame f = frame_of(b);
	struct wire_epoch_end end;
	const char *why;

	switch (f.type) {
	case WIRE_EPOCH_BEGIN:
		assert_int_equal(f.length, 0);
		store_begin(s, f.epoch);
		return 0;
	case WIRE_PAGES:
		return store_pages(s, f.payload, f.length, &why);
	case WIRE_STATE:
		return store_state(s, f.payload, f.length, &why);
	default:
		assert_int_equal(f.type, WIRE_EPOCH_END);
		assert_int_equal(epoch_end_decode(&f, &end, &why), 0);
		return store_end(s, &end, &why);
	}
}

/* Delivers all frames but number `lost`; the caller frees the store. */
static struct store *transfer(struct bench *b, size_t lost)
{
	struct store *s = store_new((uint64_t)GUEST_PAGES * WIRE_PAGE_BYTES,
				    GUEST_PAGES - 1);

	assert_non_null(s);
	for (size_t i = 0; i < b->count; i++) {
		int err = i == lost ? 0 : deliver(s, b->frames[i]);

		assert_true(err == 0 || lost < b->count);
	}
	return s;
}

/* Delivers, applies, and compares the guest's memory on both sides. */
static void expect_same_memory(struct bench *b)
{
	struct store *s = transfer(b, SIZE_MAX);

	assert_true(store_complete(s));
	assert_int_equal(store_number(s), b->epoch->number);
	assert_int_equal(store_each_page(s, receive_page, b), 0);
	assert_memory_equal(b->sent, b->received, sizeof(b->sent));
	store_free(s);
}

static void expect_types(struct bench *b, const char *letters)
{
	char got[FRAMES_MAX + 1] = { 0 };

	for (size_t i = 0; i < b->count; i++) {
		switch (b->frames[i]->type) {
		case WIRE_EPOCH_BEGIN:
			got[i] = 'B';
			break;
		case WIRE_PAGES:
			got[i] = 'P';
			break;
		case WIRE_STATE:
			got[i] = 'S';
			break;
		case WIRE_EPOCH_END:
			got[i] = 'E';
			break;
		default:
			got[i] = '?';
			break;
		}
		assert_int_equal(b->frames[i]->epoch, b->epoch->number);
	}
	assert_string_equal(got, letters);
}

static void an_arena_is_touched(void **state)
{
	const size_t pages = 1000;
	struct epoch *e = epoch_new(pages, WIRE_STATE_MAX);
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const struct {
		uint8_t *at;
		size_t bytes;
	} parts[] = {
		{ e->pages, pages * WIRE_PAGE_BYTES },
		{ (uint8_t *)e->gfns, pages * sizeof(uint64_t) },
		{ e->state, WIRE_STATE_MAX },
	};

	(void)state;
	assert_non_null(e);
	for (int i = 0; i < 3; i++) {
		size_t n = (parts[i].bytes + page - 1) / page;
		AUTO_FREE unsigned char *present = malloc(n);

		assert_int_equal(mincore(parts[i].at, parts[i].bytes, present),
				 0);
		for (size_t p = 0; p < n; p++)
			assert_true(present[p] & 1);
	}
	epoch_free(e);
}

static void capacities_reach_from_none_to_their_limit(void **state)
{
	struct epoch *e = epoch_new(0, 0);

	(void)state;
	assert_non_null(e);
	assert_int_equal(e->page_capacity, 0);
	assert_int_equal(e->state_capacity, 0);
	epoch_free(e);

	e = epoch_new(1, SIZE_MAX);
	assert_non_null(e);
	assert_int_equal(e->state_capacity, WIRE_STATE_MAX);
	epoch_free(e);

	assert_null(epoch_new(SIZE_MAX, 0));
	assert_null(epoch_new(SIZE_MAX / WIRE_PAGE_BYTES + 2, 0));
	epoch_free(NULL);
}

static void an_epoch_arrives_as_it_was(void **state)
{
	const char kinds[] = "ttznttn";
	struct bench *b = *state;

	round_begin(b, 1, false);
	for (uint64_t gfn = 0; gfn < 301; gfn++)
		capture(b, gfn, kinds[gfn % 7], gfn);
	capture_state(b, 1000);
	assert_int_equal(encode(b), 0);
	expect_types(b, "BPPPPPPSE");
	expect_same_memory(b);
}

static void batches_are_cut_at_their_limit(void **state)
{
	static const struct {
		uint64_t pages;
		const char *types;
	} cases[] = {
		{ 0, "BE" },
		{ 1, "BPE" },
		{ WIRE_BATCH_PAGES - 1, "BPE" },
		{ WIRE_BATCH_PAGES, "BPE" },
		{ WIRE_BATCH_PAGES + 1, "BPPE" },
		{ 2 * WIRE_BATCH_PAGES, "BPPE" },
	};
	struct bench *b = *state;

	for (int i = 0; i < 6; i++) {
		round_begin(b, (uint64_t)i + 1, false);
		for (uint64_t gfn = 0; gfn < cases[i].pages; gfn++)
			capture(b, gfn, 'n', gfn);
		assert_int_equal(encode(b), 0);
		expect_types(b, cases[i].types);
		expect_same_memory(b);
		drop_frames(b);
	}
}

static void state_is_cut_at_its_limit(void **state)
{
	static const struct {
		uint32_t length;
		const char *types;
	} cases[] = {
		{ WIRE_PAYLOAD_MAX - 8, "BSE" },
		{ WIRE_PAYLOAD_MAX - 7, "BSSE" },
		{ 2 * WIRE_PAYLOAD_MAX - 8, "BSSE" },
		{ 2 * WIRE_PAYLOAD_MAX, "BSSSE" },
	};
	struct bench *b = *state;

	for (int i = 0; i < 4; i++) {
		AUTO_FREE uint8_t *body = malloc(cases[i].length);
		struct store *s;
		struct record r;

		round_begin(b, 1, false);
		capture_state(b, cases[i].length);
		assert_int_equal(encode(b), 0);
		expect_types(b, cases[i].types);
		s = transfer(b, SIZE_MAX);
		assert_true(store_complete(s));
		assert_true(store_record(s, WIRE_RECORD_HVM_CONTEXT, &r));
		assert_int_equal(r.length, cases[i].length);
		fill_noise(body, cases[i].length, 99);
		assert_memory_equal(r.body, body, r.length);
		store_free(s);
		drop_frames(b);
	}
}

static void later_rounds_override_earlier_ones(void **state)
{
	struct bench *b = *state;

	round_begin(b, 9, true);
	for (uint64_t gfn = 10; gfn < 110; gfn++)
		capture(b, gfn, 't', gfn);
	assert_int_equal(encode(b), 0);
	round_begin(b, 9, true);
	capture(b, 20, 'z', 0);
	capture(b, 21, 'n', 5);
	capture(b, 200, 'n', 6);
	/* State of a round that is not the last is not sent. */
	capture_state(b, 100);
	assert_int_equal(encode(b), 0);
	round_begin(b, 9, false);
	capture(b, 20, 't', 77);
	capture(b, 200, 'z', 0);
	capture_state(b, 50);
	assert_int_equal(encode(b), 0);
	expect_types(b, "BPPPPSE");
	expect_same_memory(b);
}

static void the_next_epoch_starts_from_nothing(void **state)
{
	struct bench *b = *state;

	for (uint64_t number = 1; number <= 3; number++) {
		round_begin(b, number, false);
		for (uint64_t gfn = 0; gfn < 70; gfn++)
			capture(b, gfn, gfn % 2 ? 't' : 'z', gfn + number);
		assert_int_equal(encode(b), 0);
		expect_types(b, "BPPE");
		expect_same_memory(b);
		drop_frames(b);
	}
}

static void sent_bytes_are_counted(void **state)
{
	struct bench *b = *state;
	uint64_t sum = 1000;

	round_begin(b, 1, false);
	for (uint64_t gfn = 0; gfn < 70; gfn++)
		capture(b, gfn, 't', gfn);
	capture_state(b, 10);
	b->sent_bytes = 1000;
	assert_int_equal(encode(b), 0);
	for (size_t i = 0; i < b->count; i++)
		sum += b->frames[i]->length;
	assert_int_equal(b->sent_bytes, sum);
}

static void any_lost_frame_leaves_the_store_incomplete(void **state)
{
	struct bench *b = *state;

	round_begin(b, 1, false);
	for (uint64_t gfn = 0; gfn < 130; gfn++)
		capture(b, gfn, 't', gfn);
	capture_state(b, WIRE_PAYLOAD_MAX);
	assert_int_equal(encode(b), 0);
	expect_types(b, "BPPPSSE");
	for (size_t lost = 0; lost < b->count; lost++) {
		struct store *s = transfer(b, lost);

		assert_false(store_complete(s));
		store_free(s);
	}
}

static void without_a_buffer_encoding_ends(void **state)
{
	struct bench *b = *state;

	round_begin(b, 1, false);
	for (uint64_t gfn = 0; gfn < 130; gfn++)
		capture(b, gfn, 't', gfn);
	capture_state(b, WIRE_PAYLOAD_MAX);
	for (size_t at = 0; at < 7; at++) {
		b->gets = 0;
		b->refuse_at = at;
		assert_int_equal(encode(b), -ECANCELED);
		assert_int_equal(b->gets, at + 1);
		assert_int_equal(b->count, at);
		drop_frames(b);
		/* A new connection starts with a whole epoch. */
		epoch_encoder_reset(b->encoder);
		b->refuse_at = SIZE_MAX;
		assert_int_equal(encode(b), 0);
		expect_types(b, "BPPPSSE");
		expect_same_memory(b);
		drop_frames(b);
	}
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_arena_is_touched),
		cmocka_unit_test(capacities_reach_from_none_to_their_limit),
		FRESH(an_epoch_arrives_as_it_was),
		FRESH(batches_are_cut_at_their_limit),
		FRESH(state_is_cut_at_its_limit),
		FRESH(later_rounds_override_earlier_ones),
		FRESH(the_next_epoch_starts_from_nothing),
		FRESH(sent_bytes_are_counted),
		FRESH(any_lost_frame_leaves_the_store_incomplete),
		FRESH(without_a_buffer_encoding_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
