/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of an embedded guest were written: the half that collects, in
 * colod.  Three ways, best first; each proves itself before it is believed,
 * since a kernel can accept the orders and record nothing.
 *
 * One thread at a time.  Nothing is allocated after tracker_open().
 */
#ifndef RESUME_EMBEDDED_TRACKER_H
#define RESUME_EMBEDDED_TRACKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "resume/embedded/tracked.h"
#include "stream/format.h"

struct tracker;

/* How the process that owns the memory is given an order. */
typedef int tracked_order_fn(void *arg, enum tracked_order order);

/*
 * For `bytes` at `address` in process `pid`, whose half is open as `kind`.
 * `written` is its bitmap as seen here (mprotect).
 */
int tracker_open(uint32_t kind, pid_t pid, uint64_t address, size_t bytes,
		 _Atomic uint64_t *written, tracked_order_fn *order, void *arg,
		 struct tracker **out);
void tracker_close(struct tracker *t); /* NULL is fine */

/* From here on; what was written before is forgotten. */
int tracker_start(struct tracker *t);
/*
 * Sets the bits of the pages written since the start or the last collection.
 * Where nothing writes meanwhile none is missed and none comes twice.
 */
int tracker_collect(struct tracker *t, uint64_t *bits);
/*
 * Whether that is so while the guest writes, too: what is written after a
 * collection has begun is in it or in the next one.
 */
bool tracker_runs_along(const struct tracker *t);
void tracker_stop(struct tracker *t);

/*
 * After tracker_start(), while nothing else writes: a page that is written is
 * reported, that one alone, and once.  -EIO with *why where it is not so.
 */
int tracker_prove(struct tracker *t, const char **why);

/* All of it on a little memory of this process.  Not for mprotect in a process
 * that has it in use. */
int tracker_selftest(uint32_t kind, const char **why);
/* The best kind that passes its test here, or EMBEDDED_TRACKER_NONE. */
uint32_t tracker_best(void);

#endif
