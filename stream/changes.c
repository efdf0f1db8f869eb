/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout of changes.  Whoever reads them gets nothing that does not lie on
 * its disk: what passes here may be carried out.  Pure; any thread.
 */
#include "config.h"

#include "stream/changes.h"

#include <errno.h>

#include "base/cursor.h"

static_assert(CHANGE_HEADER_BYTES == sizeof(struct wire_change), "header");
static_assert((int)CHANGE_BYTES_MAX <= (int)WIRE_PIECE_MAX, "one fits a DISK");

static size_t data_bytes(uint16_t kind, uint32_t length)
{
	return kind == CHANGE_WRITE ? length : 0;
}

size_t change_bytes(const struct change *c)
{
	return CHANGE_HEADER_BYTES + data_bytes((uint16_t)c->kind, c->length);
}

size_t change_put(const struct change *c, uint8_t *out, size_t room)
{
	size_t n = change_bytes(c);
	struct cursor to = cursor_over(out, room);

	if (n > room)
		return 0;
	cursor_put_u16(&to, (uint16_t)c->disk);
	cursor_put_u16(&to, (uint16_t)c->kind);
	cursor_put_u32(&to, c->length);
	cursor_put_u64(&to, c->offset);
	cursor_put_bytes(&to, c->data, n - CHANGE_HEADER_BYTES);
	return n;
}

static int refuse(const char **why, const char *text)
{
	*why = text;
	return -EPROTO;
}

static int check(const struct change_bounds *b, uint16_t disk, uint16_t kind,
		 uint32_t length, uint64_t offset, const char **why)
{
	if (disk >= b->disks)
		return refuse(why, "a change of an unknown disk");
	if (kind < CHANGE_WRITE || kind > CHANGE_TRIM)
		return refuse(why, "a change of an unknown kind");
	if (!length)
		return refuse(why, "a change of no bytes");
	if (data_bytes(kind, length) > CHANGE_DATA_MAX)
		return refuse(why, "a change with too much data");
	if (offset > b->sizes[disk] || length > b->sizes[disk] - offset)
		return refuse(why, "a change past the end of its disk");
	return 0;
}

int change_take(const uint8_t **at, size_t *left, const struct change_bounds *b,
		struct change *c, const char **why)
{
	struct cursor from = cursor_over(*at, *left);
	uint16_t disk = cursor_get_u16(&from);
	uint16_t kind = cursor_get_u16(&from);
	uint32_t length = cursor_get_u32(&from);
	uint64_t offset = cursor_get_u64(&from);
	const uint8_t *data;
	int err;

	if (from.bad)
		return refuse(why, "a change without all of its header");
	err = check(b, disk, kind, length, offset, why);
	if (err)
		return err;
	data = cursor_take(&from, data_bytes(kind, length));
	if (from.bad)
		return refuse(why, "a change without all of its data");
	*c = (struct change){
		.disk = disk,
		.kind = (enum wire_change_kind)kind,
		.offset = offset,
		.length = length,
		.data = kind == CHANGE_WRITE ? data : NULL,
	};
	*left = cursor_left(&from);
	*at = from.at;
	return 0;
}
