/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An epoch on the primary: the arena that a capture fills, most of it while the
 * guest is stopped, and that is encoded afterwards (stream/epoch_encoder.h).
 *
 * Everything a capture writes to is allocated and touched beforehand, so
 * that nothing is allocated while the guest is suspended.  One thread at a
 * time uses an epoch: the guest thread to capture, then the encoder.
 */
#ifndef STREAM_EPOCH_H
#define STREAM_EPOCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream/format.h"

/* How long each part of a capture took, in microseconds. */
struct epoch_times {
	uint64_t ahead_us;   /* pages taken before the request */
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
	size_t again_count; /* of them, in an earlier round too */
	size_t page_capacity;
	uint64_t *gfns; /* page_capacity */
	/* page_capacity: each in `pages`, or where epoch_refer() was told. */
	const uint8_t **where;
	uint8_t *pages; /* page_capacity * WIRE_PAGE_BYTES */
	size_t state_bytes;
	size_t state_capacity; /* WIRE_STATE_MAX or less */
	uint8_t *state;	       /* records, see stream/records.h */
	uint32_t *index;       /* where the page of a gfn is, if it is there */
	uint64_t index_gfns;
	struct epoch_times times;
};

/* An arena for `page_capacity` pages, touched.  NULL: no memory. */
struct epoch *epoch_new(size_t page_capacity, size_t state_capacity);
void epoch_free(struct epoch *e);
/* So that a page of a gfn up to `max_gfn` can be put more than once.  -ENOMEM.
 */
int epoch_index(struct epoch *e, uint64_t max_gfn);

/* Empties it for the next capture. */
void epoch_clear(struct epoch *e);
/*
 * Copies a page in, with an index over an earlier version of it.  False: it is
 * full.
 */
bool epoch_put(struct epoch *e, uint64_t gfn, const uint8_t *page);
/*
 * As epoch_put(), but the page is read only when it is encoded.  Until then it
 * stays where it is, and may be written to: what is sent then is of no one
 * moment, and has to be followed by what it has become.
 */
bool epoch_refer(struct epoch *e, uint64_t gfn, const uint8_t *page);

#endif
