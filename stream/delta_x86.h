/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of delta.c, for its twins on x86. */
#ifndef STREAM_DELTA_X86_H
#define STREAM_DELTA_X86_H

#include "stream/delta.h"

/*
 * The common end: `lines` and `count` masks of them are put before the words,
 * which lie from out + 8 + DELTA_LINES to `words_end`.  The delta's length.
 */
size_t delta_close(uint8_t *out, uint64_t lines, const uint8_t *masks,
		   unsigned int count, const uint8_t *words_end);

/* NULL where the processor, or the compiler's target, cannot. */
delta_make_fn *delta_avx2(void);
delta_make_fn *delta_avx512(void);

#endif
