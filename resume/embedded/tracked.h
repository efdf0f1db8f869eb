/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tracking what is written, the half of the process that owns the memory.
 * The other half, which collects, is in tracker.h.
 */
#ifndef RESUME_EMBEDDED_TRACKED_H
#define RESUME_EMBEDDED_TRACKED_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct tracked {
	uint32_t kind; /* enum embedded_tracker */
	uint8_t *base;
	size_t bytes;
	_Atomic uint64_t *written; /* mprotect: a bit a page, zeroes */
	int uffd;
};

/*
 * Makes the mapping at `base` one that can be tracked; nothing is yet.
 * -ENOTSUP: the kernel cannot.  Mprotect: one at a time in a process, whose
 * SIGSEGV handler it takes.
 */
int tracked_open(struct tracked *t, uint32_t kind, uint8_t *base, size_t bytes,
		 _Atomic uint64_t *written);
void tracked_close(struct tracked *t);

/* What the collecting half asks of this one. */
enum tracked_order {
	TRACKED_ARM,	/* every page counts as not written from here on */
	TRACKED_DISARM, /* no page costs anything more on its first write */
	TRACKED_TOUCH,	/* write to the first page, changing nothing */
};

int tracked_order(struct tracked *t, enum tracked_order order);

#endif
