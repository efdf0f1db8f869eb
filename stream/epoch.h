/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An epoch on the primary: the arena that a capture fills while the guest is
 * stopped, and the encoding of it into frames afterwards.
 *
 * Everything a capture writes to is allocated and touched by epoch_new(), so
 * that nothing is allocated while the guest is suspended.  One thread at a
 * time uses an epoch: the guest thread to capture, then the encoder.
 */
#ifndef STREAM_EPOCH_H
#define STREAM_EPOCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream/frame.h"
#include "stream/pages.h"

/* How long each part of a capture took, in microseconds. */
struct epoch_times {
	uint64_t suspend_us; /* request to suspended: the guest still runs */
	uint64_t scan_us;    /* log-dirty bitmap */
	uint64_t copy_us;
	uint64_t state_us; /* CPU and device state */
	uint64_t resume_us;
	/* Parts of resume_us, see struct guest_phases. */
	uint64_t devices_us;
	uint64_t reset_us;
	uint64_t channels_us;
	uint64_t paused_us; /* suspended to resumed: scan..resume */
	uint64_t encode_us;
};

struct epoch {
	uint64_t number;
	bool partial; /* more dirty pages remain: another round must follow */
	size_t page_count;
	size_t page_capacity;
	uint64_t *gfns; /* page_capacity */
	uint8_t *pages; /* page_capacity * WIRE_PAGE_BYTES */
	size_t state_bytes;
	size_t state_capacity; /* WIRE_STATE_MAX or less */
	uint8_t *state;	       /* records, see stream/records.h */
	struct epoch_times times;
};

/* An arena for `page_capacity` pages, touched.  NULL: no memory. */
struct epoch *epoch_new(size_t page_capacity, size_t state_capacity);
void epoch_free(struct epoch *e);

/*
 * Where encoded frames go.  `get` returns a buffer with room for
 * WIRE_PAYLOAD_MAX bytes of payload and may block until one is free; NULL
 * means that the link is gone and encoding ends.  `put` sends it.
 */
struct frame_sink {
	struct frame_buf *(*get)(void *arg);
	void (*put)(void *arg, struct frame_buf *b);
	void *arg;
};

/* Carries an epoch's counters over its rounds (see `partial`). */
struct epoch_encoder;

/* `level` as in page_encoder_new().  NULL: no memory. */
struct epoch_encoder *epoch_encoder_new(int level);
void epoch_encoder_free(struct epoch_encoder *e);

/*
 * Encodes one captured round: EPOCH_BEGIN before the first round of an epoch
 * number, PAGES, and after the last round STATE and EPOCH_END.  *sent_bytes is
 * increased by the payload bytes put.  0, -ECANCELED where the sink had no
 * buffer, -ENOMEM.  After an error the encoder expects a new connection and
 * must be reset.
 */
int epoch_encode(struct epoch_encoder *enc, const struct epoch *e,
		 const struct frame_sink *sink, uint64_t *sent_bytes);
void epoch_encoder_reset(struct epoch_encoder *enc);

#endif
