/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that writes, and captures of it that follow each other. */
#ifndef TESTS_UNIT_EMBEDDED_CAPTURES_H
#define TESTS_UNIT_EMBEDDED_CAPTURES_H

#include "stream/epoch.h"
#include "stream/records.h"
#include "tests/unit/embedded-fixture.h"

#define DIRTY "dirty,mem=4M,rate=20000"
enum { PAGES = 1024 };

static inline bool has(const struct epoch *e, uint64_t gfn)
{
	for (size_t i = 0; i < e->page_count; i++)
		if (e->gfns[i] == gfn)
			return true;
	return false;
}

/* A round of its own, of which the pages are read as the guest writes on. */
static inline size_t go_ahead(struct guest_source *s, struct epoch *e,
			      uint8_t *shadow)
{
	epoch_clear(e);
	src->copy_ahead(s, e, true);
	for (size_t k = 0; k < e->page_count; k++) {
		assert_ptr_equal(e->where[k],
				 s->memory + e->gfns[k] * WIRE_PAGE_BYTES);
		memcpy(shadow + e->gfns[k] * WIRE_PAGE_BYTES, e->where[k],
		       WIRE_PAGE_BYTES);
	}
	return e->page_count;
}

/* Each capture makes a shadow the same as the memory, and no earlier. */
static inline void captures_follow(struct guest_source *s, size_t arena_pages,
				   int count)
{
	struct epoch *e = epoch_new(arena_pages, 65536);
	struct epoch *ahead = epoch_new(arena_pages, 0);
	uint8_t *shadow = malloc(PAGES * WIRE_PAGE_BYTES);
	bool partial_round = false;
	size_t partial = 0, referred = 0;
	struct record r;

	assert_int_equal(epoch_index(e, PAGES - 1), 0);
	assert_int_equal(epoch_index(ahead, PAGES - 1), 0);
	assert_ok(src->suspend(s, PATIENCE_US));
	memcpy(shadow, s->memory, PAGES * WIRE_PAGE_BYTES);
	/* What is not taken into account by the shadow. */
	do {
		epoch_clear(e);
		assert_ok(src->capture(s, e));
	} while (e->partial);
	for (int i = 0; i < count; i++) {
		assert_ok(src->resume(s, GUEST_RESUME_FAST));
		clock_sleep_us(3000);
		epoch_clear(e);
		/* As if the last one had been large. */
		s->dirty.last = i % 3 ? SIZE_MAX : 0;
		if (i % 3 == 2)
			referred += go_ahead(s, ahead, shadow);
		else
			src->copy_ahead(s, e, false);
		assert_ok(src->suspend(s, PATIENCE_US));
		do {
			struct cursor c;

			e->number = (uint64_t)i + 1;
			if (partial_round)
				epoch_clear(e);
			assert_ok(src->capture(s, e));
			partial_round = e->partial;
			partial += e->partial;
			for (size_t k = 0; k < e->page_count; k++)
				memcpy(shadow + e->gfns[k] * WIRE_PAGE_BYTES,
				       e->pages + k * WIRE_PAGE_BYTES,
				       WIRE_PAGE_BYTES);
			c = cursor_over(e->state, e->state_bytes);
			assert_int_equal(record_next(&c, &r), 1);
			assert_int_equal((int)r.type, WIRE_RECORD_COLOD_VCPUS);
		} while (e->partial);
		assert_memory_equal(shadow, s->memory, PAGES * WIRE_PAGE_BYTES);
	}
	assert_true(partial > 0 || arena_pages == PAGES);
	assert_true(referred || !tracker_runs_along(s->tracker));
	/* Nothing ran: nothing is there. */
	epoch_clear(e);
	assert_ok(src->capture(s, e));
	assert_int_equal(e->page_count, 0);
	assert_false(has(e, 0));
	assert_ok(src->resume(s, GUEST_RESUME_FAST));
	free(shadow);
	epoch_free(ahead);
	epoch_free(e);
}

#endif
