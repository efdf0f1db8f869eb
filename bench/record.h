/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recording what a running program writes: its memory is looked at again and
 * again, and each page that is another than at the look before is an entry of a
 * trace (resume/embedded/trace.h).
 */
#ifndef BENCH_RECORD_H
#define BENCH_RECORD_H

#include <stdbool.h>
#include <stddef.h>

#include "bench/bench.h"
#include "resume/embedded/trace.h"

enum {
	RECORD_PAGES_MAX = 512 * 1024 / 4, /* of the program: 512 MiB */
	RECORD_ENTRIES_MAX = 100 * 1000,
	RECORD_WORDS_MAX = 20 * 1024 * 1024, /* of all changes: 160 MiB */
};

struct recorder;

/* All of these: a negative errno after one line. */

/* The trace goes to this file, which is made. */
int recorder_open(const char *path, struct recorder **out);
/*
 * Looks at `p`, a child of this process, which stands still meanwhile and goes
 * on in any case.  The first look has nothing to compare with.
 */
int recorder_look(struct recorder *r, struct bench_process *p);
/* There is so much that what changes between two looks has no room any more. */
bool recorder_full(const struct recorder *r);
/* Completes the file; *h says what is in it. */
int recorder_finish(struct recorder *r, struct trace_header *h);
void recorder_close(struct recorder *r); /* NULL is fine */

#endif
