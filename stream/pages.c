/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PAGES payloads; the only user of zstd.
 *
 * Encoding: entries first, zero pages found on the way; then the bodies of
 * the others as one zstd frame, or as they are where that is not smaller.
 * Decoding: everything is checked before the first page is handed out, and
 * what zstd makes of the bodies has to fill a buffer of known size exactly.
 * Both keep their contexts, so that nothing is allocated per payload.  One
 * thread at a time uses an encoder or a decoder.
 */
#include "config.h"

#include "stream/pages.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "base/cursor.h"

const char *page_library_version(void)
{
	return "zstd " ZSTD_VERSION_STRING;
}

enum {
	BATCH_BYTES = WIRE_BATCH_PAGES * WIRE_PAGE_BYTES,
	KIND_SHIFT = 56,
};

struct page_encoder {
	ZSTD_CCtx *zstd; /* NULL: no compression */
	uint8_t gathered[BATCH_BYTES];
};

struct page_decoder {
	ZSTD_DCtx *zstd;
	uint8_t bodies[BATCH_BYTES];
};

struct page_encoder *page_encoder_new(int level)
{
	struct page_encoder *e = malloc(sizeof(*e));

	if (!e)
		return NULL;
	e->zstd = NULL;
	if (!level)
		return e;
	e->zstd = ZSTD_createCCtx();
	if (!e->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(
				e->zstd, ZSTD_c_compressionLevel, level))) {
		page_encoder_free(e);
		return NULL;
	}
	return e;
}

void page_encoder_free(struct page_encoder *e)
{
	if (!e)
		return;
	ZSTD_freeCCtx(e->zstd);
	free(e);
}

/* A cache line at a time: most pages differ from zero in their first. */
static bool page_is_zero(const uint8_t *page)
{
	for (size_t at = 0; at < WIRE_PAGE_BYTES; at += 64) {
		uint64_t w[8];

		memcpy(w, page + at, sizeof(w));
		if (w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7])
			return false;
	}
	return true;
}

/* `count` pages as one run of bytes: in place where they lie in a row. */
static const uint8_t *gather(struct page_encoder *e, unsigned int count,
			     const uint8_t *const *pages)
{
	bool in_a_row = true;

	for (unsigned int i = 1; i < count && in_a_row; i++)
		in_a_row = pages[i] == pages[i - 1] + WIRE_PAGE_BYTES;
	if (in_a_row)
		return pages[0];
	for (unsigned int i = 0; i < count; i++)
		memcpy(e->gathered + (size_t)i * WIRE_PAGE_BYTES, pages[i],
		       WIRE_PAGE_BYTES);
	return e->gathered;
}

/* Length of the zstd frame at `out`; 0 where raw is not longer. */
static size_t compress(struct page_encoder *e, unsigned int count,
		       const uint8_t *const *pages, uint8_t *out)
{
	size_t raw_bytes = (size_t)count * WIRE_PAGE_BYTES;
	size_t n;

	if (!e->zstd || !count)
		return 0;
	/* With less room than raw takes, zstd itself gives up in time. */
	n = ZSTD_compress2(e->zstd, out, raw_bytes - 1, gather(e, count, pages),
			   raw_bytes);
	return ZSTD_isError(n) ? 0 : n;
}

size_t page_encode(struct page_encoder *e, unsigned int count,
		   const uint64_t *gfns, const uint8_t *const *pages,
		   uint8_t *out)
{
	struct cursor c = cursor_over(out, WIRE_PAYLOAD_MAX);
	const uint8_t *data[WIRE_BATCH_PAGES];
	struct cursor encoding;
	unsigned int data_count = 0;
	size_t body_bytes;

	cursor_put_u32(&c, count);
	encoding = c;
	cursor_put_u32(&c, WIRE_PAGES_RAW);
	for (unsigned int i = 0; i < count; i++) {
		uint64_t kind = WIRE_PAGE_ZERO;

		if (!page_is_zero(pages[i])) {
			kind = WIRE_PAGE_DATA;
			data[data_count++] = pages[i];
		}
		cursor_put_u64(&c, kind << KIND_SHIFT | gfns[i]);
	}
	body_bytes = compress(e, data_count, data, c.at);
	if (body_bytes) {
		cursor_put_u32(&encoding, WIRE_PAGES_ZSTD);
		return (size_t)(c.at - out) + body_bytes;
	}
	for (unsigned int i = 0; i < data_count; i++)
		cursor_put_bytes(&c, data[i], WIRE_PAGE_BYTES);
	return (size_t)(c.at - out);
}

