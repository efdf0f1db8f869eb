/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payloads of the frames about a domain's replicated disks, as
 * stream/messages.h; colod-stream(7) says in which order they come.
 */
#ifndef STREAM_DISK_MESSAGES_H
#define STREAM_DISK_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream/frame.h"

enum { DISK_OFFER_NAME_MAX = WIRE_DISK_NAME_MAX };

/* The primary's disks, in the order in which changes count them. */
struct disks {
	uint64_t new_base;  /* both sides' when they are the same; not 0 */
	uint64_t seed;	    /* of the hashes */
	unsigned int count; /* 1..WIRE_DISKS_MAX */
	struct disk_offer {
		char name[DISK_OFFER_NAME_MAX + 1];
		uint64_t size; /* bytes */
		uint64_t base; /* 0: none */
		bool alone;    /* its guest has run without the peer */
	} disk[WIRE_DISKS_MAX];
};

struct frame_buf *disks_encode(const struct disks *d);
/* Each name is good (as resume/disk/names.h has it), and none comes twice. */
int disks_decode(const struct frame *f, struct disks *d, const char **why);

/* The secondary has taken them; its marks came before. */
struct disks_taken {
	unsigned int count;
	uint32_t marks; /* DISK_MARKS that came */
	/* It has the same base: only what is marked on a side can differ. */
	bool same_base[WIRE_DISKS_MAX];
};

struct frame_buf *disks_taken_encode(const struct disks_taken *t);
int disks_taken_decode(const struct frame *f, struct disks_taken *t,
		       const char **why);

/* Some of the blocks first .. first + count - 1: DISK_MARKS and DISK_ASK. */
struct disk_blocks {
	unsigned int disk;
	uint64_t first;
	unsigned int count;			  /* 1..WIRE_DISK_BLOCKS_MAX */
	uint64_t bits[WIRE_DISK_BLOCKS_MAX / 64]; /* bit i: block first + i */
};

/* `type`: WIRE_DISK_MARKS or WIRE_DISK_ASK.  `first` is a multiple of 64. */
struct frame_buf *disk_blocks_encode(enum wire_type type,
				     const struct disk_blocks *b);
/* Bits past `count` are zero, and there is at least one that is set. */
int disk_blocks_decode(const struct frame *f, struct disk_blocks *b,
		       const char **why);

/* The answer to a DISK_ASK: a hash for each bit that was set, in order. */
struct disk_hashes {
	unsigned int disk;
	uint64_t first;
	unsigned int count; /* hashes, 1..WIRE_DISK_BLOCKS_MAX */
	uint8_t hash[WIRE_DISK_BLOCKS_MAX][WIRE_DISK_HASH_BYTES];
};

struct frame_buf *disk_hashes_encode(const struct disk_hashes *h);
int disk_hashes_decode(const struct frame *f, struct disk_hashes *h,
		       const char **why);

#endif
