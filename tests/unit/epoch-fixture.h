/* SPDX-License-Identifier: Apache-2.0 */
/* The whole way: epoch, frames, store, guest memory. */
#ifndef TESTS_UNIT_EPOCH_FIXTURE_H
#define TESTS_UNIT_EPOCH_FIXTURE_H

#include <errno.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "stream/epoch_encoder.h"
#include "stream/history.h"
#include "stream/messages.h"
#include "stream/store.h"
#include "tests/unit/unit-stream.h"

enum {
	FRAMES_MAX = 256,
	GUEST_PAGES = 512,
	STATE_ROOM = 600 * 1024,
	/* As many whole pages fit one payload raw. */
	WHOLE_PAGES = (WIRE_PAYLOAD_MAX - 8) / (8 + WIRE_PAGE_BYTES),
};

/* A sink that keeps the frames, and a guest's memory on either side. */
struct bench {
	struct epoch *epoch;
	struct epoch_encoder *encoder;
	struct epoch_peer peer;
	struct history *history; /* the other side's, of this connection */
	struct frame_sink sink;
	const struct epoch_changes *changes;
	struct frame_buf *frames[FRAMES_MAX];
	size_t count;
	size_t refuse_at; /* the call of get that finds no buffer */
	size_t gets;
	size_t ungets;
	bool behind;
	uint64_t sent_bytes;
	uint8_t sent[GUEST_PAGES][WIRE_PAGE_BYTES];
	uint8_t received[GUEST_PAGES][WIRE_PAGE_BYTES];
};

static inline struct frame_buf *bench_get(void *arg)
{
	struct bench *b = arg;

	if (b->gets++ == b->refuse_at)
		return NULL;
	return frame_buf_new(0, 0, WIRE_PAYLOAD_MAX);
}

static inline void bench_put(void *arg, struct frame_buf *f)
{
	struct bench *b = arg;

	assert_true(b->count < FRAMES_MAX);
	b->frames[b->count++] = f;
}

static inline void bench_unget(void *arg, struct frame_buf *f)
{
	struct bench *b = arg;

	b->ungets++;
	f->release(f);
}

static inline bool bench_behind(void *arg)
{
	return ((struct bench *)arg)->behind;
}

static inline void drop_frames(struct bench *b)
{
	for (size_t i = 0; i < b->count; i++)
		b->frames[i]->release(b->frames[i]);
	b->count = 0;
}

/* The other side forgets, and this side finds buffers again. */
static inline void reconnect(struct bench *b)
{
	b->peer.connection++;
	history_free(b->history);
	b->history = history_new(GUEST_PAGES - 1);
	assert_non_null(b->history);
	b->refuse_at = SIZE_MAX;
}

static inline int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	b->epoch = epoch_new(GUEST_PAGES, STATE_ROOM);
	b->encoder = epoch_encoder_new(1);
	b->sink = (struct frame_sink){ bench_get, bench_put, bench_unget,
				       bench_behind, b };
	b->behind = true;
	b->peer.max_gfn = GUEST_PAGES - 1;
	b->peer.shadow_bytes = (uint64_t)GUEST_PAGES * WIRE_PAGE_BYTES;
	b->peer.shadow_room = UINT64_MAX;
	reconnect(b);
	*state = b;
	return b->epoch && b->encoder ? 0 : -1;
}

static inline int teardown(void **state)
{
	struct bench *b = *state;

	drop_frames(b);
	epoch_free(b->epoch);
	epoch_encoder_free(b->encoder);
	history_free(b->history);
	free(b);
	return 0;
}

/* Starts a round of epoch `number` without pages and state. */
static inline void round_begin(struct bench *b, uint64_t number, bool partial)
{
	b->epoch->number = number;
	b->epoch->partial = partial;
	b->epoch->page_count = 0;
	b->epoch->state_bytes = 0;
}

static inline void capture_page(struct bench *b, uint64_t gfn)
{
	assert_true(epoch_put(b->epoch, gfn, b->sent[gfn]));
}

/* The guest writes a page and the capture takes it: z(ero), t(ext), n(oise). */
static inline void capture(struct bench *b, uint64_t gfn, char kind,
			   uint64_t seed)
{
	uint8_t *page = b->sent[gfn];

	memset(page, 0, WIRE_PAGE_BYTES);
	if (kind == 't')
		fill_text(page, seed);
	else if (kind == 'n')
		fill_noise(page, WIRE_PAGE_BYTES, seed);
	capture_page(b, gfn);
}

static inline void capture_state(struct bench *b, uint32_t length)
{
	struct cursor c =
		cursor_over(b->epoch->state, b->epoch->state_capacity);
	uint8_t *body = record_put(&c, WIRE_RECORD_HVM_CONTEXT, length);

	assert_non_null(body);
	fill_noise(body, length, 99);
	b->epoch->state_bytes = (size_t)(c.at - b->epoch->state);
}

static inline int encode(struct bench *b)
{
	return epoch_encode(b->encoder, b->epoch, &b->peer, b->changes,
			    &b->sink, &b->sent_bytes);
}

static inline int receive_page(void *arg, const struct page_item *item)
{
	struct bench *b = arg;

	assert_true(item->gfn < GUEST_PAGES);
	page_item_apply(item, b->received[item->gfn]);
	return 0;
}

/* Feeds one frame to the store as the secondary would. */
static inline int deliver(struct store *s, struct frame_buf *b)
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
	case WIRE_DISK:
		return store_disk(s, f.payload, f.length, &why);
	case WIRE_STATE:
		return store_state(s, f.payload, f.length, &why);
	default:
		assert_int_equal(f.type, WIRE_EPOCH_END);
		assert_int_equal(epoch_end_decode(&f, &end, &why), 0);
		return store_end(s, &end, &why);
	}
}

/* Delivers all frames but number `lost`; the caller frees the store. */
static inline struct store *transfer(struct bench *b, size_t lost)
{
	struct store *s = store_new((uint64_t)GUEST_PAGES * WIRE_PAGE_BYTES,
				    GUEST_PAGES - 1, b->history);

	assert_non_null(s);
	for (size_t i = 0; i < b->count; i++) {
		int err = i == lost ? 0 : deliver(s, b->frames[i]);

		assert_true(err == 0 || lost < b->count);
	}
	return s;
}

/* Delivers, applies, and compares the guest's memory on both sides. */
static inline void expect_same_memory(struct bench *b)
{
	struct store *s = transfer(b, SIZE_MAX);

	assert_true(store_complete(s));
	assert_int_equal(store_number(s), b->epoch->number);
	assert_int_equal(store_each_page(s, receive_page, b), 0);
	assert_memory_equal(b->sent, b->received, sizeof(b->sent));
	store_free(s);
}

static inline void expect_types(struct bench *b, const char *letters)
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
		case WIRE_DISK:
			got[i] = 'D';
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

#define FRESH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
