/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries one behind the other, each with a descriptor (Xen,
 * public/hvm/save.h); the first is the header, the last has no content.
 */
#include "config.h"

#include "resume/xen/context.h"

#include "base/cursor.h"

/* HVM_SAVE_CODE(HEADER), HVM_SAVE_CODE(END). */
enum { CODE_HEADER = 1, CODE_END = 0 };

bool xen_context_whole(const uint8_t *bytes, size_t length)
{
	struct cursor c = cursor_over(bytes, length);
	uint16_t code = cursor_get_u16(&c);

	if (code != CODE_HEADER)
		return false;
	for (;;) {
		cursor_get_u16(&c); /* whose it is */
		cursor_take(&c, cursor_get_u32(&c));
		if (c.bad)
			return false;
		if (code == CODE_END)
			return cursor_left(&c) == 0;
		code = cursor_get_u16(&c);
	}
}
