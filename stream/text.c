/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UTF-8 as RFC 3629 has it, and which of its characters may reach a log: one
 * that moves the cursor, ends the line or turns the writing direction lets a
 * peer forge lines.  Pure; any thread.
 */
#include "config.h"

#include "stream/text.h"

#include <string.h>

static bool code_printable(uint32_t code)
{
	if (code < 0x20 || (code >= 0x7f && code < 0xa0))
		return false;
	/* U+2028, U+2029 end lines; the rest are bidirectional controls. */
	if (code == 0x200e || code == 0x200f)
		return false;
	if (code >= 0x2028 && code <= 0x202e)
		return false;
	return code < 0x2066 || code > 0x2069;
}

/* Length of the printable character at `p`, 1..4, or 0 where there is none. */
static size_t char_length(const uint8_t *p, size_t left)
{
	/* Smallest code that needs this many bytes; below it is overlong. */
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len;
	uint32_t code;

	if (p[0] < 0x80)
		return code_printable(p[0]);
	if (p[0] >= 0xc0 && p[0] < 0xe0)
		len = 2;
	else if (p[0] >= 0xe0 && p[0] < 0xf0)
		len = 3;
	else if (p[0] >= 0xf0 && p[0] < 0xf8)
		len = 4;
	else
		return 0;
	if (left < len)
		return 0;
	code = p[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	if (code < smallest[len] || code > 0x10ffff)
		return 0;
	if (code >= 0xd800 && code <= 0xdfff)
		return 0;
	return code_printable(code) ? len : 0;
}

bool text_printable(const uint8_t *text, size_t len)
{
	size_t n;

	for (size_t at = 0; at < len; at += n) {
		n = char_length(text + at, len - at);
		if (!n)
			return false;
	}
	return true;
}

size_t text_clean(const char *text, uint8_t *out, size_t room)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t left = strlen(text);
	size_t used = 0;

	while (left) {
		size_t n = char_length(p, left);
		size_t taken = n ? n : 1;

		if (room - used < taken)
			break;
		if (n)
			memcpy(out + used, p, n);
		else
			out[used] = '?';
		used += taken;
		p += taken;
		left -= taken;
	}
	return used;
}
