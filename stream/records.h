/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State records: type, length, body padded to 8, one after the other, as in
 * Xen's migration stream v2.  An epoch's records are built into one buffer,
 * cut into STATE frames without regard to record boundaries, and put together
 * again by the receiver.
 */
#ifndef STREAM_RECORDS_H
#define STREAM_RECORDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "stream/format.h"

/*
 * Appends a record to the cursor and returns where its `length` bytes of body
 * go (padding is zeroed); NULL and a bad cursor where there is no room.
 */
uint8_t *record_put(struct cursor *c, enum wire_record type, uint32_t length);

struct record {
	uint32_t type;
	uint32_t length;
	const uint8_t *body;
};

/*
 * Takes the next record.  1: *r is set; 0: the end; -EPROTO: truncated, or
 * padding that is not zero.  Unknown types are returned like known ones: the
 * caller skips those with bit 31 and refuses the others.
 */
int record_next(struct cursor *c, struct record *r);

#endif
