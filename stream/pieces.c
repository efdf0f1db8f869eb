/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of IMAGE payloads.  Any thread; body.h has the contexts' rule. */
#include "config.h"

#include "stream/pieces.h"

#include <errno.h>
#include <string.h>

#include "base/cursor.h"

size_t piece_encode(struct body_encoder *e, const uint8_t *bytes, size_t length,
		    uint8_t *out)
{
	struct cursor c = cursor_over(out, WIRE_PAYLOAD_MAX);
	size_t n =
		body_encode(e, bytes, length, out + sizeof(struct wire_image));

	cursor_put_u32(&c, (uint32_t)length);
	cursor_put_u32(&c, n ? WIRE_ENCODING_ZSTD : WIRE_ENCODING_RAW);
	if (!n)
		cursor_put_bytes(&c, bytes, length);
	return sizeof(struct wire_image) + (n ? n : length);
}

int piece_decode(struct body_decoder *d, const uint8_t *payload, size_t length,
		 uint8_t *out)
{
	struct cursor c = cursor_over(payload, length);
	uint32_t piece = cursor_get_u32(&c);
	uint32_t encoding = cursor_get_u32(&c);
	bool good = false;

	if (c.bad || !piece || piece > WIRE_PIECE_MAX)
		return -EPROTO;
	if (encoding == WIRE_ENCODING_RAW) {
		good = cursor_left(&c) == piece;
		if (good)
			memcpy(out, c.at, piece);
	} else if (encoding == WIRE_ENCODING_ZSTD) {
		good = body_decode(d, c.at, cursor_left(&c), out, piece);
	}
	return good ? (int)piece : -EPROTO;
}
