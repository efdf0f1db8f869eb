/* SPDX-License-Identifier: Apache-2.0 */
/* engine/intake.c: frames of the real encoder in, verified epochs out. */
#include "config.h"

#include "engine/intake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cursor.h"
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

static void on_stored(void *arg, int err, const char *why, uint64_t epoch,
		      struct store *s)
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

static void on_pause(void *arg, bool paused)
{
	struct rig *r = arg;

	r->pauses += paused;
	r->resumes += !paused;
	assert_int_equal(r->pauses - r->resumes, paused);
}

static void on_moving(void *arg)
{
	struct rig *r = arg;

	assert_true(r->pauses > r->resumes);
	r->movings++;
}

static bool enough(void *arg)
{
	struct rig *r = arg;

	return r->stored_count + r->error_count >= r->wanted;
}

static void expect_stored(struct rig *r, unsigned int wanted)
{
	r->wanted = wanted;
	loop_until(r->loop, enough, r);
	assert_int_equal(r->stored_count, wanted);
	assert_int_equal(r->error_count, 0);
}

/* --- frames ------------------------------------------------------------- */

static struct frame_buf *sink_get(void *arg)
{
	(void)arg;
	return frame_buf_new(0, 0, WIRE_PAYLOAD_MAX);
}

static void sink_put(void *arg, struct frame_buf *b)
{
	struct rig *r = arg;

	assert_true(r->frame_count < FRAMES_MAX);
	r->frames[r->frame_count++] = b;
}

static void sink_unget(void *arg, struct frame_buf *b)
{
	(void)arg;
	b->release(b);
}

static bool sink_behind(void *arg)
{
	(void)arg;
	return true;
}

static void drop_frames(struct rig *r)
{
	while (r->frame_count) {
		struct frame_buf *b = r->frames[--r->frame_count];

		b->release(b);
	}
}

/* The frames of an epoch of `pages` pages of noise. */
static void encode(struct rig *r, uint64_t number, size_t pages)
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
	assert_int_equal(epoch_encode(r->encoder, e, &r->peer, &sink, &sent),
			 0);
}

static void put(struct rig *r, const struct frame_buf *b)
{
	struct frame f = frame_of((struct frame_buf *)(uintptr_t)b);

	assert_int_equal(intake_put(r->intake, &f), 0);
}

static void put_all(struct rig *r)
{
	size_t i;

	for (i = 0; i < r->frame_count; i++)
		put(r, r->frames[i]);
}

static void put_epoch(struct rig *r, uint64_t number, size_t pages)
{
	encode(r, number, pages);
	put_all(r);
}

static void give_back(struct rig *r, unsigned int i)
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

static int group_setup(void **state)
{
	(void)state;
	arena = epoch_new(BIG_PAGES, STATE_ROOM);
	if (!arena)
		return -1;
	fill_noise(arena->pages, (size_t)BIG_PAGES * WIRE_PAGE_BYTES, 1);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	epoch_free(arena);
	return 0;
}

