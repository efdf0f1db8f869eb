/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "stream/epoch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/memory.h"

enum {
	/* The size of a huge page on x86, where there are such. */
	HUGE_BYTES = 2 * 1024 * 1024,
};

/*
 * Memory of which every page is present: the first touch of a page costs more
 * than copying one, and must not happen while the guest is stopped.  The
 * stores are volatile since a compiler may turn malloc and memset into calloc,
 * which touches nothing.
 */
static void *alloc_touched(size_t bytes)
{
	volatile uint8_t *v;
	void *p;

	bytes += !bytes;
	if (memory_short() ||
	    posix_memalign(&p,
			   bytes < HUGE_BYTES ? WIRE_PAGE_BYTES : HUGE_BYTES,
			   bytes))
		return NULL;
	/* A wish: without it the arena is only slower. */
	if (bytes >= HUGE_BYTES)
		madvise(p, bytes, MADV_HUGEPAGE);
	/*
	 * All in one call: a fault for each page takes a domain 0 three times
	 * as long.  Kernels before 5.14 do not know it, and are as slow.
	 */
	madvise(p, bytes, MADV_POPULATE_WRITE);
	v = p;
	for (size_t at = 0; at < bytes; at += WIRE_PAGE_BYTES)
		v[at] = 0;
	v[bytes - 1] = 0;
	return p;
}

struct epoch *epoch_new(size_t page_capacity, size_t state_capacity)
{
	struct epoch *e;

	if (page_capacity > WIRE_GFN_MAX + 1)
		return NULL;
	e = memory_zeroed(sizeof(*e));
	if (!e)
		return NULL;
	if (state_capacity > WIRE_STATE_MAX)
		state_capacity = WIRE_STATE_MAX;
	e->page_capacity = page_capacity;
	e->state_capacity = state_capacity;
	e->gfns = alloc_touched(page_capacity * sizeof(e->gfns[0]));
	e->where = alloc_touched(page_capacity * sizeof(e->where[0]));
	e->pages = alloc_touched(page_capacity * WIRE_PAGE_BYTES);
	e->state = alloc_touched(state_capacity);
	if (!e->gfns || !e->where || !e->pages || !e->state) {
		epoch_free(e);
		return NULL;
	}
	return e;
}

void epoch_free(struct epoch *e)
{
	if (!e)
		return;
	free(e->index);
	free(e->gfns);
	free(e->where);
	free(e->pages);
	free(e->state);
	free(e);
}

int epoch_index(struct epoch *e, uint64_t max_gfn)
{
	e->index = alloc_touched((max_gfn + 1) * sizeof(*e->index));
	e->index_gfns = e->index ? max_gfn + 1 : 0;
	return e->index ? 0 : -ENOMEM;
}

void epoch_clear(struct epoch *e)
{
	e->page_count = 0;
	e->again_count = 0;
	e->state_bytes = 0;
	e->partial = false;
	e->times = (struct epoch_times){ 0 };
}

/*
 * An entry of the index counts only where the place that it names is in use and
 * has that gfn, so nothing has to be cleared (Briggs and Torczon, 1993).
 */
static size_t place_of(const struct epoch *e, uint64_t gfn)
{
	size_t at = gfn < e->index_gfns ? e->index[gfn] : e->page_count;

	return at < e->page_count && e->gfns[at] == gfn ? at : e->page_count;
}

/* The place of a page in the arena, a new one or its own; NULL: it is full. */
static uint8_t *place(struct epoch *e, uint64_t gfn, size_t *at)
{
	*at = place_of(e, gfn);
	if (*at == e->page_capacity)
		return NULL;
	if (*at == e->page_count) {
		e->gfns[*at] = gfn;
		if (gfn < e->index_gfns)
			e->index[gfn] = (uint32_t)*at;
		e->page_count++;
	}
	return e->pages + *at * WIRE_PAGE_BYTES;
}

bool epoch_put(struct epoch *e, uint64_t gfn, const uint8_t *page)
{
	size_t at;
	uint8_t *to = place(e, gfn, &at);

	if (!to)
		return false;
	memcpy(to, page, WIRE_PAGE_BYTES);
	e->where[at] = to;
	return true;
}

bool epoch_refer(struct epoch *e, uint64_t gfn, const uint8_t *page)
{
	size_t at;

	if (!place(e, gfn, &at))
		return false;
	e->where[at] = page;
	return true;
}
