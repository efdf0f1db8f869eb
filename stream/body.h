/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bulk of a payload: some bytes as one zstd frame, or as they are where
 * zstd does not make them smaller.  The only user of zstd.
 */
#ifndef STREAM_BODY_H
#define STREAM_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "zstd 1.5.4" */
const char *body_library_version(void);

struct body_encoder;
struct body_decoder;

/* `level` is zstd's, or 0 for no compression.  NULL: no memory. */
struct body_encoder *body_encoder_new(int level);
void body_encoder_free(struct body_encoder *e); /* NULL is fine */

/*
 * Length of the zstd frame made of `length` bytes at `bytes`, in `out`, which
 * has room for `length` bytes; 0 where it would not be shorter than them.
 */
size_t body_encode(struct body_encoder *e, const uint8_t *bytes, size_t length,
		   uint8_t *out);

struct body_decoder *body_decoder_new(void);	/* NULL: no memory */
void body_decoder_free(struct body_decoder *d); /* NULL is fine */

/*
 * How many bytes the whole of `body`, one zstd frame, holds, which are then in
 * `out`; 0 where it is none, or of none or more than `room`.
 */
size_t body_decode_some(struct body_decoder *d, const uint8_t *body,
			size_t body_bytes, uint8_t *out, size_t room);
/* Whether they are just `length`. */
bool body_decode(struct body_decoder *d, const uint8_t *body, size_t body_bytes,
		 uint8_t *out, size_t length);

#endif
