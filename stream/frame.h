/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: the header every message starts with, and the buffers they travel
 * in.  Pure: no I/O, no threads.
 */
#ifndef STREAM_FRAME_H
#define STREAM_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "stream/format.h"

/* A frame as received; `payload` belongs to whoever calls with it. */
struct frame {
	uint16_t type;
	uint32_t length;
	uint64_t epoch;
	uint64_t sequence;
	const uint8_t *payload;
};

/*
 * A frame to be sent.  The payload is written at frame_payload(); the link
 * fills in the header when the frame's turn comes, and calls `release` once,
 * on the event loop's thread, when it needs the buffer no more (sent or link
 * lost).  `owner` and `next` are for the holder of the moment.
 */
struct frame_buf {
	struct frame_buf *next;
	void (*release)(struct frame_buf *);
	void *owner;
	uint64_t epoch;
	uint16_t type;
	uint32_t length;   /* of the payload, set before sending */
	uint32_t capacity; /* of the payload */
	uint8_t bytes[];   /* WIRE_HEADER_BYTES, then the payload */
};

static inline uint8_t *frame_payload(struct frame_buf *b)
{
	return b->bytes + WIRE_HEADER_BYTES;
}

/*
 * A buffer from the heap for `capacity` bytes of payload, released by free().
 * NULL where there is no memory.
 */
struct frame_buf *frame_buf_new(uint16_t type, uint64_t epoch,
				uint32_t capacity);

/* Writes the header of `b` with this sequence number into b->bytes. */
void frame_header_encode(struct frame_buf *b, uint64_t sequence);

/*
 * Reads WIRE_HEADER_BYTES at `bytes` into `f` (payload left NULL) and checks
 * it: known type or optional bit, reserved bits zero, length within the
 * type's limit (WIRE_PAYLOAD_MAX for unknown optional types), no epoch in a
 * type that belongs to none, sequence equal to `sequence`.  0, or -EPROTO with
 * *why set to a constant text.
 */
int frame_header_decode(const uint8_t *bytes, uint64_t sequence,
			struct frame *f, const char **why);

/* "HELLO", ...; "?" for an unknown type. */
const char *frame_type_name(uint16_t type);

#endif
