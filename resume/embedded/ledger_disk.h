/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account server's second copy of its chain, on a disk: each entry at its
 * index, struct ledger_entry after struct ledger_entry, and zeros behind.
 *
 * The happy path:
 *   - at a boot it asks for the disk's size and zeroes it;
 *   - then, and wherever its devices are new, all of it is read and compared,
 *     before anything else is executed or written;
 *   - what was executed since is written, all at once, and no reply leaves
 *     before the entries in front of it are on the disk;
 *   - now and then, a flush.
 * What must be there: the entries of each write that was answered.  What may
 * be: anything at those of the one write that was not.  Behind that nothing was
 * ever written: so a single byte there is from a moment that memory has not
 * seen. The first difference is remembered for good.
 *
 * A frontend of the disk's slot (memory.h), in the guest's memory.  vCPU 0.
 */
#ifndef RESUME_EMBEDDED_LEDGER_DISK_H
#define RESUME_EMBEDDED_LEDGER_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "resume/embedded/ledger.h"
#include "resume/embedded/memory.h"

enum {
	/* Writes between two flushes. */
	LEDGER_DISK_WRITES = 64,
	/* Behind what is known, as much is read. */
	LEDGER_DISK_BEHIND_BYTES = 4 << 20,
	LEDGER_DISK_ZERO_BYTES = 256 * 1024,
};

enum ledger_disk_phase {
	LEDGER_DISK_BOOT, /* zero, as the memory then is */
	LEDGER_DISK_FORMAT,
	LEDGER_DISK_CHECK,
	LEDGER_DISK_SERVE,
};

enum ledger_disk_question {
	LEDGER_DISK_NO_QUESTION,
	LEDGER_DISK_ASKED,
	LEDGER_DISK_KNOWN,
};

struct ledger_disk {
	uint32_t phase;
	uint32_t question;   /* a DISK, which has to be answered next */
	uint64_t connection; /* of who asks */
	uint64_t taken;	     /* answers of the slot */
	uint64_t capacity;   /* entries */
	uint64_t at;	     /* FORMAT: byte, CHECK: entry, that is next */
	uint64_t written;    /* entries that are on the disk */
	uint64_t writing;    /* more: up to here a write is not answered */
	uint64_t replies;    /* in front of that write */
	uint64_t put;	     /* replies, those that have to wait too */
	uint64_t safe;	     /* of these, what may leave */
	uint64_t writes;     /* since the last flush */
	uint64_t differs;    /* the first index that ever did, or 0 */
};

static inline struct ledger_disk *ledger_disk_of(uint8_t *memory)
{
	return (void *)(memory + EMBEDDED_DISK_STATE_PAGE * WIRE_PAGE_BYTES);
}

/*
 * Takes an answer where there is one and asks for what comes next.  `idle`:
 * nothing more can be executed now, so what was is to be written.  True where
 * it did something; *asked: the backend has, too.
 */
bool ledger_disk_turn(uint8_t *memory, uint64_t bytes, bool idle, bool *asked);
/* Whether requests may be executed. */
bool ledger_disk_serves(const struct ledger_disk *d);
/* A reply was put into its ring, after what `l` has executed so far. */
void ledger_disk_replied(struct ledger_disk *d, const struct ledger *l);
/* The answer to DISK, with its LF; returns the length. */
size_t ledger_disk_answer(const struct ledger_disk *d, const struct ledger *l,
			  char *reply, size_t room);
/* The devices are new. */
void ledger_disk_reconnect(uint8_t *memory);

#endif
