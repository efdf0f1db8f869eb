/* SPDX-License-Identifier: Apache-2.0 */
/* resume/dirty.c: no written page is lost, and none is an old version. */
#include "config.h"

#include "resume/dirty.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* So far apart that most groups of the bitmaps are empty most of the time. */
enum { GFNS = 256, STRIDE = 1031, ROOM = 80 };
enum { WORDS = (GFNS - 1) * STRIDE / 64 + 1 };

/* A guest: its pages' versions, and what a standby would have of them. */
struct guest {
	struct dirty d;
	struct epoch *e;
	uint8_t memory[GFNS][WIRE_PAGE_BYTES];
	uint8_t standby[GFNS];
	bool apart[GFNS]; /* went in a round of its own of this epoch */
	uint64_t written[WORDS];
	size_t put;
};

static bool put(void *arg, struct epoch *e, uint64_t gfn)
{
	struct guest *g = arg;

	g->put++;
	return epoch_put(e, gfn, g->memory[gfn / STRIDE]);
}

static struct guest *guest_of(size_t room)
{
	struct guest *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	g->e = epoch_new(room, 4096);
	assert_non_null(g->e);
	assert_int_equal(epoch_index(g->e, (GFNS - 1) * STRIDE), 0);
	assert_int_equal(dirty_open(&g->d, WORDS, NULL), 0);
	dirty_reset(&g->d);
	return g;
}

static void guest_free(struct guest *g)
{
	dirty_close(&g->d);
	epoch_free(g->e);
	free(g);
}

/* The pages are called by their number, and are STRIDE gfns apart. */
static void guest_write(struct guest *g, uint64_t page)
{
	uint64_t gfn = page * STRIDE;

	g->memory[page][0]++;
	g->written[gfn / 64] |= UINT64_C(1) << gfn % 64;
}

/* What a tracker does: tells, and forgets. */
static void collect(struct guest *g)
{
	memcpy(g->d.bits, g->written, sizeof(g->written));
	memset(g->written, 0, sizeof(g->written));
}

static size_t ahead(struct guest *g)
{
	collect(g);
	return dirty_copy_ahead(&g->d, g->e, false, put, g);
}

static void send(struct guest *g)
{
	for (size_t i = 0; i < g->e->page_count; i++)
		g->standby[g->e->gfns[i] / STRIDE] =
			g->e->pages[i * WIRE_PAGE_BYTES];
}

static size_t count_again(const struct guest *g)
{
	size_t n = 0;

	for (size_t i = 0; i < g->e->page_count; i++)
		n += g->apart[g->e->gfns[i] / STRIDE];
	return n;
}

static void capture(struct guest *g)
{
	collect(g);
	dirty_copy(&g->d, g->e, put, g);
	dirty_captured(&g->d, g->e);
	assert_int_equal(g->e->again_count, count_again(g));
	if (!g->e->partial)
		memset(g->apart, 0, sizeof(g->apart));
	send(g);
}

/* A round of its own, and the arena is free for the next one. */
static size_t send_ahead(struct guest *g)
{
	size_t n;

	collect(g);
	n = dirty_copy_ahead(&g->d, g->e, true, put, g);
	for (size_t i = 0; i < g->e->page_count; i++)
		g->apart[g->e->gfns[i] / STRIDE] = true;
	send(g);
	epoch_clear(g->e);
	return n;
}

static void assert_same(const struct guest *g)
{
	for (size_t gfn = 0; gfn < GFNS; gfn++)
		assert_int_equal(g->standby[gfn], g->memory[gfn][0]);
}

static void what_is_written_again_is_copied_again(void **state)
{
	struct guest *g = guest_of(GFNS);

	(void)state;
	for (uint64_t gfn = 0; gfn < 100; gfn++)
		guest_write(g, gfn);
	assert_int_equal(ahead(g), 100);
	guest_write(g, 7);
	guest_write(g, 200);
	assert_int_equal(ahead(g), 2);
	guest_write(g, 7);
	guest_write(g, 8);
	g->put = 0;
	capture(g);
	assert_int_equal(g->put, 2);
	assert_int_equal(g->e->page_count, 101);
	assert_false(g->e->partial);
	assert_same(g);
	guest_free(g);
}

