/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PAGES payloads: pages with their gfns.  A page that is as it was sent before
 * is left out, a page of zeroes is a flag, one that was sent before is a delta
 * where that is shorter (stream/delta.h), the others are whole; deltas and
 * whole pages together are one zstd frame, or raw where zstd does not make them
 * smaller.
 */
#ifndef STREAM_PAGES_H
#define STREAM_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "stream/format.h"
#include "stream/shadow.h"

struct page_encoder;
struct page_decoder;

/* What became of pages. */
struct page_counts {
	uint64_t same; /* as sent before: left out */
	uint64_t zero;
	uint64_t delta;
	uint64_t whole;
	uint64_t body_bytes;	 /* of deltas and whole pages */
	uint64_t compressed;	 /* payloads of which zstd made less */
	uint64_t incompressible; /* of which it did not */
};

/* `level` is zstd's, or 0 for no compression.  NULL: no memory. */
struct page_encoder *page_encoder_new(int level);
void page_encoder_free(struct page_encoder *e);

/* Pages of an epoch, which may be written to meanwhile: see epoch_refer(). */
struct page_run {
	uint64_t epoch;
	size_t count;
	const uint64_t *gfns; /* <= WIRE_GFN_MAX */
	const uint8_t *const *pages;
};

/*
 * Encodes the first of the pages, as many as one payload takes, into `out`,
 * which has room for WIRE_PAYLOAD_MAX bytes, and takes them off the run.
 * `shadow`, or NULL, is what the standby has, and is made what it will have.
 * *entries becomes the pages in the payload; where that is 0, all were as
 * before, and nothing is to be sent.  `behind`: whether the link is, so that
 * zstd is to be tried also where it takes long.
 * Returns the payload's length; it cannot fail: raw always fits.
 */
size_t page_encode(struct page_encoder *e, struct page_run *run,
		   struct shadow *shadow, bool behind, uint8_t *out,
		   unsigned int *entries);
const struct page_counts *page_counts(const struct page_encoder *e);

struct page_decoder *page_decoder_new(void);
void page_decoder_free(struct page_decoder *d);

/* A page as it came. */
struct page_item {
	uint64_t gfn;
	enum wire_page_kind kind;
	const uint8_t *bytes; /* a page, a whole delta; NULL of zeroes */
	size_t length;
};

/* Makes of the page's version before the one that came. */
void page_item_apply(const struct page_item *item, uint8_t *page);

/*
 * Checks and decodes one payload.  For each page calls `page`, with gfns up to
 * max_gfn; the bytes are valid during the call.  `page` returns 0 or a negative
 * errno, which ends the decoding and is returned.  Nothing is called before
 * the whole payload has been checked.  Returns the number of pages, or
 * -EPROTO with *why set.
 */
int page_decode(struct page_decoder *d, const uint8_t *payload, size_t length,
		uint64_t max_gfn,
		int (*page)(void *arg, const struct page_item *item), void *arg,
		const char **why);

#endif