/* The primary sends deltas; the intake takes them, or does not. */
static int setup_with(void **state, bool deltas, uint64_t memory_bytes)
{
	const struct intake_config cfg = {
		.ram_bytes = (uint64_t)GUEST_PAGES * WIRE_PAGE_BYTES,
		.max_gfn = GUEST_PAGES - 1,
		.deltas = deltas,
		.memory_bytes = memory_bytes,
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

static int setup(void **state)
{
	return setup_with(state, true, 0);
}

/* Three eighths for each of two epochs, a quarter for what waits in front. */
static int setup_limited(void **state)
{
	return setup_with(state, true, UINT64_C(16) << 20);
}

static int setup_whole(void **state)
{
	return setup_with(state, false, 0);
}

static int teardown(void **state)
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

/* --- the happy path ----------------------------------------------------- */

/* What a standby has; a delta is of it. */
static uint8_t standby[300][WIRE_PAGE_BYTES];

struct applied {
	const struct epoch *e;
	size_t kinds[3];
};

static int apply_page(void *arg, const struct page_item *item)
{
	struct applied *a = arg;

	assert_true(item->gfn < a->e->page_count);
	a->kinds[item->kind]++;
	page_item_apply(item, standby[item->gfn]);
	assert_memory_equal(standby[item->gfn],
			    a->e->pages + item->gfn * WIRE_PAGE_BYTES,
			    WIRE_PAGE_BYTES);
	return 0;
}

/* Epoch n has n * 30 pages; says how many of them were deltas. */
static size_t apply(struct rig *r, unsigned int n)
{
	struct store *s = r->stores[n - 1];
	struct applied a = { .e = r->arena };

	assert_int_equal(r->stored[n - 1], n);
	assert_int_equal(store_page_count(s), n * 30);
	assert_int_equal(store_each_page(s, apply_page, &a), 0);
	give_back(r, n - 1);
	return a.kinds[WIRE_PAGE_DELTA];
}

static void test_epochs_in_order(void **state)
{
	struct rig *r = *state;
	uint64_t bytes = 0;
	unsigned int n;
	size_t i;

	for (n = 1; n <= 10; n++) {
		put_epoch(r, n, n * 30);
		for (i = 0; i < r->frame_count; i++)
			bytes += r->frames[i]->length;
		expect_stored(r, n);
		/* All that the epochs before had. */
		assert_int_equal(apply(r, n), (n - 1) * 30);
	}
	assert_int_equal(intake_bytes(r->intake), bytes);
	assert_int_equal(r->pauses, 0);
}

static void test_whole_pages_only(void **state)
{
	struct rig *r = *state;

	r->peer.shadow_bytes = 0;
	for (unsigned int n = 1; n <= 3; n++) {
		put_epoch(r, n, n * 30);
		expect_stored(r, n);
		assert_int_equal(apply(r, n), 0);
	}
}

static void test_one_is_filled_while_one_is_applied(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 10);
	put_epoch(r, 2, 10);
	expect_stored(r, 2);
	assert_ptr_not_equal(r->stores[0], r->stores[1]);
	put_epoch(r, 3, 10);
	loop_for(r->loop, 20 * 1000);
	assert_int_equal(r->stored_count, 2); /* there is no third */
	give_back(r, 0);
	expect_stored(r, 3);
	assert_int_equal(store_page_count(r->stores[2]), 10);
	assert_int_equal(r->stored[2], 3);
}

static void test_payload_is_copied(void **state)
{
	struct rig *r = *state;
	size_t i;

	encode(r, 1, 100);
	for (i = 0; i < r->frame_count; i++) {
		put(r, r->frames[i]);
		memset(frame_payload(r->frames[i]), 0xee, r->frames[i]->length);
	}
	expect_stored(r, 1);
}

static void test_pause_bounds_the_queue(void **state)
{
	struct rig *r = *state;
	size_t i, paused_at = 0, queued = 0;

	put_epoch(r, 1, 1);
	put_epoch(r, 2, 1);
	expect_stored(r, 2);
	encode(r, 3, BIG_PAGES);
	for (i = 0; i < r->frame_count; i++) {
		put(r, r->frames[i]);
		queued += r->frames[i]->length;
		if (r->pauses && !paused_at)
			paused_at = queued;
	}
	assert_int_equal(r->pauses, 1);
	assert_true(paused_at > 32u << 20);
	assert_true(paused_at <= (32u << 20) + WIRE_PAYLOAD_MAX);
	loop_for(r->loop, 10 * 1000);
	assert_int_equal(r->resumes, 0);
	assert_int_equal(r->movings, 0); /* both stores are in use */
	give_back(r, 0);
	expect_stored(r, 3);
	assert_int_equal(r->resumes, 1);
	assert_true(r->movings > 50); /* the peer was not silent, we were */
	assert_int_equal(store_page_count(r->stores[2]), BIG_PAGES);
}

static void test_a_limit_bounds_epochs_and_the_queue(void **state)
{
	struct rig *r = *state;
	size_t i, paused_at = 0, queued = 0;
	unsigned int pauses;

	r->peer.shadow_bytes = 0;
	put_epoch(r, 1, 1400);
	put_epoch(r, 2, 1);
	expect_stored(r, 2);
	/* Both stores are in use: it waits. */
	pauses = r->pauses;
	encode(r, 3, 1700);
	for (i = 0; i < r->frame_count; i++) {
		put(r, r->frames[i]);
		queued += r->frames[i]->length;
		if (r->pauses > pauses && !paused_at)
			paused_at = queued;
	}
	assert_true(paused_at > 4u << 20);
	assert_true(paused_at <= (4u << 20) + WIRE_PAYLOAD_MAX);
	give_back(r, 0);
	r->wanted = 3;
	loop_until(r->loop, enough, r);
	assert_int_equal(r->err, -E2BIG);
	assert_int_equal(r->err_epoch, 3);
	assert_non_null(strstr(r->why, "--memory-limit"));
	assert_int_equal(r->resumes, pauses + 1);
}

/* --- malformed frames --------------------------------------------------- */

/* One error, and nothing behind it, however well-formed. */
static void expect_error(struct rig *r, int err, uint64_t epoch,
			 const char *why)
{
	unsigned int before = r->stored_count;

	put_epoch(r, 8, 10);
	put_epoch(r, 9, 10);
	r->wanted = before + 1;
	loop_until(r->loop, enough, r);
	loop_for(r->loop, 20 * 1000);
	assert_int_equal(r->error_count, 1);
	assert_int_equal(r->stored_count, before);
	assert_int_equal(r->err, err);
	assert_int_equal(r->err_epoch, epoch);
	if (why)
		assert_string_equal(r->why, why);
	assert_true(r->why[0]);
	assert_null(strchr(r->why, '\n'));
}

static void put_one(struct rig *r, uint16_t type, uint64_t epoch)
{
	const struct frame f = { .type = type, .epoch = epoch };

	assert_int_equal(intake_put(r->intake, &f), 0);
}

static void test_wrong_checksum(void **state)
{
	struct rig *r = *state;

	encode(r, 1, 10);
	frame_payload(r->frames[r->frame_count - 1])[16] ^= 1;
	put_all(r);
	expect_error(r, -EBADMSG, 1, NULL);
}

static void test_changed_page(void **state)
{
	struct rig *r = *state;

	encode(r, 1, 10);
	assert_int_equal(r->frames[1]->type, WIRE_PAGES);
	frame_payload(r->frames[1])[r->frames[1]->length - 1] ^= 1;
	put_all(r);
	expect_error(r, -EBADMSG, 1, NULL);
}

static void test_missing_frame(void **state)
{
	struct rig *r = *state;
	size_t i;

	encode(r, 1, 200);
	for (i = 0; i < r->frame_count; i++)
		if (i != 2)
			put(r, r->frames[i]);
	expect_error(r, -EBADMSG, 1, NULL);
}

static void test_after_good_ones(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 10);
	expect_stored(r, 1);
	encode(r, 2, 10);
	frame_payload(r->frames[1])[0] = 0xff; /* the count of entries */
	put_all(r);
	expect_error(r, -EPROTO, 2, NULL);
	give_back(r, 0); /* what was handed over stays good */
}

