/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a disk's meta share: meta.c, meta_state.c, marks.c.  The
 * file of a disk:
 *
 *	page 0	what it is; never changes
 *	page 1	the state, in two slots
 *	page 2	the current set, the change under way, which pieces are touched
 *	...	the two sets of marks, a bit for each block
 */
#ifndef RESUME_DISK_META_IMPL_H
#define RESUME_DISK_META_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "resume/disk/meta.h"

enum {
	META_PAGE_BYTES = 4096,
	META_SECTOR_BYTES = 512,
	META_SLOTS = 2,
	META_SLOT_WORDS = 6,
	META_SETS = 2,
	META_HOLDERS = 2,
	META_WORD_BITS = 64,
	/* A page of a set. */
	META_PIECE_WORDS = META_PAGE_BYTES / 8,
	META_PIECE_BITS = META_PIECE_WORDS * META_WORD_BITS,
	META_PIECES_MAX =
		(int)(DISK_SIZE_MAX / DISK_BLOCK_BYTES / META_PIECE_BITS),
	/* Bytes of the file that stand for locks, besides enum disk_holder. */
	META_LOCK_STATE = META_HOLDERS,
};

/* A sector: a host that loses power has written all of it, or nothing. */
union meta_slot {
	_Atomic uint64_t word[META_SLOT_WORDS];
	uint8_t room[META_SECTOR_BYTES];
};

struct meta_live {
	_Atomic uint32_t current;
	_Atomic uint32_t pending;
	_Atomic uint64_t pending_offset, pending_length;
	_Atomic uint64_t touched[META_SETS][META_PIECES_MAX / META_WORD_BITS];
};

struct disk_meta {
	int fd;
	size_t bytes;
	uint8_t *map;
	const struct meta_about *about;
	union meta_slot *slots;
	struct meta_live *live;
	_Atomic uint64_t *marks[META_SETS];
	uint64_t blocks, words;
	uint64_t boot[2];      /* which start of the host; 0, 0: not known */
	pthread_mutex_t mutex; /* who writes a state; before META_LOCK_STATE */
	atomic_bool held[META_HOLDERS];
};

/* --- meta.c --------------------------------------------------------------- */

/* As fcntl(2); F_OFD_GETLK: 1 where another has it.  -EBUSY: not to be had. */
int meta_lock(const struct disk_meta *m, int command, int byte, short type);

/* --- meta_state.c --------------------------------------------------------- */

/* Against what is half written, not against malice. */
uint64_t meta_sum(const uint64_t *word, size_t count);
void meta_read_boot(uint64_t boot[2]);
/* For a test of a host that is started anew: of metas opened from now on. */
void meta_read_boot_from(const char *path);
/* The state of a new disk. */
void meta_first_state(union meta_slot *slot);
/* False: the file is damaged. */
bool meta_has_state(const struct disk_meta *m);

#endif
