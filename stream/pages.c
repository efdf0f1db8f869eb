/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PAGES payloads.
 *
 * Encoding: entries first, zero pages found on the way; then the bodies of
 * the others.  Decoding: everything is checked before the first page is handed
 * out.  Both keep their buffers, so that nothing is allocated per payload.  One
 * thread at a time uses an encoder or a decoder.
 */
#include "config.h"

#include "stream/pages.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/memory.h"
#include "stream/body.h"

enum {
	BATCH_BYTES = WIRE_BATCH_PAGES * WIRE_PAGE_BYTES,
	KIND_SHIFT = 56,
};

struct page_encoder {
	struct body_encoder *body;
	uint8_t gathered[BATCH_BYTES];
};

struct page_decoder {
	struct body_decoder *body;
	uint8_t bodies[BATCH_BYTES];
};

struct page_encoder *page_encoder_new(int level)
{
	struct page_encoder *e = memory_new(sizeof(*e));

	if (!e)
		return NULL;
	e->body = body_encoder_new(level);
	if (!e->body) {
		free(e);
		return NULL;
	}
	return e;
}

void page_encoder_free(struct page_encoder *e)
{
	if (!e)
		return;
	body_encoder_free(e->body);
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

size_t page_encode(struct page_encoder *e, unsigned int count,
		   const uint64_t *gfns, const uint8_t *const *pages,
		   uint8_t *out)
{
	struct cursor c = cursor_over(out, WIRE_PAYLOAD_MAX);
	const uint8_t *data[WIRE_BATCH_PAGES];
	struct cursor encoding;
	unsigned int data_count = 0;
	size_t body_bytes = 0;

	cursor_put_u32(&c, count);
	encoding = c;
	cursor_put_u32(&c, WIRE_ENCODING_RAW);
	for (unsigned int i = 0; i < count; i++) {
		uint64_t kind = WIRE_PAGE_ZERO;

		if (!page_is_zero(pages[i])) {
			kind = WIRE_PAGE_DATA;
			data[data_count++] = pages[i];
		}
		cursor_put_u64(&c, kind << KIND_SHIFT | gfns[i]);
	}
	if (data_count)
		body_bytes =
			body_encode(e->body, gather(e, data_count, data),
				    (size_t)data_count * WIRE_PAGE_BYTES, c.at);
	if (body_bytes) {
		cursor_put_u32(&encoding, WIRE_ENCODING_ZSTD);
		return (size_t)(c.at - out) + body_bytes;
	}
	for (unsigned int i = 0; i < data_count; i++)
		cursor_put_bytes(&c, data[i], WIRE_PAGE_BYTES);
	return (size_t)(c.at - out);
}

struct page_decoder *page_decoder_new(void)
{
	struct page_decoder *d = memory_new(sizeof(*d));

	if (!d)
		return NULL;
	d->body = body_decoder_new();
	if (!d->body) {
		free(d);
		return NULL;
	}
	return d;
}

void page_decoder_free(struct page_decoder *d)
{
	if (!d)
		return;
	body_decoder_free(d->body);
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

/* Where the bodies lie one after the other, or NULL with *why. */
static const uint8_t *check_bodies(struct page_decoder *d, uint32_t encoding,
				   struct cursor *c, size_t raw_bytes,
				   const char **why)
{
	const uint8_t *bodies = NULL;

	switch (encoding) {
	case WIRE_ENCODING_RAW:
		if (cursor_left(c) == raw_bytes)
			bodies = c->at;
		break;
	case WIRE_ENCODING_ZSTD:
		if (body_decode(d->body, c->at, cursor_left(c), d->bodies,
				raw_bytes))
			bodies = d->bodies;
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