static void test_deltas_where_none_may_come(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 10);
	expect_stored(r, 1);
	put_epoch(r, 2, 10);
	expect_error(r, -EPROTO, 2, NULL);
}

/* The epoch that had them whole did not arrive. */
static void test_deltas_of_what_never_came(void **state)
{
	struct rig *r = *state;

	encode(r, 1, 10);
	encode(r, 2, 10);
	put_all(r);
	expect_error(r, -EPROTO, 2, NULL);
}

static void test_pages_outside_an_epoch(void **state)
{
	struct rig *r = *state;

	encode(r, 1, 10);
	put(r, r->frames[1]);
	expect_error(r, -EPROTO, 1, "a frame outside its epoch");
}

static void test_pages_of_another_epoch(void **state)
{
	struct rig *r = *state;

	put_one(r, WIRE_EPOCH_BEGIN, 1);
	encode(r, 2, 10);
	put(r, r->frames[1]);
	expect_error(r, -EPROTO, 2, "a frame outside its epoch");
}

static void test_begin_inside_an_epoch(void **state)
{
	struct rig *r = *state;

	put_one(r, WIRE_EPOCH_BEGIN, 1);
	put_one(r, WIRE_EPOCH_BEGIN, 2);
	expect_error(r, -EPROTO, 2, "EPOCH_BEGIN inside an epoch");
}

