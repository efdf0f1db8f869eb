/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "stream/arena.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/memory.h"

/* A huge page on x86, where there are such. */
enum { STEP_BYTES = 2 * 1024 * 1024 };

static size_t in_steps(size_t bytes)
{
	return (bytes + STEP_BYTES - 1) & ~(size_t)(STEP_BYTES - 1);
}

/* Takes no memory, also where the system does not overcommit. */
int arena_open(struct arena *a, size_t limit)
{
	size_t bytes = in_steps(limit) + STEP_BYTES;
	void *p = mmap(NULL, bytes, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	*a = (struct arena){
		.reserved = p,
		.reserved_bytes = bytes,
		.bytes = (uint8_t *)in_steps((uintptr_t)p),
		.limit = limit,
	};
	/* A wish: without it the first touch is only slower. */
	madvise(p, bytes, MADV_HUGEPAGE);
	return 0;
}

void arena_close(struct arena *a)
{
	if (a->reserved)
		munmap(a->reserved, a->reserved_bytes);
	*a = (struct arena){ 0 };
}

int arena_grow(struct arena *a, size_t bytes)
{
	size_t room = in_steps(bytes);

	if (room <= a->room)
		return 0;
	if (bytes > a->limit || memory_short() ||
	    mprotect(a->bytes + a->room, room - a->room,
		     PROT_READ | PROT_WRITE))
		return -ENOMEM;
	a->room = room;
	return 0;
}
