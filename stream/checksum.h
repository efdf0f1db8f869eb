/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH3-64 over a sequence of pieces, XXH3-128 over one; the only user of
 * libxxhash.
 */
#ifndef STREAM_CHECKSUM_H
#define STREAM_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

struct checksum;

/* NULL where there is no memory. */
struct checksum *checksum_new(void);
void checksum_free(struct checksum *c); /* NULL is fine */
void checksum_reset(struct checksum *c);
void checksum_add(struct checksum *c, const void *bytes, size_t len);
uint64_t checksum_value(const struct checksum *c);

/* XXH3-128 with a seed, its low half first, little-endian. */
void checksum_wide(const void *bytes, size_t len, uint64_t seed,
		   uint8_t out[16]);

#endif