static void test_epoch_zero(void **state)
{
	struct rig *r = *state;

	put_one(r, WIRE_EPOCH_BEGIN, 0);
	expect_error(r, -EPROTO, 0, "epoch 0 is the image");
}

static void test_frame_of_no_epoch(void **state)
{
	struct rig *r = *state;

	put_one(r, WIRE_EPOCH_BEGIN, 1);
	put_one(r, WIRE_HELLO, 1);
	expect_error(r, -EPROTO, 1, "not a frame of an epoch");
}

static void test_end_without_an_end(void **state)
{
	struct rig *r = *state;

	put_one(r, WIRE_EPOCH_BEGIN, 1);
	put_one(r, WIRE_EPOCH_END, 1); /* without its payload */
	expect_error(r, -EPROTO, 1, NULL);
}

/* --- stopping ----------------------------------------------------------- */

static void test_stop_drops_what_is_queued(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 100);
	put_epoch(r, 2, 100);
	put_epoch(r, 3, 100);
	intake_stop(r->intake);
	loop_for(r->loop, 20 * 1000);
	assert_int_equal(r->stored_count, 0);
	assert_int_equal(r->error_count, 0);
}

/* It was decoded, but the loop has not heard of it yet. */
static void test_stop_behind_a_whole_epoch(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 10);
	clock_sleep_us(50 * 1000);
	intake_stop(r->intake);
	loop_for(r->loop, 5000);
	assert_int_equal(r->stored_count, 0);
}

static void test_stop_while_it_waits_for_a_store(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 10);
	put_epoch(r, 2, 10);
	expect_stored(r, 2);
	put_epoch(r, 3, 10);
	loop_for(r->loop, 5000);
	intake_stop(r->intake);
	loop_for(r->loop, 20 * 1000);
	assert_int_equal(r->stored_count, 2);
	assert_int_equal(r->error_count, 0); /* to be stopped is no error */
}

static void test_close_inside_an_epoch(void **state)
{
	struct rig *r = *state;
	size_t i;

	encode(r, 1, 500);
	for (i = 0; i + 2 < r->frame_count; i++)
		put(r, r->frames[i]);
	intake_close(r->intake);
	r->intake = NULL;
	loop_for(r->loop, 5000);
	assert_int_equal(r->stored_count, 0);
	intake_close(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_WHOLE(f) cmocka_unit_test_setup_teardown(f, setup_whole, teardown)
#define TEST_LIMITED(f) \
	cmocka_unit_test_setup_teardown(f, setup_limited, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_epochs_in_order),
		TEST_WHOLE(test_whole_pages_only),
		TEST(test_one_is_filled_while_one_is_applied),
		TEST(test_payload_is_copied),
		TEST(test_pause_bounds_the_queue),
		TEST_LIMITED(test_a_limit_bounds_epochs_and_the_queue),
		TEST(test_wrong_checksum),
		TEST(test_changed_page),
		TEST(test_missing_frame),
		TEST(test_after_good_ones),
		TEST_WHOLE(test_deltas_where_none_may_come),
		TEST(test_deltas_of_what_never_came),
		TEST(test_pages_outside_an_epoch),
		TEST(test_pages_of_another_epoch),
		TEST(test_begin_inside_an_epoch),
		TEST(test_epoch_zero),
		TEST(test_frame_of_no_epoch),
		TEST(test_end_without_an_end),
		TEST(test_stop_drops_what_is_queued),
		TEST(test_stop_behind_a_whole_epoch),
		TEST(test_stop_while_it_waits_for_a_store),
		TEST(test_close_inside_an_epoch),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
