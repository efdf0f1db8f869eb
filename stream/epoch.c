/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's epoch: its arena, and its way into frames.
 *
 * The happy path of the encoder:
 *   - the first round of an epoch puts EPOCH_BEGIN;
 *   - each round puts its pages, in the order captured, which is ascending;
 *   - the last round puts the state records and EPOCH_END with the sums.
 * Failure: without a buffer (link gone) or memory the epoch ends halfway, and
 * the encoder is of no use before epoch_encoder_reset().
 */
#include "config.h"

#include "stream/epoch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/memory.h"
#include "stream/checksum.h"
#include "stream/messages.h"

enum {
	/* The size of a huge page on x86, where there are such. */
	HUGE_BYTES = 2 * 1024 * 1024,
};

/*
 * Memory of which every page is present: the first touch of a page costs more
 * than copying one, and must not happen while the guest is stopped.  The
 * stores are volatile since a compiler may turn malloc and memset into calloc,
 * which touches nothing.
 */
static void *alloc_touched(size_t bytes)
{
	volatile uint8_t *v;
	void *p;

	bytes += !bytes;
	if (memory_short() ||
	    posix_memalign(&p,
			   bytes < HUGE_BYTES ? WIRE_PAGE_BYTES : HUGE_BYTES,
			   bytes))
		return NULL;
	/* A wish: without it the arena is only slower. */
	if (bytes >= HUGE_BYTES)
		madvise(p, bytes, MADV_HUGEPAGE);
	/*
	 * All in one call: a fault for each page takes a domain 0 three times
	 * as long.  Kernels before 5.14 do not know it, and are as slow.
	 */
	madvise(p, bytes, MADV_POPULATE_WRITE);
	v = p;
	for (size_t at = 0; at < bytes; at += WIRE_PAGE_BYTES)
		v[at] = 0;
	v[bytes - 1] = 0;
	return p;
}

struct epoch *epoch_new(size_t page_capacity, size_t state_capacity)
{
	struct epoch *e;

	if (page_capacity > WIRE_GFN_MAX + 1)
		return NULL;
	e = memory_zeroed(sizeof(*e));
	if (!e)
		return NULL;
	if (state_capacity > WIRE_STATE_MAX)
		state_capacity = WIRE_STATE_MAX;
	e->page_capacity = page_capacity;
	e->state_capacity = state_capacity;
	e->gfns = alloc_touched(page_capacity * sizeof(e->gfns[0]));
	e->pages = alloc_touched(page_capacity * WIRE_PAGE_BYTES);
	e->state = alloc_touched(state_capacity);
	if (!e->gfns || !e->pages || !e->state) {
		epoch_free(e);
		return NULL;
	}
	return e;
}

void epoch_free(struct epoch *e)
{
	if (!e)
		return;
	free(e->gfns);
	free(e->pages);
	free(e->state);
	free(e);
}

struct epoch_encoder {
	struct page_encoder *pages;
	struct checksum *checksum;
	struct wire_epoch_end sums; /* but for the checksum */
	uint64_t number;	    /* valid while open */
	bool open; /* EPOCH_BEGIN was put and EPOCH_END was not */
};

struct epoch_encoder *epoch_encoder_new(int level)
{
	struct epoch_encoder *enc = memory_zeroed(sizeof(*enc));

	if (!enc)
		return NULL;
	enc->pages = page_encoder_new(level);
	enc->checksum = checksum_new();
	if (!enc->pages || !enc->checksum) {
		epoch_encoder_free(enc);
		return NULL;
	}
	return enc;
}

void epoch_encoder_free(struct epoch_encoder *enc)
{
	if (!enc)
		return;
	page_encoder_free(enc->pages);
	checksum_free(enc->checksum);
	free(enc);
}

void epoch_encoder_reset(struct epoch_encoder *enc)
{
	enc->open = false;
}

/* What the frames of one call have in common. */
struct output {
	const struct frame_sink *sink;
	uint64_t epoch;
	uint64_t *sent_bytes;
};

static struct frame_buf *output_get(const struct output *out, uint16_t type)
{
	struct frame_buf *b = out->sink->get(out->sink->arg);

