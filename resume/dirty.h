/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of a guest are to go into an epoch, and their way there.
 *
 * A page may be copied ahead, while the guest runs, and once more where it is
 * written again before the capture.  Should that capture never come, or fail,
 * what was copied ahead counts as written still, unless it went its own way.
 *
 * Nothing is allocated after dirty_open().  One thread at a time.
 */
#ifndef RESUME_DIRTY_H
#define RESUME_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream/epoch.h"

/* Bitmaps with a bit for each gfn. */
struct dirty {
	size_t words;
	uint64_t *bits;	 /* as collected last; the caller's to set */
	uint64_t *carry; /* written, and in no epoch */
	uint64_t *ahead; /* copied into one that is not captured */
	uint64_t *apart; /* in an earlier round of that epoch */
	uint64_t *kept;	 /* a bit a group: the three above may have some in it */
	bool captured;	 /* it has been: `ahead` means nothing any more */
	bool over;	 /* all rounds have: nor does `apart` */
	size_t pages;	 /* of its captures so far */
	size_t apart_pages;
	size_t again; /* of the arena's, those that are in `apart` too */
	bool own_bits;
	size_t next_word; /* where the next copy begins */
	size_t last;	  /* pages of the last epoch */
};

/* `bits`, or NULL: room of its own.  0 or -ENOMEM, with nothing left. */
int dirty_open(struct dirty *d, size_t words, uint64_t *bits);
void dirty_close(struct dirty *d); /* harmless on zeroes */
/* Nothing is written. */
void dirty_reset(struct dirty *d);

/* Puts a page into an epoch, or passes it over; false: the epoch is full. */
typedef bool dirty_put_fn(void *arg, struct epoch *e, uint64_t gfn);

/*
 * Whether pages are worth being copied ahead: the last epoch had many, and was
 * captured, for else those that were copied ahead of it come once more; or so
 * many have gone ahead in this one that the guest has written more meanwhile.
 */
bool dirty_worth(const struct dirty *d);
/*
 * Before the guest is suspended, behind a collection into `bits`; may be
 * repeated.  `apart`: `e` is a round of its own.  Returns how many pages were
 * to be copied.
 */
size_t dirty_copy_ahead(struct dirty *d, struct epoch *e, bool apart,
			dirty_put_fn *put, void *arg);
/*
 * The guest is suspended; sets e->partial where the epoch has no room, and
 * e->again_count.
 */
void dirty_copy(struct dirty *d, struct epoch *e, dirty_put_fn *put, void *arg);
/* The capture into that epoch has succeeded. */
void dirty_captured(struct dirty *d, const struct epoch *e);

#endif
