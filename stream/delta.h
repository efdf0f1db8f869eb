/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page as what has changed in it since its version before: which of its lines
 * of 64 bytes, which of their 64-bit words, and those words as they are now.
 *
 *	u64 lines              bit i: line i has changed; not 0
 *	u8  words[lines set]   bit j: word j of that line has; none is 0
 *	u64 new[words set]
 *
 * All little-endian.  The new words, not their difference: where both were
 * tried, on pages of real programs, they made half to nine tenths of the bytes.
 */
#ifndef STREAM_DELTA_H
#define STREAM_DELTA_H

#include <stddef.h>
#include <stdint.h>

#include "stream/format.h"

enum {
	DELTA_LINE_BYTES = 64,
	DELTA_LINES = WIRE_PAGE_BYTES / DELTA_LINE_BYTES,
	/* All words of all lines. */
	DELTA_MAX = 8 + DELTA_LINES + WIRE_PAGE_BYTES,
	/* What delta_make() may write to: a line's store goes past its end. */
	DELTA_ROOM = DELTA_MAX + DELTA_LINE_BYTES,
};

/*
 * The delta from `base` to `now` is in out[DELTA_ROOM], and `base` is as `now`.
 * Returns its length; 0: they were the same.  Both are WIRE_PAGE_BYTES.  `now`
 * may be written to meanwhile: then `base` is as the delta says.
 */
size_t delta_make(uint8_t *base, const uint8_t *now, uint8_t *out);

/* The length of the delta that `bytes` begin with; 0: none, or cut short. */
size_t delta_length(const uint8_t *bytes, size_t length);

/* Makes of the version before the one that the delta, a whole one, is of. */
void delta_apply(uint8_t *page, const uint8_t *delta);

/*
 * The ways of making one, best last, each the same to the byte: NULL where this
 * processor cannot.  delta_make() is the best of them.
 */
typedef size_t delta_make_fn(uint8_t *base, const uint8_t *now, uint8_t *out);
enum delta_way { DELTA_PORTABLE, DELTA_AVX2, DELTA_AVX512, DELTA_WAYS };
delta_make_fn *delta_way(enum delta_way way);
const char *delta_way_name(enum delta_way way);

#endif
