/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/memory.h"

/*
 * Of a guest's gfns most are not written in an epoch, and under Xen most of a
 * small one's are a hole below 4 GiB.  So the bitmaps are gone through in
 * groups of 4,096 gfns: what was collected is looked at in all of them, the
 * rest where it may have something.
 */
enum { GROUP_WORDS = 64 };

static size_t kept_words(const struct dirty *d)
{
	return d->words / GROUP_WORDS / 64 + 1;
}

/* The end of the group that word `w` is in. */
static size_t group_end(const struct dirty *d, size_t w)
{
	size_t end = (w / GROUP_WORDS + 1) * GROUP_WORDS;

	return end < d->words ? end : d->words;
}

static uint64_t *group_kept(struct dirty *d, size_t w, uint64_t *bit)
{
	*bit = UINT64_C(1) << w / GROUP_WORDS % 64;
	return &d->kept[w / GROUP_WORDS / 64];
}

static bool any(const uint64_t *words, size_t count)
{
	uint64_t all = 0;

	for (size_t i = 0; i < count; i++)
		all |= words[i];
	return all;
}

int dirty_open(struct dirty *d, size_t words, uint64_t *bits)
{
	*d = (struct dirty){ .words = words, .bits = bits, .own_bits = !bits };
	if (!bits)
		d->bits = memory_touched(words * 8);
	d->carry = memory_touched(words * 8);
	d->ahead = memory_touched(words * 8);
	d->apart = memory_touched(words * 8);
	d->kept = memory_touched(kept_words(d) * 8);
	if (d->bits && d->carry && d->ahead && d->apart && d->kept)
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
	free(d->kept);
	*d = (struct dirty){ 0 };
}

void dirty_reset(struct dirty *d)
{
	memset(d->bits, 0, d->words * 8);
	memset(d->carry, 0, d->words * 8);
	memset(d->ahead, 0, d->words * 8);
	memset(d->apart, 0, d->words * 8);
	memset(d->kept, 0, kept_words(d) * 8);
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

/* The way of the written pages into an epoch. */
struct way {
	struct epoch *e;
	dirty_put_fn *put;
	void *arg;
	uint64_t *where; /* ahead or apart: what was put is noted there */
	size_t count;	 /* pages put */
	size_t full; /* the word at which there was no more room, or words */
};

static void put_words(struct dirty *d, struct way *way, size_t w, size_t end)
{
	for (; w < end; w++) {
		uint64_t dirty = d->bits[w] | d->carry[w], left;

		if (!dirty)
			continue;
		left = put_word(d, way->e, w, dirty, way->put, way->arg);
		d->bits[w] = 0;
		d->carry[w] = left;
		dirty &= ~left;
		way->count += (size_t)__builtin_popcountll(dirty);
		way->where[w] |= dirty;
		if (left && way->full == d->words)
			way->full = w;
	}
}

/* And what is behind it in its last group: that is then taken twice, or first.
 */
static void put_range(struct dirty *d, struct way *way, size_t w, size_t to)
{
	size_t end;

	for (; w < to; w = end) {
		uint64_t bit, *kept = group_kept(d, w, &bit);

		end = group_end(d, w);
		if (!(*kept & bit) && !any(d->bits + w, end - w))
			continue;
		*kept |= bit;
		put_words(d, way, w, end);
	}
}

/*
 * Goes on where the last one ran out of room: pages that are written all the
 * time must not keep the others waiting for ever.  True: all were put.
 */
static bool put_all(struct dirty *d, struct way *way)
{
	size_t from = d->next_word;

	way->full = d->words;
	put_range(d, way, from, d->words);
	put_range(d, way, 0, from);
	if (way->full < d->words)
		d->next_word = way->full;
	return way->full == d->words;
}

/* Whether anything is left in them. */
static bool settle_words(struct dirty *d, size_t w, size_t end)
{
	uint64_t left = 0;

	for (; w < end; w++) {
		if (!d->captured)
			d->carry[w] |= d->ahead[w];
		d->ahead[w] = 0;
		if (d->over)
			d->apart[w] = 0;
		left |= d->carry[w] | d->apart[w];
	}
	return left;
}

/*
 * An epoch is empty: what was copied into it before is captured, or lost.  What
 * went apart is there until all of its epoch is captured.
 */
static void settle(struct dirty *d)
{
	size_t end;

	for (size_t w = 0; w < d->words; w = end) {
		uint64_t bit, *kept = group_kept(d, w, &bit);

		end = group_end(d, w);
		if (*kept & bit && !settle_words(d, w, end))
			*kept &= ~bit;
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
	struct way way = { .e = e,
			   .put = put,
			   .arg = arg,
			   .where = apart ? d->apart : d->ahead };

	if (!e->page_count)
		settle(d);
	put_all(d, &way);
	if (apart)
		d->apart_pages = e->page_count;
	return way.count;
}

void dirty_copy(struct dirty *d, struct epoch *e, dirty_put_fn *put, void *arg)
{
	struct way way = { .e = e, .put = put, .arg = arg, .where = d->ahead };

	/* Nothing was copied ahead into this one. */
	if (!e->page_count)
		settle(d);
	e->partial = !put_all(d, &way);
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
