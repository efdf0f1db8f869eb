/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that grows and stays where it is: address space for all of it is
 * reserved at the start and made accessible as it is needed.  One mapping,
 * however large, since thousands of chunks would meet vm.max_map_count.
 */
#ifndef STREAM_ARENA_H
#define STREAM_ARENA_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* There must be address space for a guest and more. */
static_assert(sizeof(size_t) == 8, "64 bits");

struct arena {
	void *reserved;
	size_t reserved_bytes;
	uint8_t *bytes; /* aligned for huge pages */
	size_t limit;
	size_t room; /* accessible, from `bytes` */
};

/* For `limit` bytes; takes none yet.  0 or -ENOMEM. */
int arena_open(struct arena *a, size_t limit);
void arena_close(struct arena *a); /* harmless on zeroes, and twice */
/* Makes the first `bytes`, which are no more than the limit, accessible. */
int arena_grow(struct arena *a, size_t bytes);

#endif