	if (b) {
		b->type = type;
		b->epoch = out->epoch;
		b->length = 0;
	}
	return b;
}

static void output_put(const struct output *out, struct frame_buf *b)
{
	*out->sent_bytes += b->length;
	out->sink->put(out->sink->arg, b);
}

static int put_bytes(const struct output *out, uint16_t type,
		     const uint8_t *bytes, size_t len)
{
	struct frame_buf *b = output_get(out, type);

	if (!b)
		return -ECANCELED;
	if (len)
		memcpy(frame_payload(b), bytes, len);
	b->length = (uint32_t)len;
	output_put(out, b);
	return 0;
}

static void add_up(struct epoch_encoder *enc, const uint8_t *payload,
		   size_t len)
{
	enc->sums.bytes += len;
	checksum_add(enc->checksum, payload, len);
}

static int put_begin(struct epoch_encoder *enc, const struct output *out)
{
	enc->sums = (struct wire_epoch_end){ 0 };
	enc->number = out->epoch;
	enc->open = true;
	checksum_reset(enc->checksum);
	return put_bytes(out, WIRE_EPOCH_BEGIN, NULL, 0);
}

static int put_pages(struct epoch_encoder *enc, const struct epoch *e,
		     const struct output *out)
{
	const uint8_t *batch[WIRE_BATCH_PAGES];

	for (size_t at = 0; at < e->page_count; at += WIRE_BATCH_PAGES) {
		int err = at ? fault_at(FAULT_MID_PAGES) : 0;
		struct frame_buf *b = err ? NULL : output_get(out, WIRE_PAGES);
		size_t n = e->page_count - at;

		if (!b)
			return err ? err : -ECANCELED;
		if (n > WIRE_BATCH_PAGES)
			n = WIRE_BATCH_PAGES;
		for (size_t i = 0; i < n; i++)
			batch[i] = e->pages + (at + i) * WIRE_PAGE_BYTES;
		b->length = (uint32_t)page_encode(enc->pages, (unsigned int)n,
						  e->gfns + at, batch,
						  frame_payload(b));
		enc->sums.pages += n;
		add_up(enc, frame_payload(b), b->length);
		output_put(out, b);
	}
	return 0;
}

static int put_state(struct epoch_encoder *enc, const struct epoch *e,
		     const struct output *out)
{
	for (size_t at = 0; at < e->state_bytes; at += WIRE_PAYLOAD_MAX) {
		size_t n = e->state_bytes - at;
		int err;

		if (n > WIRE_PAYLOAD_MAX)
			n = WIRE_PAYLOAD_MAX;
		add_up(enc, e->state + at, n);
		err = put_bytes(out, WIRE_STATE, e->state + at, n);
		if (err)
			return err;
	}
	return 0;
}

/* By way of a copy: the sink counts its own buffers and takes no others. */
static int put_end(struct epoch_encoder *enc, const struct output *out)
{
	AUTO_FREE struct frame_buf *b = NULL;

	enc->sums.checksum = checksum_value(enc->checksum);
	b = epoch_end_encode(out->epoch, &enc->sums);
	if (!b)
		return -ENOMEM;
	enc->open = false;
	return put_bytes(out, WIRE_EPOCH_END, frame_payload(b), b->length);
}

int epoch_encode(struct epoch_encoder *enc, const struct epoch *e,
		 const struct frame_sink *sink, uint64_t *sent_bytes)
{
	const struct output out = { sink, e->number, sent_bytes };
	int err = 0;

	/* A new number while the last epoch has not ended: a caller's bug. */
	assert(!enc->open || enc->number == e->number);
	if (!enc->open)
		err = put_begin(enc, &out);
	if (!err)
		err = put_pages(enc, e, &out);
	if (err || e->partial)
		return err;
	err = fault_at(FAULT_BEFORE_STATE);
	if (!err)
		err = put_state(enc, e, &out);
	if (!err)
		err = fault_at(FAULT_BEFORE_EPOCH_END);
	return err ? err : put_end(enc, &out);
}
