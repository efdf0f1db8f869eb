/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an epoch's arena to frames, against what the other side has already.
 * One thread at a time.
 */
#ifndef STREAM_EPOCH_ENCODER_H
#define STREAM_EPOCH_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "stream/epoch.h"
#include "stream/frame.h"
#include "stream/pages.h"

/*
 * Where encoded frames go.  `get` returns a buffer with room for
 * WIRE_PAYLOAD_MAX bytes of payload and may block until one is free; NULL
 * means that the link is gone and encoding ends.  `put` sends it, `unget` takes
 * back one that is not needed.  `behind`: whether frames wait that were put
 * before, so that time spent on making the next ones smaller is no loss.
 */
struct frame_sink {
	struct frame_buf *(*get)(void *arg);
	void (*put)(void *arg, struct frame_buf *b);
	void (*unget)(void *arg, struct frame_buf *b);
	bool (*behind)(void *arg);
	void *arg;
};

/* What the other side is, and knows. */
struct epoch_peer {
	/* Its connection: with another one, it knows nothing of before. */
	uint64_t connection;
	uint64_t max_gfn;
	uint64_t shadow_bytes; /* of what it knows, kept here; 0: no deltas */
	uint64_t shadow_room;  /* no more than this, as of now */
};

/*
 * The changes of the guest's disks that belong to a round, `next` after `next`:
 * fills `raw` with some (stream/changes.h); how many bytes, 0 where there are
 * no more, or an errno.
 */
struct epoch_changes {
	ssize_t (*next)(void *arg, uint8_t *raw, size_t room);
	void *arg;
};

/* Carries an epoch's counters over its rounds (see `partial`). */
struct epoch_encoder;

/* `level` as in page_encoder_new().  NULL: no memory. */
struct epoch_encoder *epoch_encoder_new(int level);
void epoch_encoder_free(struct epoch_encoder *e);

/*
 * Encodes one captured round: EPOCH_BEGIN before the first round of an epoch
 * number, PAGES, DISK where there are `changes` (may be NULL), and after the
 * last round STATE and EPOCH_END.  *sent_bytes is increased by the payload
 * bytes put.  0, -ECANCELED where the sink had no buffer, -ENOMEM, or what
 * `changes` say.  After an error nothing more can be encoded for this peer.
 */
int epoch_encode(struct epoch_encoder *enc, const struct epoch *e,
		 const struct epoch_peer *peer,
		 const struct epoch_changes *changes,
		 const struct frame_sink *sink, uint64_t *sent_bytes);

/* Of all that was encoded, and the memory of the shadow at the moment. */
const struct page_counts *epoch_encoder_counts(const struct epoch_encoder *enc);
size_t epoch_encoder_memory_bytes(const struct epoch_encoder *enc);

#endif
