/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's pages as the standby has them: of each, the version that was sent
 * last.  Bounded; one that was not sent again for long gives way, and before it
 * one that was sent just once.
 *
 * One thread at a time.
 */
#ifndef STREAM_SHADOW_H
#define STREAM_SHADOW_H

#include <stddef.h>
#include <stdint.h>

struct shadow;

/*
 * For `bytes` of pages of a guest with no gfn above `max_gfn`.  Takes memory as
 * pages come: theirs, and 4 bytes for each gfn.  NULL: no memory.
 */
struct shadow *shadow_new(uint64_t bytes, uint64_t max_gfn);
void shadow_free(struct shadow *s); /* NULL is fine */

/*
 * The version of `gfn` that was sent last, to be overwritten with the one that
 * is sent now, in `epoch`; *times becomes how often it was asked for or added in
 * that epoch before.  NULL: it is not there.
 */
uint8_t *shadow_find(struct shadow *s, uint64_t gfn, uint64_t epoch,
		     unsigned int *times);

/*
 * Room for a gfn that is not there, in the place of another where all is used.
 * NULL: there is none.
 */
uint8_t *shadow_add(struct shadow *s, uint64_t gfn, uint64_t epoch);

/*
 * It grows no more where it takes `bytes` or more, as of now; it does not
 * shrink.
 */
void shadow_limit(struct shadow *s, uint64_t bytes);

size_t shadow_memory_bytes(const struct shadow *s); /* at the moment */

#endif
