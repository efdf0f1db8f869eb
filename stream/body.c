/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zstd, a frame at a time.  Contexts are kept, so that nothing is allocated per
 * payload.  One thread at a time uses an encoder or a decoder.
 */
#include "config.h"

#include "stream/body.h"

#include <stdlib.h>

#include <zstd.h>

#include "base/cursor.h"
#include "base/memory.h"

struct body_encoder {
	ZSTD_CCtx *zstd; /* NULL: no compression */
};

struct body_decoder {
	ZSTD_DCtx *zstd;
};

const char *body_library_version(void)
{
	return "zstd " ZSTD_VERSION_STRING;
}

struct body_encoder *body_encoder_new(int level)
{
	struct body_encoder *e = memory_zeroed(sizeof(*e));

	if (!e || !level)
		return e;
	e->zstd = ZSTD_createCCtx();
	if (!e->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(
				e->zstd, ZSTD_c_compressionLevel, level))) {
		body_encoder_free(e);
		return NULL;
	}
	return e;
}

void body_encoder_free(struct body_encoder *e)
{
	if (!e)
		return;
	ZSTD_freeCCtx(e->zstd);
	free(e);
}

size_t body_encode(struct body_encoder *e, const uint8_t *bytes, size_t length,
		   uint8_t *out)
{
	size_t n;

	if (!e->zstd || !length)
		return 0;
	/* With less room than the bytes take, zstd itself gives up in time. */
	n = ZSTD_compress2(e->zstd, out, length - 1, bytes, length);
	return ZSTD_isError(n) ? 0 : n;
}

struct body_decoder *body_decoder_new(void)
{
	struct body_decoder *d = memory_new(sizeof(*d));

	if (!d)
		return NULL;
	d->zstd = ZSTD_createDCtx();
	if (!d->zstd) {
		free(d);
		return NULL;
	}
	return d;
}

void body_decoder_free(struct body_decoder *d)
{
	if (!d)
		return;
	ZSTD_freeDCtx(d->zstd);
	free(d);
}

/*
 * The frame has to say itself how much it holds: ZSTD_decompressDCtx() would
 * also take several, or skippable ones.
 */
size_t body_decode_some(struct body_decoder *d, const uint8_t *body,
			size_t body_bytes, uint8_t *out, size_t room)
{
	struct cursor c = cursor_over(body, body_bytes);
	unsigned long long length;

	if (cursor_get_u32(&c) != ZSTD_MAGICNUMBER)
		return 0;
	length = ZSTD_getFrameContentSize(body, body_bytes);
	/* Not known, or no frame: both are larger than any room. */
	if (length > room ||
	    ZSTD_findFrameCompressedSize(body, body_bytes) != body_bytes ||
	    ZSTD_decompressDCtx(d->zstd, out, (size_t)length, body,
				body_bytes) != length)
		return 0;
	return (size_t)length;
}

bool body_decode(struct body_decoder *d, const uint8_t *body, size_t body_bytes,
		 uint8_t *out, size_t length)
{
	return length &&
	       body_decode_some(d, body, body_bytes, out, length) == length;
}
