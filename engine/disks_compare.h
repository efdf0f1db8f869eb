/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The comparison of a guest's disks with the peer's: a thread that asks for the
 * peer's hashes, sends the blocks that differ, and in between what the guest
 * changes meanwhile.
 *
 * A block that is read after a change was put into the ring may have that
 * change already; what is sent later than it in the stream is the change as a
 * whole, so both sides end the same, whatever was read torn.
 *
 * One for each synchronisation.
 */
#ifndef ENGINE_DISKS_COMPARE_H
#define ENGINE_DISKS_COMPARE_H

#include "engine/primary_disks.h"

/* Feeds and offer must outlive it.  -ENOMEM, -EAGAIN. */
int disks_compare_start(struct disk_feed *const *feeds,
			const struct disks *offer, const struct disks_link *l,
			struct disks_compare **out);
/* Any thread: it ends with -ECANCELED, unless it was at its end. */
void disks_compare_cancel(struct disks_compare *c);
/* Waits until all that differed is sent. */
int disks_compare_wait(struct disks_compare *c);
/* It ends when it has sent the changes up to `to`; waits for that. */
int disks_compare_finish(struct disks_compare *c, const struct disk_limits *to,
			 struct disks_sent *sent);
/* Ends the thread and frees it.  NULL is fine. */
void disks_compare_close(struct disks_compare *c);

/* As primary_disks_frame(). */
int disks_compare_frame(struct disks_compare *c, const struct frame *f,
			const char **why);

/* Any thread: the peer's turn, an answer of its is waited for. */
bool disks_compare_waits(struct disks_compare *c);

/* Any thread: bytes to be compared, done, and sent because they differed. */
struct disks_compared {
	uint64_t all_bytes;
	uint64_t done_bytes;
	uint64_t sent_bytes;
};
void disks_compare_seen(struct disks_compare *c, struct disks_compared *out);

#endif
