/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of a guest have come at least once: those that a delta may be of.
 * One thread at a time.
 */
#ifndef STREAM_HISTORY_H
#define STREAM_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

struct history;

/* A bit a gfn, and memory only for those that come.  NULL: no memory. */
struct history *history_new(uint64_t max_gfn);
void history_free(struct history *h); /* NULL is fine */

/* Of gfns up to max_gfn. */
void history_add(struct history *h, uint64_t gfn);
bool history_has(const struct history *h, uint64_t gfn);

#endif
