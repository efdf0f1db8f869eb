/* SPDX-License-Identifier: Apache-2.0 */
/* Text from or for a peer: UTF-8 that can be logged without harm. */
#ifndef STREAM_TEXT_H
#define STREAM_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * True for well-formed UTF-8 (RFC 3629) without control characters (C0, DEL,
 * C1), line and paragraph separators, and characters that change the writing
 * direction of what stands around them.
 */
bool text_printable(const uint8_t *text, size_t len);

/*
 * Copies the string `text` to `out`, at most `room` bytes and no NUL, never
 * cutting a character; each byte that is not part of a printable character
 * becomes '?'.  Returns the length, which is then text_printable().
 */
size_t text_clean(const char *text, uint8_t *out, size_t room);

#endif
