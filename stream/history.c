/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "stream/history.h"

#include <stdlib.h>

#include "base/memory.h"
#include "stream/arena.h"

struct history {
	struct arena bits;
};

struct history *history_new(uint64_t max_gfn)
{
	struct history *h = memory_zeroed(sizeof(*h));
	size_t bytes = max_gfn / 8 + 1;

	if (!h)
		return NULL;
	if (arena_open(&h->bits, bytes) || arena_grow(&h->bits, bytes)) {
		history_free(h);
		return NULL;
	}
	return h;
}

void history_free(struct history *h)
{
	if (!h)
		return;
	arena_close(&h->bits);
	free(h);
}

void history_add(struct history *h, uint64_t gfn)
{
	h->bits.bytes[gfn / 8] |= (uint8_t)(1U << gfn % 8);
}

bool history_has(const struct history *h, uint64_t gfn)
{
	return h->bits.bytes[gfn / 8] >> gfn % 8 & 1;
}
