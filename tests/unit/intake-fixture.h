/* SPDX-License-Identifier: Apache-2.0 */
/* An intake that is fed by the real encoder, and what it says. */
#ifndef TESTS_UNIT_INTAKE_FIXTURE_H
#define TESTS_UNIT_INTAKE_FIXTURE_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cursor.h"
#include "engine/intake.h"
#include "stream/epoch_encoder.h"
#include "stream/records.h"
#include "tests/unit/engine-loop.h"
#include "tests/unit/unit-stream.h"

enum {
	GUEST_PAGES = 10000,
	BIG_PAGES = 9000, /* of noise: more than the queue holds unpaused */
	FRAMES_MAX = 256,
	STORED_MAX = 16,
	STATE_ROOM = 4096,
};

struct rig {
	struct loop *loop;
	struct intake *intake;
	struct epoch *arena;
	struct epoch_encoder *encoder;
	struct epoch_peer peer;
	struct frame_buf *frames[FRAMES_MAX];
	size_t frame_count;

	struct store *stores[STORED_MAX];
	uint64_t stored[STORED_MAX]; /* epochs */
	unsigned int stored_count;
	unsigned int error_count;
	int err;
	char why[128];
	uint64_t err_epoch;

	unsigned int pauses, resumes, movings;
	unsigned int wanted; /* of stored_count + error_count */
};

/* --- the intake's events ------------------------------------------------ */

static inline void on_stored(void *arg, int err, const char *why,
			     uint64_t epoch, struct store *s)
{
	struct rig *r = arg;

	if (err) {
		assert_null(s);
		r->error_count++;
		r->err = err;
		r->err_epoch = epoch;
		snprintf(r->why, sizeof(r->why), "%s", why);
		return;
	}
	assert_true(store_complete(s));
	assert_int_equal(store_number(s), epoch);
	assert_true(r->stored_count < STORED_MAX);
	r->stores[r->stored_count] = s;
	r->stored[r->stored_count++] = epoch;
}

static inline void on_pause(void *arg, bool paused)
{
	struct rig *r = arg;

	r->pauses += paused;
	r->resumes += !paused;
	assert_int_equal(r->pauses - r->resumes, paused);
}

static inline void on_moving(void *arg)
{
	struct rig *r = arg;

	assert_true(r->pauses > r->resumes);
	r->movings++;
}

static inline bool enough(void *arg)
{
	struct rig *r = arg;

	return r->stored_count + r->error_count >= r->wanted;
}

static inline void expect_stored(struct rig *r, unsigned int wanted)
{
	r->wanted = wanted;
	loop_until(r->loop, enough, r);
	assert_int_equal(r->stored_count, wanted);
	assert_int_equal(r->error_count, 0);
}

/* --- frames ------------------------------------------------------------- */

static inline struct frame_buf *sink_get(void *arg)
{
	(void)arg;
	return frame_buf_new(0, 0, WIRE_PAYLOAD_MAX);
}

static inline void sink_put(void *arg, struct frame_buf *b)
{
	struct rig *r = arg;

	assert_true(r->frame_count < FRAMES_MAX);
	r->frames[r->frame_count++] = b;
}

static inline void sink_unget(void *arg, struct frame_buf *b)
{
	(void)arg;
	b->release(b);
}

static inline bool sink_behind(void *arg)
{
	(void)arg;
	return true;
}

static inline void drop_frames(struct rig *r)
{
	while (r->frame_count) {
		struct frame_buf *b = r->frames[--r->frame_count];

		b->release(b);
	}
}

