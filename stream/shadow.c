/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots for pages, and for each gfn the number of its slot.
 *
 * Which slot gives way: a hand goes round, passes over each that was used since
 * it came by last, and takes the first that was not (the clock of Corbató,
 * 1968).  An exact order would cost a write to two other slots at every use.
 */
#include "config.h"

#include "stream/shadow.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/memory.h"
#include "stream/arena.h"
#include "stream/format.h"

struct slot {
	uint64_t sent; /* the epoch */
	uint32_t gfn;
	uint8_t times; /* in that epoch, at least once */
	bool used;     /* since the hand came by */
};

struct shadow {
	uint64_t max_gfn;
	struct arena index; /* uint32_t a gfn: the number of its slot + 1 */
	struct arena slots;
	struct arena pages;
	size_t count; /* of slots in use */
	size_t limit;
	size_t room; /* slots that may be in use, as of now */
	size_t hand;
};

static uint32_t *index_at(const struct shadow *s, uint64_t gfn)
{
	return (uint32_t *)(void *)s->index.bytes + gfn;
}

static struct slot *slot_at(const struct shadow *s, size_t n)
{
	return (struct slot *)(void *)s->slots.bytes + n;
}

static uint8_t *page_at(const struct shadow *s, size_t n)
{
	return s->pages.bytes + n * WIRE_PAGE_BYTES;
}

struct shadow *shadow_new(uint64_t bytes, uint64_t max_gfn)
{
	struct shadow *s = memory_zeroed(sizeof(*s));
	size_t index_bytes = (max_gfn + 1) * sizeof(uint32_t);

	if (!s)
		return NULL;
	s->max_gfn = max_gfn;
	s->limit = bytes / WIRE_PAGE_BYTES;
	if (s->limit > max_gfn + 1)
		s->limit = max_gfn + 1;
	s->room = s->limit;
	/* The index is all accessible: it is touched where gfns are used. */
	if (arena_open(&s->index, index_bytes) ||
	    arena_grow(&s->index, index_bytes) ||
	    arena_open(&s->slots, s->limit * sizeof(struct slot)) ||
	    arena_open(&s->pages, s->limit * WIRE_PAGE_BYTES)) {
		shadow_free(s);
		return NULL;
	}
	return s;
}

void shadow_free(struct shadow *s)
{
	if (!s)
		return;
	arena_close(&s->index);
	arena_close(&s->slots);
	arena_close(&s->pages);
	free(s);
}

uint8_t *shadow_find(struct shadow *s, uint64_t gfn, uint64_t epoch,
		     unsigned int *times)
{
	uint32_t n = gfn <= s->max_gfn ? *index_at(s, gfn) : 0;
	struct slot *slot;

	if (!n)
		return NULL;
	slot = slot_at(s, n - 1);
	*times = slot->sent == epoch ? slot->times : 0;
	slot->sent = epoch;
	slot->times = (uint8_t)(*times < UINT8_MAX ? *times + 1 : *times);
	slot->used = true;
	return page_at(s, n - 1);
}

static bool new_slot(struct shadow *s, size_t *n)
{
	if (s->count >= s->room ||
	    arena_grow(&s->slots, (s->count + 1) * sizeof(struct slot)) ||
	    arena_grow(&s->pages, (s->count + 1) * WIRE_PAGE_BYTES))
		return false;
	*n = s->count++;
	return true;
}

static size_t free_slot(struct shadow *s)
{
	for (;;) {
		size_t n = s->hand;
		struct slot *slot = slot_at(s, n);

		s->hand = n + 1 < s->count ? n + 1 : 0;
		if (!slot->used) {
			*index_at(s, slot->gfn) = 0;
			return n;
		}
		slot->used = false;
	}
}

uint8_t *shadow_add(struct shadow *s, uint64_t gfn, uint64_t epoch)
{
	size_t n;

	if (gfn > s->max_gfn)
		return NULL;
	if (!new_slot(s, &n)) {
		if (!s->count)
			return NULL;
		n = free_slot(s);
	}
	*slot_at(s, n) = (struct slot){
		.sent = epoch,
		.gfn = (uint32_t)gfn,
		.times = 1,
	};
	*index_at(s, gfn) = (uint32_t)n + 1;
	return page_at(s, n);
}

void shadow_limit(struct shadow *s, uint64_t bytes)
{
	size_t slots = bytes / WIRE_PAGE_BYTES;

	s->room = slots < s->limit ? slots : s->limit;
}

size_t shadow_memory_bytes(const struct shadow *s)
{
	return s->pages.room + s->slots.room;
}
