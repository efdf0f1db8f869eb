/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded reader and writer for little-endian records.
 *
 * Every access is checked against the end.  The first access that does not
 * fit sets `bad`, which sticks: later reads return 0 and later writes do
 * nothing, so a decoder reads all its fields first and asks once.
 */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct cursor {
	uint8_t *at;
	uint8_t *end;
	bool bad;
};

/* Over `len` bytes at `bytes`; writing through a reader's cursor is a bug. */
static inline struct cursor cursor_over(const void *bytes, size_t len)
{
	uint8_t *p = (uint8_t *)(uintptr_t)bytes;

	return (struct cursor){ .at = p, .end = p + len };
}

static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->at);
}

/* The next `len` bytes, or NULL and `bad` where there are not as many. */
static inline uint8_t *cursor_take(struct cursor *c, size_t len)
{
	uint8_t *p = c->at;

	if (c->bad || cursor_left(c) < len) {
		c->bad = true;
		return NULL;
	}
	c->at += len;
	return p;
}

#define CURSOR_FIXED(bits)                                                 \
	static inline uint##bits##_t cursor_get_u##bits(struct cursor *c)  \
	{                                                                  \
		const uint8_t *p = cursor_take(c, sizeof(uint##bits##_t)); \
		uint##bits##_t v = 0;                                      \
                                                                           \
		if (p)                                                     \
			memcpy(&v, p, sizeof(v));                          \
		return le##bits##toh(v);                                   \
	}                                                                  \
	static inline void cursor_put_u##bits(struct cursor *c,            \
					      uint##bits##_t v)            \
	{                                                                  \
		uint8_t *p = cursor_take(c, sizeof(uint##bits##_t));       \
                                                                           \
		v = htole##bits(v);                                        \
		if (p)                                                     \
			memcpy(p, &v, sizeof(v));                          \
	}

CURSOR_FIXED(16)
CURSOR_FIXED(32)
CURSOR_FIXED(64)
#undef CURSOR_FIXED

static inline void cursor_put_bytes(struct cursor *c, const void *bytes,
				    size_t len)
{
	uint8_t *p = cursor_take(c, len);

	if (p && len)
		memcpy(p, bytes, len);
}

/* Copies `len` bytes out; the destination is zeroed where they are missing. */
static inline void cursor_get_bytes(struct cursor *c, void *bytes, size_t len)
{
	const uint8_t *p = cursor_take(c, len);

	if (p)
		memcpy(bytes, p, len);
	else
		memset(bytes, 0, len);
}

#endif
