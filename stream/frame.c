/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of a frame, both ways, and the table of types.
 *
 * A header is refused before a byte of its payload is waited for: what passes
 * here bounds the memory that a peer can make us take.  Any thread.
 */
#include "config.h"

#include "stream/frame.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/cursor.h"
#include "base/memory.h"

static const struct {
	const char *name;
	uint32_t limit;
} types[] = {
#define X(number, name, limit) [number] = { #name, limit },
	WIRE_TYPES(X)
#undef X
};

/*
 * Only these carry an epoch's number; in all others it is reserved.  A DISK of
 * the synchronisation has 0.
 */
static bool type_in_epoch(uint16_t type)
{
	switch (type) {
	case WIRE_EPOCH_BEGIN:
	case WIRE_PAGES:
	case WIRE_STATE:
	case WIRE_EPOCH_END:
	case WIRE_ACK:
	case WIRE_DISK:
		return true;
	default:
		return false;
	}
}

static bool type_known(uint16_t type)
{
	return type < sizeof(types) / sizeof(types[0]) && types[type].name;
}

const char *frame_type_name(uint16_t type)
{
	return type_known(type) ? types[type].name : "?";
}

static void heap_release(struct frame_buf *b)
{
	free(b);
}

struct frame_buf *frame_buf_new(uint16_t type, uint64_t epoch,
				uint32_t capacity)
{
	struct frame_buf *b =
		memory_new(sizeof(*b) + WIRE_HEADER_BYTES + (size_t)capacity);

	if (!b)
		return NULL;
	*b = (struct frame_buf){
		.release = heap_release,
		.epoch = epoch,
		.type = type,
		.capacity = capacity,
	};
	return b;
}

void frame_header_encode(struct frame_buf *b, uint64_t sequence)
{
	struct cursor c = cursor_over(b->bytes, WIRE_HEADER_BYTES);

	cursor_put_u16(&c, b->type);
	cursor_put_u16(&c, 0);
	cursor_put_u32(&c, b->length);
	cursor_put_u64(&c, b->epoch);
	cursor_put_u64(&c, sequence);
}

int frame_header_decode(const uint8_t *bytes, uint64_t sequence,
			struct frame *f, const char **why)
{
	struct cursor c = cursor_over(bytes, WIRE_HEADER_BYTES);
	uint32_t limit = WIRE_PAYLOAD_MAX;
	uint16_t flags;

	*f = (struct frame){ .type = cursor_get_u16(&c) };
	flags = cursor_get_u16(&c);
	f->length = cursor_get_u32(&c);
	f->epoch = cursor_get_u64(&c);
	f->sequence = cursor_get_u64(&c);

	if (type_known(f->type)) {
		limit = types[f->type].limit;
	} else if (!(f->type & WIRE_OPTIONAL)) {
		*why = "a frame of an unknown mandatory type";
		return -EPROTO;
	}
	if (flags) {
		*why = "reserved bits are set in a frame header";
		return -EPROTO;
	}
	if (f->epoch && type_known(f->type) && !type_in_epoch(f->type)) {
		*why = "a frame outside epochs has the number of one";
		return -EPROTO;
	}
	if (f->length > limit) {
		*why = "a frame is longer than its type allows";
		return -EPROTO;
	}
	if (f->sequence != sequence) {
		*why = "a frame is out of sequence";
		return -EPROTO;
	}
	return 0;
}
