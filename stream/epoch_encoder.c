/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's epoch on its way into frames.
 *
 * The happy path:
 *   - the first round of an epoch puts EPOCH_BEGIN;
 *   - each round puts its pages, in the order captured, and then the changes of
 *     disks that belong to it;
 *   - the last round puts the state records and EPOCH_END with the sums.
 * Failure: without a buffer (link gone) or memory the epoch ends halfway.  What
 * was not put may be in the shadow already, so nothing more is encoded for that
 * connection.
 */
#include "config.h"

#include "stream/epoch_encoder.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/memory.h"
#include "stream/checksum.h"
#include "stream/messages.h"
#include "stream/pieces.h"
#include "stream/shadow.h"

struct epoch_encoder {
	struct page_encoder *pages;
	struct checksum *checksum;
	struct wire_epoch_end sums; /* but for the checksum */
	uint64_t number;	    /* valid while open */
	bool open;   /* EPOCH_BEGIN was put and EPOCH_END was not */
	bool broken; /* for this connection */
	uint64_t connection;
	struct shadow *shadow; /* NULL: no deltas */

	/* Of changes of disks: */
	struct body_encoder *zstd;
	struct body_encoder *raw;
	uint8_t changes[WIRE_PIECE_MAX];
};

struct epoch_encoder *epoch_encoder_new(int level)
{
	struct epoch_encoder *enc = memory_zeroed(sizeof(*enc));

	if (!enc)
		return NULL;
	enc->pages = page_encoder_new(level);
	enc->checksum = checksum_new();
	enc->zstd = body_encoder_new(level);
	enc->raw = body_encoder_new(0);
	if (!enc->pages || !enc->checksum || !enc->zstd || !enc->raw) {
		epoch_encoder_free(enc);
		return NULL;
	}
	return enc;
}

void epoch_encoder_free(struct epoch_encoder *enc)
{
	if (!enc)
		return;
	shadow_free(enc->shadow);
	page_encoder_free(enc->pages);
	checksum_free(enc->checksum);
	body_encoder_free(enc->zstd);
	body_encoder_free(enc->raw);
	free(enc);
}

const struct page_counts *epoch_encoder_counts(const struct epoch_encoder *enc)
{
	return page_counts(enc->pages);
}

size_t epoch_encoder_memory_bytes(const struct epoch_encoder *enc)
{
	return enc->shadow ? shadow_memory_bytes(enc->shadow) : 0;
}

/* Without memory for a shadow, pages are sent whole. */
static void meet(struct epoch_encoder *enc, const struct epoch_peer *peer)
{
	if (enc->connection == peer->connection) {
		if (enc->shadow)
			shadow_limit(enc->shadow, peer->shadow_room);
		return;
	}
	enc->connection = peer->connection;
	enc->open = enc->broken = false;
	shadow_free(enc->shadow);
	enc->shadow = peer->shadow_bytes
			      ? shadow_new(peer->shadow_bytes, peer->max_gfn)
			      : NULL;
	if (enc->shadow)
		shadow_limit(enc->shadow, peer->shadow_room);
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

/* One payload, if something has changed. */
static int put_some(struct epoch_encoder *enc, struct page_run *run,
		    const struct output *out)
{
	const struct frame_sink *sink = out->sink;
	struct frame_buf *b = output_get(out, WIRE_PAGES);
	unsigned int entries;

	if (!b)
		return -ECANCELED;
	b->length = (uint32_t)page_encode(enc->pages, run, enc->shadow,
					  sink->behind(sink->arg),
					  frame_payload(b), &entries);
	if (!entries) {
		sink->unget(sink->arg, b);
		return 0;
	}
	enc->sums.pages += entries;
	add_up(enc, frame_payload(b), b->length);
	output_put(out, b);
	return 0;
}

static int put_pages(struct epoch_encoder *enc, const struct epoch *e,
		     const struct output *out)
{
	struct page_run run = { e->number, e->page_count, e->gfns, e->where };
	int err = 0;

	while (run.count && !err) {
		err = put_some(enc, &run, out);
		if (!err)
			err = fault_at(FAULT_MID_PAGES);
	}
	return err;
}

/* One payload of them: how many bytes it stands for, or 0 behind the last. */
static ssize_t put_some_changes(struct epoch_encoder *enc,
				const struct epoch_changes *changes,
				const struct output *out)
{
	const struct frame_sink *sink = out->sink;
	ssize_t n =
		changes->next(changes->arg, enc->changes, sizeof(enc->changes));
	struct frame_buf *b;

	if (n <= 0)
		return n;
	b = output_get(out, WIRE_DISK);
	if (!b)
		return -ECANCELED;
	/* As with whole pages: zstd is for bytes that would wait. */
	b->length = (uint32_t)piece_encode(
		sink->behind(sink->arg) ? enc->zstd : enc->raw, enc->changes,
		(size_t)n, frame_payload(b));
	add_up(enc, frame_payload(b), b->length);
	output_put(out, b);
	return n;
}

static int put_changes(struct epoch_encoder *enc,
		       const struct epoch_changes *changes,
		       const struct output *out)
{
	ssize_t n = 0;

	if (changes) {
		do
			n = put_some_changes(enc, changes, out);
		while (n > 0);
	}
	return (int)n;
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

static int encode(struct epoch_encoder *enc, const struct epoch *e,
		  const struct epoch_changes *changes, const struct output *out)
{
	int err = fault_at(FAULT_BEFORE_ENCODE);

	/* A new number while the last epoch has not ended: a caller's bug. */
	assert(!enc->open || enc->number == e->number);
	if (!err && !enc->open)
		err = put_begin(enc, out);
	if (!err)
		err = put_pages(enc, e, out);
	if (!err)
		err = put_changes(enc, changes, out);
	if (err || e->partial)
		return err;
	err = fault_at(FAULT_BEFORE_STATE);
	if (!err)
		err = put_state(enc, e, out);
	if (!err)
		err = fault_at(FAULT_BEFORE_EPOCH_END);
	return err ? err : put_end(enc, out);
}

int epoch_encode(struct epoch_encoder *enc, const struct epoch *e,
		 const struct epoch_peer *peer,
		 const struct epoch_changes *changes,
		 const struct frame_sink *sink, uint64_t *sent_bytes)
{
	const struct output out = { sink, e->number, sent_bytes };
	int err;

	meet(enc, peer);
	err = enc->broken ? -ECANCELED : encode(enc, e, changes, &out);
	if (err) {
		enc->broken = true;
		shadow_free(enc->shadow);
		enc->shadow = NULL;
	}
	return err;
}