struct page_decoder *page_decoder_new(void)
{
	struct page_decoder *d = malloc(sizeof(*d));

	if (!d)
		return NULL;
	d->zstd = ZSTD_createDCtx();
	if (!d->zstd) {
		free(d);
		return NULL;
	}
	return d;
}

void page_decoder_free(struct page_decoder *d)
{
	if (!d)
		return;
	ZSTD_freeDCtx(d->zstd);
	free(d);
}

/* Number of DATA entries, or -1 with *why. */
static int check_entries(struct cursor entries, uint64_t max_gfn,
			 const char **why)
{
	int data_count = 0;

	while (cursor_left(&entries)) {
		uint64_t entry = cursor_get_u64(&entries);
		uint64_t gfn = (uint32_t)entry;
		uint64_t kind = entry >> KIND_SHIFT;

		if (entry != (kind << KIND_SHIFT | gfn)) {
			*why = "reserved bits are set in a page entry";
			return -1;
		}
		if (kind != WIRE_PAGE_DATA && kind != WIRE_PAGE_ZERO) {
			*why = "a page entry is of an unknown kind";
			return -1;
		}
		if (gfn > max_gfn) {
			*why = "a page lies above the guest's memory";
			return -1;
		}
		data_count += kind == WIRE_PAGE_DATA;
	}
	return data_count;
}

/*
 * The whole of `body` has to be one frame that says itself how much it holds:
 * ZSTD_decompressDCtx() would also take several, or skippable ones.
 */
static const uint8_t *decompress(struct page_decoder *d, const uint8_t *body,
				 size_t body_bytes, size_t raw_bytes)
{
	struct cursor c = cursor_over(body, body_bytes);

	if (cursor_get_u32(&c) != ZSTD_MAGICNUMBER ||
	    ZSTD_getFrameContentSize(body, body_bytes) != raw_bytes ||
	    ZSTD_findFrameCompressedSize(body, body_bytes) != body_bytes ||
	    ZSTD_decompressDCtx(d->zstd, d->bodies, raw_bytes, body,
				body_bytes) != raw_bytes)
		return NULL;
	return d->bodies;
}

/* Where the bodies lie one after the other, or NULL with *why. */
static const uint8_t *check_bodies(struct page_decoder *d, uint32_t encoding,
				   struct cursor *c, size_t raw_bytes,
				   const char **why)
{
	const uint8_t *bodies = NULL;

	switch (encoding) {
	case WIRE_PAGES_RAW:
		if (cursor_left(c) == raw_bytes)
			bodies = c->at;
		break;
	case WIRE_PAGES_ZSTD:
		if (raw_bytes)
			bodies =
				decompress(d, c->at, cursor_left(c), raw_bytes);
		break;
	default:
		*why = "PAGES of an unknown encoding";
		return NULL;
	}
	if (!bodies)
		*why = "page bodies do not match their entries";
	return bodies;
}

int page_decode(struct page_decoder *d, const uint8_t *payload, size_t length,
		uint64_t max_gfn,
		int (*page)(void *arg, uint64_t gfn, const uint8_t *bytes),
		void *arg, const char **why)
{
	struct cursor c = cursor_over(payload, length);
	uint32_t count = cursor_get_u32(&c);
	uint32_t encoding = cursor_get_u32(&c);
	struct cursor entries;
	const uint8_t *bodies;
	const uint8_t *at;
	int data_count;

	if (c.bad || !count || count > WIRE_BATCH_PAGES) {
		*why = "PAGES with a count out of range";
		return -EPROTO;
	}
	at = cursor_take(&c, count * sizeof(uint64_t));
	if (!at) {
		*why = "PAGES shorter than its entries";
		return -EPROTO;
	}
	entries = cursor_over(at, count * sizeof(uint64_t));
	data_count = check_entries(entries, max_gfn, why);
	if (data_count < 0)
		return -EPROTO;
	bodies = check_bodies(d, encoding, &c,
			      (size_t)data_count * WIRE_PAGE_BYTES, why);
	if (!bodies)
		return -EPROTO;
	while (cursor_left(&entries)) {
		uint64_t entry = cursor_get_u64(&entries);
		bool data = entry >> KIND_SHIFT == WIRE_PAGE_DATA;
		int err = page(arg, (uint32_t)entry, data ? bodies : NULL);

		if (err)
			return err;
		if (data)
			bodies += WIRE_PAGE_BYTES;
	}
	return (int)count;
}