/* The frames of an epoch of `pages` pages of noise. */
static inline void encode(struct rig *r, uint64_t number, size_t pages)
{
	const struct frame_sink sink = { sink_get, sink_put, sink_unget,
					 sink_behind, r };
	struct epoch *e = r->arena;
	struct cursor c = cursor_over(e->state, e->state_capacity);
	uint64_t sent = 0;
	size_t i;

	drop_frames(r);
	e->number = number;
	e->partial = false;
	e->page_count = pages;
	for (i = 0; i < pages; i++) {
		e->gfns[i] = i;
		/* The noise of an arena is as good as that of another. */
		memcpy(e->pages + i * WIRE_PAGE_BYTES, &number, sizeof(number));
	}
	assert_non_null(record_put(&c, WIRE_RECORD_HVM_CONTEXT, 64));
	e->state_bytes = (size_t)(c.at - e->state);
	assert_int_equal(
		epoch_encode(r->encoder, e, &r->peer, NULL, &sink, &sent), 0);
}

static inline void put(struct rig *r, const struct frame_buf *b)
{
	struct frame f = frame_of((struct frame_buf *)(uintptr_t)b);

	assert_int_equal(intake_put(r->intake, &f), 0);
}

static inline void put_all(struct rig *r)
{
	size_t i;

	for (i = 0; i < r->frame_count; i++)
		put(r, r->frames[i]);
}

static inline void put_epoch(struct rig *r, uint64_t number, size_t pages)
{
	encode(r, number, pages);
	put_all(r);
}

static inline void give_back(struct rig *r, unsigned int i)
{
	intake_release(r->intake, r->stores[i]);
	r->stores[i] = NULL;
}

static const struct intake_events events = {
	.stored = on_stored,
	.pause = on_pause,
	.moving = on_moving,
};

static struct epoch *arena; /* noise, made once */

static inline int group_setup(void **state)
{
	(void)state;
	arena = epoch_new(BIG_PAGES, STATE_ROOM);
	if (!arena)
		return -1;
	fill_noise(arena->pages, (size_t)BIG_PAGES * WIRE_PAGE_BYTES, 1);
	for (size_t i = 0; i < BIG_PAGES; i++)
		arena->where[i] = arena->pages + i * WIRE_PAGE_BYTES;
	return 0;
}

static inline int group_teardown(void **state)
{
	(void)state;
	epoch_free(arena);
	return 0;
}

/* The primary sends deltas; the intake takes them, or does not. */
static inline int setup_with(void **state, bool deltas, uint64_t memory_bytes)
{
	const struct intake_config cfg = {
		.ram_bytes = (uint64_t)GUEST_PAGES * WIRE_PAGE_BYTES,
		.max_gfn = GUEST_PAGES - 1,
		.deltas = deltas,
		.memory_bytes = memory_bytes,
		.disks = { .disk_dir = "/nowhere", .domain = "guest" },
	};
	static struct rig r;

	memset(&r, 0, sizeof(r));
	*state = &r;
	r.arena = arena;
	r.encoder = epoch_encoder_new(0);
	r.peer = (struct epoch_peer){
		.connection = 1,
		.max_gfn = GUEST_PAGES - 1,
		.shadow_bytes = (uint64_t)GUEST_PAGES * WIRE_PAGE_BYTES,
		.shadow_room = UINT64_MAX,
	};
	return !r.encoder || loop_open(&r.loop) ||
	       intake_open(r.loop, &cfg, &events, &r, &r.intake);
}

static inline int setup(void **state)
{
	return setup_with(state, true, 0);
}

/* Three eighths for each of two epochs, a quarter for what waits in front. */
static inline int setup_limited(void **state)
{
	return setup_with(state, true, UINT64_C(16) << 20);
}

static inline int setup_whole(void **state)
{
	return setup_with(state, false, 0);
}

static inline int teardown(void **state)
{
	struct rig *r = *state;
	unsigned int i;

	if (r->intake)
		intake_stop(r->intake);
	for (i = 0; r->intake && i < r->stored_count; i++)
		if (r->stores[i])
			give_back(r, i);
	intake_close(r->intake);
	loop_for(r->loop, 1000);
	loop_close(r->loop);
	drop_frames(r);
	epoch_encoder_free(r->encoder);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_WHOLE(f) cmocka_unit_test_setup_teardown(f, setup_whole, teardown)
#define TEST_LIMITED(f) \
	cmocka_unit_test_setup_teardown(f, setup_limited, teardown)

#endif
