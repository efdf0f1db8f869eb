/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PAGES payloads: up to WIRE_BATCH_PAGES pages with their gfns; a page of
 * zeroes is a flag, the others are one zstd frame, or raw where zstd does not
 * make them smaller.
 */
#ifndef STREAM_PAGES_H
#define STREAM_PAGES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "stream/format.h"

struct page_encoder;
struct page_decoder;

/* `level` is zstd's, or 0 for no compression.  NULL: no memory. */
struct page_encoder *page_encoder_new(int level);
void page_encoder_free(struct page_encoder *e);

/*
 * Encodes `count` (1..WIRE_BATCH_PAGES) pages into `out`, which has room for
 * WIRE_PAYLOAD_MAX bytes.  gfns[i] <= WIRE_GFN_MAX belongs to pages[i].
 * Returns the payload's length; it cannot fail: raw always fits.
 */
size_t page_encode(struct page_encoder *e, unsigned int count,
		   const uint64_t *gfns, const uint8_t *const *pages,
		   uint8_t *out);

struct page_decoder *page_decoder_new(void);
void page_decoder_free(struct page_decoder *d);

/*
 * Checks and decodes one payload.  For each page calls `page` with its gfn,
 * which is <= max_gfn, and its WIRE_PAGE_BYTES bytes, or NULL for a page of
 * zeroes; the bytes are valid during the call.  `page` returns 0 or a negative
 * errno, which ends the decoding and is returned.  Nothing is called before
 * the whole payload has been checked.  Returns the number of pages, or
 * -EPROTO with *why set.
 */
int page_decode(struct page_decoder *d, const uint8_t *payload, size_t length,
		uint64_t max_gfn,
		int (*page)(void *arg, uint64_t gfn, const uint8_t *bytes),
		void *arg, const char **why);

#endif
