/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State records, framed as in Xen's migration stream v2.  A record is put
 * whole or not at all.  Pure; any thread.
 */
#include "config.h"

#include "stream/records.h"

#include <errno.h>
#include <string.h>

/* In size_t: a length near 2^32 must not wrap to a small one. */
static size_t padded(uint32_t length)
{
	return ((size_t)length + 7) & ~(size_t)7;
}

uint8_t *record_put(struct cursor *c, enum wire_record type, uint32_t length)
{
	size_t size = sizeof(struct wire_record_header) + padded(length);
	uint8_t *p = cursor_take(c, size);
	struct cursor header;

	if (!p)
		return NULL;
	header = cursor_over(p, sizeof(struct wire_record_header));
	cursor_put_u32(&header, (uint32_t)type);
	cursor_put_u32(&header, length);
	memset(header.at + length, 0, padded(length) - length);
	return header.at;
}

int record_next(struct cursor *c, struct record *r)
{
	size_t size;

	if (!c->bad && !cursor_left(c))
		return 0;
	r->type = cursor_get_u32(c);
	r->length = cursor_get_u32(c);
	size = padded(r->length);
	r->body = cursor_take(c, size);
	if (c->bad)
		return -EPROTO;
	for (size_t i = r->length; i < size; i++) {
		if (r->body[i]) {
			c->bad = true;
			return -EPROTO;
		}
	}
	return 1;
}
