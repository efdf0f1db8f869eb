/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that a running daemon takes: as malloc(3) and calloc(3), and a place
 * where a test can make it scarce (the fault point `memory`).  For what is
 * taken after the start, where its want must cost protection at most.
 */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"

/* For memory that is taken in another way: pretends that there is none. */
static inline bool memory_short(void)
{
	return fault_at(FAULT_MEMORY) != 0;
}

static inline void *memory_new(size_t bytes)
{
	return memory_short() ? NULL : malloc(bytes);
}

static inline void *memory_zeroed(size_t bytes)
{
	return memory_short() ? NULL : calloc(1, bytes);
}

/*
 * Zeroes that are really there, for what a capture writes to: pages of calloc
 * would be touched during it, and a compiler makes calloc of malloc and memset.
 */
static inline void *memory_touched(size_t bytes)
{
	void *p = memory_new(bytes);

	if (p)
		explicit_bzero(p, bytes);
	return p;
}

#endif
