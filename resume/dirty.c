/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/memory.h"

int dirty_open(struct dirty *d, size_t words, uint64_t *bits)
{
	*d = (struct dirty){ .words = words, .bits = bits, .own_bits = !bits };
	if (!bits)
		d->bits = memory_touched(words * 8);
	d->carry = memory_touched(words * 8);
	d->ahead = memory_touched(words * 8);
	d->apart = memory_touched(words * 8);
	if (d->bits && d->carry && d->ahead && d->apart)
		return 0;
	dirty_close(d);
	return -ENOMEM;
}

void dirty_close(struct dirty *d)
{
	if (d->own_bits)
		free(d->bits);
	free(d->carry);
	free(d->ahead);
	free(d->apart);
	*d = (struct dirty){ 0 };
}

void dirty_reset(struct dirty *d)
{
	memset(d->bits, 0, d->words * 8);
	memset(d->carry, 0, d->words * 8);
	memset(d->ahead, 0, d->words * 8);
	memset(d->apart, 0, d->words * 8);
	d->captured = d->over = false;
	d->pages = d->apart_pages = d->again = 0;
	d->next_word = 0;
}

/*
 * Puts one word's pages; returns the bits for which there was no room.  A bit
 * may be no page at all, and one that is in `e` already takes no more of it.
 */
static uint64_t put_word(struct dirty *d, struct epoch *e, size_t w,
			 uint64_t dirty, dirty_put_fn *put, void *arg)
{
	for (; dirty; dirty &= dirty - 1) {
		unsigned int bit = (unsigned int)__builtin_ctzll(dirty);
		size_t count = e->page_count;

		if (!put(arg, e, w * 64 + bit))
			break;
		d->again += e->page_count > count && d->apart[w] >> bit & 1;
	}
	return dirty;
}

/*
 * Goes on where the last one ran out of room: pages that are written all the
 * time must not keep the others waiting for ever.  What was put is noted in
 * `where`, ahead or apart.  True: all were put.
 */
static bool put_all(struct dirty *d, struct epoch *e, uint64_t *where,
		    dirty_put_fn *put, void *arg, size_t *count)
{
	size_t w = d->next_word, full = d->words;
	uint64_t dirty, left;

	for (size_t i = 0; i < d->words; i++) {
		dirty = d->bits[w] | d->carry[w];
		if (dirty) {
			left = put_word(d, e, w, dirty, put, arg);
			d->bits[w] = 0;
			d->carry[w] = left;
			dirty &= ~left;
			*count += (size_t)__builtin_popcountll(dirty);
			where[w] |= dirty;
			if (left && full == d->words)
				full = w;
		}
		if (++w == d->words)
			w = 0;
	}
	if (full < d->words)
		d->next_word = full;
	return full == d->words;
}

/*
 * An epoch is empty: what was copied into it before is captured, or lost.  What
 * went apart is there until all of its epoch is captured.
 */
static void settle(struct dirty *d)
{
	for (size_t w = 0; w < d->words; w++) {
		if (!d->captured)
			d->carry[w] |= d->ahead[w];
		d->ahead[w] = 0;
		if (d->over)
			d->apart[w] = 0;
	}
	if (d->over)
		d->apart_pages = 0;
	d->captured = d->over = false;
	d->again = 0;
}

enum {
	/*
	 * A tenth of a millisecond of copying, and as much of encoding where
	 * they are sent ahead, against one more look for what is written.
	 */
	WORTH_PAGES = 256,
	/* So many take milliseconds to be encoded, and the guest runs on. */
	WORTH_AGAIN = 4096,
};

bool dirty_worth(const struct dirty *d)
{
	if (!d->captured && d->apart_pages)
		return d->apart_pages >= WORTH_AGAIN;
	return d->captured && (d->last >= WORTH_PAGES || fault_at(FAULT_AHEAD));
}

size_t dirty_copy_ahead(struct dirty *d, struct epoch *e, bool apart,
			dirty_put_fn *put, void *arg)
{
	size_t count = 0;

	if (!e->page_count)
		settle(d);
	put_all(d, e, apart ? d->apart : d->ahead, put, arg, &count);
	if (apart)
		d->apart_pages = e->page_count;
	return count;
}

void dirty_copy(struct dirty *d, struct epoch *e, dirty_put_fn *put, void *arg)
{
	size_t count = 0;

	/* Nothing was copied ahead into this one. */
	if (!e->page_count)
		settle(d);
	e->partial = !put_all(d, e, d->ahead, put, arg, &count);
	e->again_count = d->again;
}

void dirty_captured(struct dirty *d, const struct epoch *e)
{
	d->captured = true;
	d->over = !e->partial;
	d->pages += e->page_count - e->again_count;
	if (!d->over)
		return;
	d->last = d->apart_pages + d->pages;
	d->pages = 0;
}