/* The request was not answered, so no capture came. */
static void what_was_copied_for_nothing_comes_again(void **state)
{
	struct guest *g = guest_of(GFNS);

	(void)state;
	guest_write(g, 3);
	guest_write(g, 4);
	assert_int_equal(ahead(g), 2);
	epoch_clear(g->e);
	guest_write(g, 4);
	assert_int_equal(ahead(g), 2);
	epoch_clear(g->e);
	capture(g);
	assert_int_equal(g->e->page_count, 2);
	assert_same(g);

	/* And not once more. */
	epoch_clear(g->e);
	capture(g);
	assert_int_equal(g->e->page_count, 0);
	epoch_clear(g->e);
	assert_int_equal(ahead(g), 0);
	guest_free(g);
}

static void what_went_ahead_does_not_come_again(void **state)
{
	struct guest *g = guest_of(GFNS);

	(void)state;
	for (uint64_t gfn = 0; gfn < 100; gfn++)
		guest_write(g, gfn);
	assert_int_equal(send_ahead(g), 100);
	guest_write(g, 7);
	guest_write(g, 8);
	guest_write(g, 200);
	capture(g);
	assert_int_equal(g->e->page_count, 3);
	assert_int_equal(g->e->again_count, 2);
	assert_same(g);

	/* What follows knows nothing of that. */
	epoch_clear(g->e);
	guest_write(g, 7);
	capture(g);
	assert_int_equal(g->e->page_count, 1);
	assert_int_equal(g->e->again_count, 0);
	assert_same(g);
	guest_free(g);
}

/* And is copied once more while the guest runs, with what was written since. */
static void what_went_ahead_may_be_ahead_again(void **state)
{
	struct guest *g = guest_of(GFNS);

	(void)state;
	for (uint64_t gfn = 0; gfn < 100; gfn++)
		guest_write(g, gfn);
	assert_int_equal(send_ahead(g), 100);
	for (int tries = 0; tries < 2; tries++) {
		guest_write(g, 7);
		guest_write(g, 200);
		assert_int_equal(ahead(g), 2);
		if (!tries) /* no capture comes: what was copied is lost */
			epoch_clear(g->e);
	}
	guest_write(g, 7);
	guest_write(g, 8);
	capture(g);
	assert_int_equal(g->e->page_count, 3);
	assert_int_equal(g->e->again_count, 2);
	assert_int_equal(g->d.last, 101);
	assert_same(g);
	guest_free(g);
}

static void what_did_not_fit_ahead_comes_with_the_capture(void **state)
{
	struct guest *g = guest_of(ROOM);

	(void)state;
	for (uint64_t gfn = 0; gfn < ROOM + 10; gfn++)
		guest_write(g, gfn);
	assert_int_equal(send_ahead(g), ROOM);
	guest_write(g, 3);
	capture(g);
	assert_false(g->e->partial);
	assert_int_equal(g->e->page_count, 11);
	assert_int_equal(g->e->again_count, 1);
	assert_same(g);
	guest_free(g);
}

static void a_full_epoch_leaves_the_rest_for_the_next(void **state)
{
	struct guest *g = guest_of(ROOM);
	bool partial;
	int rounds = 0;

	(void)state;
	for (uint64_t gfn = 0; gfn < 200; gfn++)
		guest_write(g, gfn);
	assert_int_equal(ahead(g), ROOM);
	do {
		capture(g);
		partial = g->e->partial;
		rounds++;
		if (partial) {
			/* Those always written must not starve others. */
			for (uint64_t gfn = 0; gfn < ROOM; gfn++)
				guest_write(g, gfn);
			epoch_clear(g->e);
		}
		assert_true(rounds < 10);
	} while (partial);
	assert_same(g);
	guest_free(g);
}

static void worth_is_told_by_the_last_epoch(void **state)
{
	struct guest *g = guest_of(GFNS);

	(void)state;
	assert_false(dirty_worth(&g->d));
	g->e->page_count = 100000;
	dirty_captured(&g->d, g->e);
	assert_true(dirty_worth(&g->d));
	g->e->page_count = 10;
	dirty_captured(&g->d, g->e);
	assert_false(dirty_worth(&g->d));
	guest_free(g);
}

/* In all of its rounds. */
static void worth_counts_what_went_ahead(void **state)
{
	struct guest *g = guest_of(GFNS);

	(void)state;
	g->d.apart_pages = 240;
	g->e->page_count = 20;
	g->e->again_count = 4;
	dirty_captured(&g->d, g->e);
	assert_true(dirty_worth(&g->d));
	g->d.apart_pages = 240;
	g->e->again_count = 5;
	dirty_captured(&g->d, g->e);
	assert_false(dirty_worth(&g->d));
	guest_free(g);
}

