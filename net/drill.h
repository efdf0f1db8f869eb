/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A drill: what an operator does to a healthy link, to see what becomes of a
 * protection when the link is not.
 *
 *	delay=MS[~JITTER]      every frame is late, JITTER more or less
 *	rate=BYTES[K|M|G]      that many bytes a second
 *	drop=PERCENT           of the frames get lost; or 1/N
 *	corrupt=PERCENT        of the frames with data get a bit flipped; or 1/N
 *	stall=AFTER_S:FOR_S    nothing passes, the connection stays
 *	cut=AFTER_S[:FOR_S]    the connection ends; no new one for FOR_S
 *	seed=N                 of the random decisions
 *
 * Comma separated; all but cut and seed may be preceded by `out.` or `in.` for
 * one direction.  `off` is a drill without effects.
 *
 * A `struct drill` is what all filters (net/filter.h) of one loop obey; it may
 * be given another spec at any time, from which its seconds then count.
 */
#ifndef NET_DRILL_H
#define NET_DRILL_H

#include <stdbool.h>
#include <stdint.h>

#include "net/loop.h"

enum drill_way { DRILL_OUT, DRILL_IN, DRILL_WAYS };

enum { DRILL_WHY_BYTES = 240, DRILL_WORDS_MAX = 400 };

/* Of frames, in 2^32nds. */
#define DRILL_ALL (UINT64_C(1) << 32)

struct drill_effects {
	uint64_t delay_us;
	uint64_t jitter_us;
	uint64_t rate_bytes; /* a second; 0: no limit */
	uint64_t drop;
	uint64_t corrupt;
	uint64_t stall_at_us;
	uint64_t stall_for_us; /* 0: none */
};

struct drill_spec {
	struct drill_effects way[DRILL_WAYS];
	bool cut;
	uint64_t cut_at_us;
	uint64_t cut_for_us;
	bool seeded;
	uint64_t seed;
};

/* -EINVAL with one line in why[DRILL_WHY_BYTES]. */
int drill_parse(const char *words, struct drill_spec *out, char *why);

struct drill;

/* Without effects, until drill_start().  NULL: no memory. */
struct drill *drill_new(struct loop *loop);
/* All its filters have ended. */
void drill_free(struct drill *d); /* NULL is fine */

/* From now on this, on the links there are and on those to come. */
void drill_start(struct drill *d, const struct drill_spec *spec);

/* The seed in use, so that a drill can be repeated. */
uint64_t drill_seed(const struct drill *d);

/* ---- for filters ---- */

struct drill_member {
	struct drill_member *next;
	/* The drill has changed, or `cut`: the connection is to end. */
	void (*changed)(struct drill_member *m, bool cut);
};

void drill_join(struct drill *d, struct drill_member *m);
void drill_leave(struct drill *d, struct drill_member *m);
const struct drill_effects *drill_effects(const struct drill *d,
					  enum drill_way way);
/* When the stall that now_us is in will end; 0 where it is in none. */
uint64_t drill_stalled_until(const struct drill *d, enum drill_way way,
			     uint64_t now_us);
/* No connection may be made. */
bool drill_is_cut(const struct drill *d, uint64_t now_us);
/* A source of random numbers of its own, the same ones for the same seed. */
uint64_t drill_random_source(struct drill *d);
uint64_t drill_random(uint64_t *source);

#endif
