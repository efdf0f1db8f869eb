/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH3-64, streaming.  It guards against our own mistakes (a lost, doubled or
 * reordered piece); against an attacker there is TLS.  XXH3-128 tells whether
 * two blocks are the same; who writes them does not know the seed.
 */
#include "config.h"

#include "stream/checksum.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/memory.h"

struct checksum {
	XXH3_state_t *state; /* has to be aligned to 64: the library's heap */
};

struct checksum *checksum_new(void)
{
	struct checksum *c = memory_zeroed(sizeof(*c));

	if (!c)
		return NULL;
	c->state = XXH3_createState();
	if (!c->state) {
		free(c);
		return NULL;
	}
	checksum_reset(c);
	return c;
}

void checksum_free(struct checksum *c)
{
	if (!c)
		return;
	XXH3_freeState(c->state);
	free(c);
}

void checksum_reset(struct checksum *c)
{
	XXH3_64bits_reset(c->state);
}

void checksum_add(struct checksum *c, const void *bytes, size_t len)
{
	if (len)
		XXH3_64bits_update(c->state, bytes, len);
}

uint64_t checksum_value(const struct checksum *c)
{
	return XXH3_64bits_digest(c->state);
}

void checksum_wide(const void *bytes, size_t len, uint64_t seed,
		   uint8_t out[16])
{
	XXH128_hash_t h = XXH3_128bits_withSeed(bytes, len, seed);
	uint64_t halves[2] = { htole64(h.low64), htole64(h.high64) };

	memcpy(out, halves, sizeof(halves));
}
