/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout of an embedded guest's memory: a header, the rings of its
 * connections, the slot of its disk, the workload's data.  This is the guest's
 * own business: colod copies pages and knows nothing of it.
 *
 * The rings have one producer and one consumer each; both count upwards, and
 * the counts modulo the slots are the places.  Frontend (a vCPU) and backend
 * check each other's counts, since memory may be of another moment than the
 * backend after a takeover.
 *
 * A disk has one request at a time.  One that was asked and not answered when
 * the memory was copied may or may not have been carried out: as in a domain,
 * its frontend asks again (return code 0).
 */
#ifndef RESUME_EMBEDDED_MEMORY_H
#define RESUME_EMBEDDED_MEMORY_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#include "stream/format.h"

#define EMBEDDED_MEMORY_MAGIC UINT64_C(0x5453455547444c43)

enum {
	EMBEDDED_LINE_MAX = 200,
	EMBEDDED_REPLY_MAX = 116,
	EMBEDDED_SLOTS = 256,
	EMBEDDED_REQUESTS_PAGE = 1,
	EMBEDDED_REPLIES_PAGE = 32,
	EMBEDDED_DISK_PAGE = 44,
	/* The frontend's own of the disk, and what is read. */
	EMBEDDED_DISK_STATE_PAGE = 45,
	EMBEDDED_DISK_BUFFER_PAGE = 46,
	EMBEDDED_DISK_BUFFER_BYTES = 16 * WIRE_PAGE_BYTES,
	EMBEDDED_DATA_PAGE = 64,
};

struct embedded_header {
	uint64_t magic;
	uint64_t bytes;
	uint32_t workload;
	uint32_t vcpus;
	uint64_t boots;
};

struct embedded_request {
	uint64_t connection;
	uint32_t length;
	char text[EMBEDDED_LINE_MAX + 4];
};

enum { EMBEDDED_REPLY_LAST = 1 }; /* of its request */

struct embedded_reply {
	uint64_t connection;
	uint16_t length;
	uint16_t flags;
	char text[EMBEDDED_REPLY_MAX];
};

struct embedded_requests {
	_Atomic uint64_t produced;
	_Atomic uint64_t consumed;
	struct embedded_request slot[EMBEDDED_SLOTS];
};

struct embedded_replies {
	_Atomic uint64_t produced;
	_Atomic uint64_t consumed;
	struct embedded_reply slot[EMBEDDED_SLOTS];
};

enum embedded_disk_kind {
	EMBEDDED_DISK_SIZE = 1, /* the answer is in `size` */
	EMBEDDED_DISK_READ,
	EMBEDDED_DISK_WRITE,
	EMBEDDED_DISK_ZERO,
	EMBEDDED_DISK_FLUSH,
};

struct embedded_disk_slot {
	_Atomic uint64_t asked;
	_Atomic uint64_t answered; /* as many are, or all but the last */
	uint32_t kind;
	uint32_t length;
	uint64_t offset; /* on the disk */
	uint64_t memory; /* where the bytes are, or go */
	uint64_t size;
};

static_assert(sizeof(struct embedded_requests) <=
		      (EMBEDDED_REPLIES_PAGE - EMBEDDED_REQUESTS_PAGE) *
			      WIRE_PAGE_BYTES,
	      "requests fit");
static_assert(sizeof(struct embedded_replies) <=
		      (EMBEDDED_DISK_PAGE - EMBEDDED_REPLIES_PAGE) *
			      WIRE_PAGE_BYTES,
	      "replies fit");
static_assert(EMBEDDED_DISK_BUFFER_PAGE * WIRE_PAGE_BYTES +
			      EMBEDDED_DISK_BUFFER_BYTES <=
		      EMBEDDED_DATA_PAGE * WIRE_PAGE_BYTES,
	      "the disk's buffer fits");

static inline struct embedded_requests *embedded_requests(uint8_t *memory)
{
	return (void *)(memory + EMBEDDED_REQUESTS_PAGE * WIRE_PAGE_BYTES);
}

static inline struct embedded_replies *embedded_replies(uint8_t *memory)
{
	return (void *)(memory + EMBEDDED_REPLIES_PAGE * WIRE_PAGE_BYTES);
}

static inline struct embedded_disk_slot *embedded_disk_slot(uint8_t *memory)
{
	return (void *)(memory + EMBEDDED_DISK_PAGE * WIRE_PAGE_BYTES);
}

/* How many are in a ring; more than there are slots is nonsense: none. */
static inline uint64_t embedded_in_ring(uint64_t produced, uint64_t consumed)
{
	uint64_t n = produced - consumed;

	return n > EMBEDDED_SLOTS ? 0 : n;
}

#endif
