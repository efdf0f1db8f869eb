/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of a disk, in the form in which they are in a DISK payload, in the
 * ring of a served disk and in a journal: a header (struct wire_change) and,
 * where something is written, its data.
 */
#ifndef STREAM_CHANGES_H
#define STREAM_CHANGES_H

#include <stddef.h>
#include <stdint.h>

#include "stream/format.h"

enum {
	/* The most data of one change. */
	CHANGE_DATA_MAX = WIRE_CHANGE_MAX,
	CHANGE_HEADER_BYTES = 16,
	CHANGE_BYTES_MAX = CHANGE_HEADER_BYTES + CHANGE_DATA_MAX,
};

struct change {
	unsigned int disk; /* its place in the DISKS frame */
	enum wire_change_kind kind;
	uint64_t offset;
	uint32_t length;     /* of what changes; of a WRITE, of its data */
	const uint8_t *data; /* of a WRITE; NULL of others */
};

/* How many bytes it takes. */
size_t change_bytes(const struct change *c);
/* Appends it at `out`; returns how many bytes, or 0: `room` is too small. */
size_t change_put(const struct change *c, uint8_t *out, size_t room);

/* What a change may be: of which disks, and how large those are. */
struct change_bounds {
	const uint64_t *sizes; /* bytes */
	unsigned int disks;
};

/*
 * Reads the change at *at (of *left bytes) and moves both behind it.  c->data
 * points into them.  -EPROTO, with *why a constant text: no change, one of an
 * unknown disk or kind, of no bytes, or past the end of its disk.
 */
int change_take(const uint8_t **at, size_t *left, const struct change_bounds *b,
		struct change *c, const char **why);

#endif
