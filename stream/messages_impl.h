/* SPDX-License-Identifier: Apache-2.0 */
/* What all encoders and decoders of control frames do; nobody else's. */
#ifndef STREAM_MESSAGES_IMPL_H
#define STREAM_MESSAGES_IMPL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "stream/frame.h"

/* A buffer of exactly `length` bytes and a cursor over its payload. */
static inline struct frame_buf *message_new(uint16_t type, uint64_t epoch,
					    size_t length, struct cursor *c)
{
	struct frame_buf *b = frame_buf_new(type, epoch, (uint32_t)length);

	if (!b)
		return NULL;
	b->length = (uint32_t)length;
	*c = cursor_over(frame_payload(b), length);
	return b;
}

static inline int refuse(const char **why, const char *text)
{
	*why = text;
	return -EPROTO;
}

#endif
