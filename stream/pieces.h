/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IMAGE payloads: a piece of the initial image, compressed where that makes it
 * smaller.
 */
#ifndef STREAM_PIECES_H
#define STREAM_PIECES_H

#include <stddef.h>
#include <stdint.h>

#include "stream/body.h"
#include "stream/format.h"

/*
 * Encodes `length` (1..WIRE_PIECE_MAX) bytes into `out`, which has room for
 * WIRE_PAYLOAD_MAX.  Returns the payload's length; it cannot fail.
 */
size_t piece_encode(struct body_encoder *e, const uint8_t *bytes, size_t length,
		    uint8_t *out);

/*
 * Checks and decodes one payload into `out`, which has room for WIRE_PIECE_MAX
 * bytes.  The piece's length, or -EPROTO.
 */
int piece_decode(struct body_decoder *d, const uint8_t *payload, size_t length,
		 uint8_t *out);

#endif