/* A small arena makes many rounds of an epoch, and no small epoch. */
static void worth_counts_all_rounds(void **state)
{
	struct guest *g = guest_of(GFNS);

	(void)state;
	g->e->page_count = 100;
	for (int round = 0; round < 3; round++) {
		g->e->partial = round < 2;
		dirty_captured(&g->d, g->e);
	}
	assert_int_equal(g->d.last, 300);
	assert_true(dirty_worth(&g->d));
	dirty_captured(&g->d, g->e);
	assert_int_equal(g->d.last, 100);
	guest_free(g);
}

/* And, once more in the same epoch, so many that they took their time. */
static void worth_of_a_second_time(void **state)
{
	struct guest *g = guest_of(GFNS);

	(void)state;
	dirty_captured(&g->d, g->e);
	g->d.captured = false;
	g->d.apart_pages = 4095;
	assert_false(dirty_worth(&g->d));
	g->d.apart_pages = 4096;
	assert_true(dirty_worth(&g->d));
	guest_free(g);
}

/* Frames that are not memory are in no round, though they are written. */
static bool put_none(void *arg, struct epoch *e, uint64_t gfn)
{
	(void)arg;
	(void)e;
	(void)gfn;
	return true;
}

static void what_is_not_memory_does_not_come_again(void **state)
{
	struct guest *g = guest_of(GFNS);

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (uint64_t gfn = 0; gfn < 10; gfn++)
			guest_write(g, gfn);
		collect(g);
		if (!round)
			dirty_copy_ahead(&g->d, g->e, true, put_none, g);
		else
			dirty_copy(&g->d, g->e, put_none, g);
	}
	assert_int_equal(g->e->page_count, 0);
	assert_int_equal(g->e->again_count, 0);
	guest_free(g);
}

/* All of it in any order; captures fail, or never come. */
static void captures(struct guest *g)
{
	capture(g);
	while (g->e->partial) {
		epoch_clear(g->e);
		guest_write(g, (uint64_t)random() % GFNS);
		capture(g);
	}
	assert_same(g);
}

static void any_order(size_t room, int times)
{
	struct guest *g = guest_of(room);

	for (int i = 0; i < times; i++) {
		for (long n = random() % (long)(2 * room); n; n--)
			guest_write(g, (uint64_t)random() % GFNS);
		epoch_clear(g->e);
		switch (random() % 5) {
		case 0:
			captures(g);
			break;
		case 1:
			ahead(g);
			break;
		case 2:
			send_ahead(g);
			guest_write(g, (uint64_t)random() % GFNS);
			while (random() % 2) { /* tried, and given up */
				ahead(g);
				guest_write(g, (uint64_t)random() % GFNS);
				epoch_clear(g->e);
			}
			if (random() % 2)
				ahead(g);
			guest_write(g, (uint64_t)random() % GFNS);
			captures(g);
			break;
		default:
			ahead(g);
			guest_write(g, (uint64_t)random() % GFNS);
			ahead(g);
			guest_write(g, (uint64_t)random() % GFNS);
			captures(g);
			break;
		}
	}
	guest_free(g);
}

static void any_order_keeps_all_pages(void **state)
{
	(void)state;
	srandom(1);
	any_order(GFNS, 2000);
	any_order(ROOM, 2000);
	any_order(10, 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_again_is_copied_again),
		cmocka_unit_test(what_was_copied_for_nothing_comes_again),
		cmocka_unit_test(what_went_ahead_does_not_come_again),
		cmocka_unit_test(what_went_ahead_may_be_ahead_again),
		cmocka_unit_test(what_did_not_fit_ahead_comes_with_the_capture),
		cmocka_unit_test(a_full_epoch_leaves_the_rest_for_the_next),
		cmocka_unit_test(worth_is_told_by_the_last_epoch),
		cmocka_unit_test(worth_counts_what_went_ahead),
		cmocka_unit_test(worth_counts_all_rounds),
		cmocka_unit_test(worth_of_a_second_time),
		cmocka_unit_test(what_is_not_memory_does_not_come_again),
		cmocka_unit_test(any_order_keeps_all_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
